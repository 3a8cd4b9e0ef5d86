"""Training in several processes that torchrun starts, each on a device of its own or on the CPU.

PyTorch does the work: DistributedDataParallel gives each process a whole model and adds up the
gradients (Li et al. 2020), ``fully_shard`` gives each a part of every tensor (Zhao et al. 2023).
A process is called a rank, by its number.
"""

import contextlib
import functools
import os
import secrets
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from course_pkg.data import Batch
from course_pkg.devices import choose_device
from course_pkg.gpt import GPT
from course_pkg.training import Result, Trainer, count_targets, read_content, shards_folder

_FULL = StateDictOptions(full_state_dict=True, cpu_offload=True)

Value = TypeVar("Value")


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: its number; 0 is the one that prints and writes.
        size: how many there are.
        device: where this one computes.
    """

    rank: int
    size: int
    device: torch.device

    def __str__(self) -> str:
        return f"{self.size} x {self.device.type}"

    def first(self, work: Callable[[], Value]) -> Value:
        """What ``work()`` gives on rank 0, on all; they wait for each other before and after.

        An exception of rank 0 is raised on all.
        """
        dist.barrier()
        outcome: list[Any] = [None, None]
        if self.rank == 0:
            try:
                outcome[0] = work()
            except Exception as raised:
                outcome[1] = raised
        dist.broadcast_object_list(outcome, src=0)
        value, error = outcome
        if error is not None:
            raise error
        return value

    def rows(self, batch: Batch) -> Batch:
        """This rank's rows of a batch: (B, T) -> (B / size, T), the first ranks one more."""
        inputs, targets = (part.tensor_split(self.size)[self.rank] for part in batch)
        return inputs, targets

    def sum(self, values: Sequence[int | float]) -> list[float]:
        """The sums over all ranks."""
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()


def job() -> str | None:
    """What stays the same when torchrun starts its processes again; None without torchrun."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    # The name of all jobs that got none: what lasts is then torchrun's own process.
    return f"none-{os.getppid()}" if name == "none" else name


@contextlib.contextmanager
def joined(device: str = "auto") -> Iterator[Ranks]:
    """Meet the other processes that torchrun started, and part from them at the end.

    Inside, only rank 0 has a standard output. When a rank fails, it says why and ends, and the
    others end without a word, since theirs would only be that it is gone.

    Args:
        device: as for ``choose_device``; of several CUDA devices each rank gets its own.

    Raises:
        ValueError: there is no such device, or there are fewer CUDA devices than processes.
        ConnectionError: another process was killed.
    """
    if os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"]:
        # All on this machine: whatever its name resolves to does not matter, nor any network.
        loopback = "lo0" if sys.platform == "darwin" else "lo"
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    store, rank, size = next(dist.rendezvous("env://"))
    # The agent's store may outlive an attempt.
    store = dist.PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    try:
        chosen = _device(device, int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
        group = dist.PrefixStore("group", store)
        dist.init_process_group(backend, store=group, rank=rank, world_size=size)
        with contextlib.ExitStack() as stack:
            if rank != 0:
                nowhere = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            yield Ranks(rank, size, chosen)
            dist.destroy_process_group()
    except Exception as error:
        if store.compare_set("first error", "", str(rank)) != str(rank).encode():
            raise SystemExit(1) from error
        if _is_of_the_connection(error):
            raise ConnectionError(
                "another process of this run has ended. The run goes on from its last checkpoint "
                "with --resume, and by itself under torchrun --max-restarts."
            ) from error
        raise


def _device(name: str, local_rank: int) -> torch.device:
    device = choose_device(name)
    if device.type == "mps" and name == "auto":
        return torch.device("cpu")
    if device.type == "mps":
        raise ValueError("device='mps' is not allowed: only one process can use it.")
    if device.type == "cpu":
        return device
    if local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"device={name!r}: {torch.cuda.device_count()} CUDA devices are too few for "
            f"{os.environ['LOCAL_WORLD_SIZE']} processes."
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


def _is_of_the_connection(error: Exception) -> bool:
    # Gloo has no exception of its own.
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


class ParallelTrainer(Trainer):
    """A ``Trainer`` whose batches are shared by all ranks. The losses are those of one process.

    Every rank draws the whole batch from the same generator and takes its rows, so a run goes on
    with another number of ranks, or with a plain ``Trainer``, from the same checkpoint. Dropout
    draws from the run's random state and the rank's number: it differs between ranks and repeats
    with the same number of them.

    Rank 0 calls ``on_log`` and writes. A SIGINT or SIGTERM that reaches any rank ends the run on
    all of them after the same step, and it is saved once.

    Args:
        ranks: this process among the others; see ``joined``.
        model: the whole model, the same on every rank.
        args, options: as for ``Trainer``.

    Raises:
        ValueError: as ``Trainer``; a batch has fewer rows than there are ranks; or the model is to
            be both compiled and sharded.
    """

    def __init__(self, ranks: Ranks, model: GPT, *args: Any, **options: Any) -> None:
        self.ranks = ranks
        self._asked_to_stop = threading.Event()  # this rank, which the others do not know yet
        super().__init__(model, *args, **options)

    @property
    def _is_sharded(self) -> bool:
        return self.config.parallel == "fsdp"

    def _wrap(self) -> None:
        config, size = self.config, self.ranks.size
        if config.batch_size < size:
            raise ValueError(
                f"batch_size={config.batch_size} is not allowed: each of {size} processes needs a "
                "row."
            )
        if self._is_sharded and config.compile:
            raise ValueError("compile=True is not allowed with parallel='fsdp'.")
        if self._is_sharded:
            mesh = dist.device_mesh.init_device_mesh(self.ranks.device.type, (size,))
            for block in self.model.blocks:
                fully_shard(block, mesh=mesh)
            fully_shard(self.loss, mesh=mesh)

    def _get_ready(self) -> None:
        if self._is_ready:
            return
        super()._get_ready()
        if not self._is_sharded:
            self._forward = DistributedDataParallel(self._forward, gradient_as_bucket_view=True)

    def _bfloat16_is_faster(self) -> bool:
        return self.ranks.first(super()._bfloat16_is_faster)

    def accumulate(self, micro_batches: Sequence[Batch]) -> tuple[float, int]:
        """As ``Trainer.accumulate``; the gradients are added up over the ranks at the last one."""
        num_targets = count_targets(micro_batches)
        loss = 0.0
        for number, batch in enumerate(micro_batches, start=1):
            with self._synchronised(number == len(micro_batches)):
                # Both engines take the mean over the ranks, and the sum is wanted.
                part = self._backward(self.ranks.rows(batch), num_targets / self.ranks.size)
            loss += part.item() / self.ranks.size
        return self.ranks.sum([loss])[0], num_targets

    @contextlib.contextmanager
    def _synchronised(self, last: bool) -> Iterator[None]:
        if isinstance(self._forward, DistributedDataParallel):
            with contextlib.nullcontext() if last else self._forward.no_sync():
                yield
            return
        sharded = cast(FSDPModule, self.loss)
        sharded.set_requires_gradient_sync(last)
        sharded.set_is_last_backward(last)
        yield

    def clip(self, max_norm: float) -> float:
        """As ``Trainer.clip``: the norm is that of the whole gradient, wherever its parts are."""
        if not self._is_sharded:
            return super().clip(max_norm)
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), max_norm)
        return norm.full_tensor().item()  # type: ignore[attr-defined]

    def mean_loss(self, batches: Sequence[Batch]) -> float:
        """As ``Trainer.mean_loss``; each rank looks at its rows of every batch."""
        sums = []
        for batch in batches:
            inputs, targets = (part.to(self._device) for part in self.ranks.rows(batch))
            sums.append(self.loss(inputs, targets).item())
        losses = zip(self.ranks.sum(sums), batches, strict=True)
        return sum(loss / count_targets([batch]) for loss, batch in losses) / len(batches)

    def _with_dropout(
        self, state: Mapping[str, Tensor], work: Callable[[], Result]
    ) -> tuple[Result, dict[str, Tensor]]:
        seed, after = super()._with_dropout(state, lambda: int(torch.randint(2**62, ())))

        def of_this_rank() -> Result:
            torch.manual_seed(seed + self.ranks.rank)
            return work()

        return super()._with_dropout(state, of_this_rank)[0], after

    @contextlib.contextmanager
    def _deferred_interrupt(self, interrupted: threading.Event) -> Iterator[None]:
        # A second signal does not stop at once: torchrun hands on the one that the terminal has
        # already sent to all, and ends who does not listen.
        self._asked_to_stop.clear()
        previous = {}
        if threading.current_thread() is threading.main_thread():
            for kind in (signal.SIGINT, signal.SIGTERM):
                previous[kind] = signal.signal(kind, lambda *_: self._asked_to_stop.set())
        try:
            yield
        finally:
            for kind, handler in previous.items():
                signal.signal(kind, handler)

    def _is_interrupted(self, interrupted: threading.Event) -> bool:
        if self.ranks.sum([self._asked_to_stop.is_set()])[0]:
            interrupted.set()
        return interrupted.is_set()

    def _tell(self, record: Any) -> None:
        if self.ranks.rank != 0:
            return
        try:
            super()._tell(record)
        except KeyboardInterrupt:  # the others are on their way to the next step: agree first
            self._asked_to_stop.set()

    def _claim_out_dir(self, out_dir: Path) -> None:
        self.ranks.first(functools.partial(super()._claim_out_dir, out_dir))

    def save(self, path: str | os.PathLike[str]) -> None:
        """As ``Trainer.save``, on all ranks together.

        Of a sharded model each rank writes its part, in PyTorch's distributed checkpoint format,
        to a new folder beside the file. The file names the folder, so that replacing it replaces
        both at once.
        """
        if not self._is_sharded:
            self.ranks.first(functools.partial(super().save, path))
            return
        token = self.ranks.first(lambda: secrets.token_hex(4))
        folder = shards_folder(path, token)
        content = self._content() | {"shards": token, "model": {}}
        content["optimizer"] |= {"state": {}, "names": self._parameter_names()}
        try:
            self._write_shards(folder)
            self.ranks.first(functools.partial(self._write, path, content))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _parameter_names(self) -> list[str]:
        """Of the optimizer's parameters, in the order of their numbers."""
        names = {id(p): name for name, p in self.model.named_parameters()}
        return [names[id(p)] for group in self.optimizer.param_groups for p in group["params"]]

    def _write_shards(self, folder: Path) -> None:
        state: dict[str, Any] = {"model": get_model_state_dict(self.model)}
        if self.optimizer.state:  # before the first step PyTorch would make one up
            optimizer = get_optimizer_state_dict(self.model, self.optimizer)
            state["optimizer"] = optimizer["state"]
        try:
            dcp.save(state, storage_writer=dcp.FileSystemWriter(folder))
        except CheckpointException as error:
            causes = {str(cause) for cause, _ in error.failures.values()}
            reason = f"the checkpoint cannot be saved: {'; '.join(sorted(causes))}"
            raise OSError(None, reason, str(folder)) from error

    def _read(self, path: Path) -> dict[str, Any]:
        content = read_content(path)
        sharded = self._is_sharded and content["shards"] is not None
        return content if sharded else super()._read(path)

    def _restore(self, path: Path, content: Mapping[str, Any]) -> None:
        if not self._is_sharded:
            super()._restore(path, content)
            return
        names = self._parameter_names()
        groups = [
            group | {"params": [names[i] for i in group["params"]]}
            for group in self._as_here(content["optimizer"])["param_groups"]
        ]
        if content["shards"] is None:
            set_model_state_dict(self.model, content["model"], options=_FULL)
            state = {names[i]: of_it for i, of_it in content["optimizer"]["state"].items()}
            options = _FULL
        else:
            folder, options = shards_folder(path, content["shards"]), StateDictOptions()
            wanted: dict[str, Any] = {"model": get_model_state_dict(self.model)}
            if content["step"]:
                wanted["optimizer"] = get_optimizer_state_dict(self.model, self.optimizer)["state"]
            dcp.load(wanted, storage_reader=dcp.FileSystemReader(folder))
            set_model_state_dict(self.model, wanted["model"], options=options)
            state = wanted.get("optimizer", {})
        if state:
            whole: dict[str, Any] = {"state": state, "param_groups": groups}
            set_optimizer_state_dict(self.model, self.optimizer, whole, options=options)

    def whole_model(self) -> GPT:
        """As ``Trainer.whole_model``: what rank 0 gets is whole. All ranks call it."""
        if not self._is_sharded:
            return super().whole_model()
        state = get_model_state_dict(self.model, options=_FULL)
        if self.ranks.rank != 0:
            return self.model
        with torch.random.fork_rng([]):
            model = GPT(self.model.config)
        model.load_state_dict(state)
        return model
