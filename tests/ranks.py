"""What the ranks of ``test_distributed`` do: ``torchrun ... ranks.py FOLDER``.

Every run of ``RUNS`` leaves its history and its weights in the folder; of the odd cases each rank
leaves what it saw.
"""

import dataclasses
import errno
import json
import math
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch

from course_pkg import files
from course_pkg.config import GPTConfig, TrainingConfig
from course_pkg.gpt import GPT
from course_pkg.training import StepRecord, Trainer

# Without a bias of the keys: it changes no attention weight, so its gradient is noise, and AdamW
# makes large steps of it.
MODEL = GPTConfig(
    vocab_size=31,
    context_length=8,
    d_model=16,
    num_heads=2,
    num_layers=2,
    dropout=0.0,
    qkv_bias=False,
)
RECIPE = TrainingConfig(
    max_steps=50,
    batch_size=5,  # not the same number of rows for each of two ranks
    learning_rate=1e-2,
    min_lr=1e-3,
    warmup_steps=5,
    grad_clip=0.5,
    eval_every=20,
    eval_batches=3,
    log_every=1,
    checkpoint_every=10,
)
SHORT = {"max_steps": 8, "warmup_steps": 2, "eval_every": 8, "accumulation_steps": 2}
RUNS: dict[str, dict[str, Any]] = {
    "ddp": {},
    "ddp, accumulated": {"accumulation_steps": 2},
    "fsdp": {"parallel": "fsdp"},
    "fsdp, accumulated": {"accumulation_steps": 2, "parallel": "fsdp"},
    "ddp, in chunks": {**SHORT, "loss_rows": 7},
    "fsdp, in chunks": {**SHORT, "loss_rows": 7, "fused": True, "parallel": "fsdp"},
    "ddp, bfloat16": {**SHORT, "precision": "bfloat16"},
    "fsdp, bfloat16": {**SHORT, "precision": "bfloat16", "parallel": "fsdp"},
}
STOP = 23  # where the runs that are resumed were stopped


def recipe(**changes: Any) -> TrainingConfig:
    return dataclasses.replace(RECIPE, **changes)


def model(seed: int = 0, **changes: Any) -> GPT:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return GPT(dataclasses.replace(MODEL, **changes))


def ids(count: int, seed: int) -> torch.Tensor:
    return torch.randint(MODEL.vocab_size, (count,), generator=torch.Generator().manual_seed(seed))


SPLITS = ids(400, 1), ids(90, 2)


def quiet(record: Any) -> None:
    pass


def leave(folder: Path, name: str, trainer: Trainer) -> None:
    whole = trainer.whole_model()
    if getattr(trainer, "ranks", None) is None or trainer.ranks.rank == 0:
        content = {"history": trainer.history.to_dict(), "model": whole.state_dict()}
        torch.save(content, folder / f"{name}.pt")


def main(folder: Path) -> None:
    from course_pkg.distributed import ParallelTrainer, Ranks, joined

    def trainer(ranks: Ranks, config: TrainingConfig, out: str | None = None, **options: Any):
        made = options.pop("model", None) or model()
        place = None if out is None else folder / out
        return ParallelTrainer(ranks, made, *SPLITS, config, place, **{"on_log": quiet, **options})

    def stopped(ranks: Ranks, out: str, **changes: Any) -> None:
        """A run that a signal to the last rank ended after ``STOP`` steps."""

        class Stopped(ParallelTrainer):
            def step(self) -> dict[str, Any]:
                row = super().step()
                if self.step_number == STOP and self.ranks.rank == self.ranks.size - 1:
                    signal.raise_signal(signal.SIGTERM)
                return row

        messages: list[str] = []
        run = Stopped(ranks, model(), *SPLITS, recipe(**changes), folder / out)
        run.on_log = lambda record: messages.append(str(record))
        run.train()
        assert run.step_number == STOP
        note(ranks, out, "\n".join(messages))

    def note(ranks: Ranks, name: str, text: str) -> None:
        (folder / f"{name}.{ranks.rank}.txt").write_text(text, encoding="utf-8")

    with joined("cpu") as ranks:
        for name, changes in RUNS.items():
            run = trainer(ranks, recipe(**changes))
            run.train()
            leave(folder, name, run)

        for parallel in ("ddp", "fsdp"):
            stopped(ranks, f"stopped {parallel}", parallel=parallel)
        for earlier, later in (("ddp", "fsdp"), ("fsdp", "ddp"), ("fsdp", "fsdp")):
            out = f"{earlier} then {later}"
            stopped(ranks, out, parallel=earlier)
            run = trainer(ranks, recipe(parallel=later), out, model=model(seed=9))
            run.load(run.checkpoint_path)
            run.train()
            leave(folder, out, run)
        # By other ranks than began it: one process alone left it.
        run = trainer(ranks, recipe(), "alone then ddp", model=model(seed=9))
        run.load(run.checkpoint_path)
        run.train()
        leave(folder, "alone then ddp", run)

        for name in ("dropout", "dropout again"):
            run = trainer(ranks, recipe(**SHORT), model=model(dropout=0.3))
            run.train()
            leave(folder, name, run)
        drawn, _ = run._with_dropout(run._random_state, lambda: torch.rand(3).tolist())
        note(ranks, "drawn", json.dumps(drawn))

        for name, changes in (("few rows", {"batch_size": 1}), ("both", {"compile": True})):
            try:
                trainer(ranks, recipe(parallel="fsdp", **changes))
            except ValueError as error:
                note(ranks, name, str(error))

        run = trainer(ranks, recipe())
        run.step()
        if ranks.rank == 1:  # of one rank's rows only
            run.model.final_norm.shift.register_hook(lambda gradient: gradient * math.nan)
        try:
            run.train()
        except FloatingPointError as error:
            note(ranks, "not finite", str(error))

        for parallel in ("ddp", "fsdp"):
            run = trainer(ranks, recipe(parallel=parallel), f"full disk {parallel}")
            real = os.fdopen

            def full(*args: Any, real: Any = real, **options: Any) -> Any:
                real(*args, **options).close()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            if ranks.rank == 0:
                run.on_log = lambda record: (
                    setattr(files.os, "fdopen", full)
                    if isinstance(record, StepRecord) and record.step == 15
                    else None
                )
            try:
                run.train()
            except OSError as error:
                note(ranks, f"full disk {parallel}", str(error))
            files.os.fdopen = real


if __name__ == "__main__":
    main(Path(sys.argv[1]))
