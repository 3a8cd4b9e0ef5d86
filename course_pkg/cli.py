"""The command line: ``course train``, ``generate``, ``tokenize``, ``encode``, ``info``.

The commands of those who do the exercises are in ``learning``, the instructors' in ``teaching``.

What can go wrong because of what was typed or because of the disk is one line on stderr and exit
code 2. PyTorch is imported inside the commands, so that ``course --help`` is quick.
"""

import ast
import codecs
import contextlib
import dataclasses
import functools
import importlib.util
import io
import json
import os
import platform
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from course_pkg import __version__, files, learning, teaching
from course_pkg.config import PRESETS, GPTConfig, TrainingConfig
from course_pkg.devices import DEVICES, choose_device
from course_pkg.errors import unknown_name
from course_pkg.files import atomic_write, packaged_models

if TYPE_CHECKING:
    import torch

    from course_pkg.checks.mine import Mine
    from course_pkg.data import Corpus
    from course_pkg.distributed import Ranks
    from course_pkg.gpt import GPT
    from course_pkg.tokenizer import BPETokenizer
    from course_pkg.training import History, Trainer

Value = TypeVar("Value")

DEFAULT_PRESET = "story-3min"
LEARNERS_PRESET = "story-1m"  # trained as chapter 6 does it, with AdamW
DEFAULT_CORPUS = "stories"
VALIDATION_FRACTION = 0.1
CORPORA = {
    "stories": "simple English stories for children, part of this package",
    "shakespeare": "Tiny Shakespeare, 1,115,394 bytes, fetched on first use",
}
# The names under which --tokenizer finds a tokenizer that is not in a file of the user's.
TOKENIZERS = ("gpt2", "stories")

_RUN_FILE = "run.json"
_RESULTS = ("config.json", "model.safetensors", "history.json", "sample.txt")
_SAMPLE_TOKENS = 200
_SAMPLE_TEMPERATURE = 0.8


class _Refused(click.ClickException):
    """One line on stderr, exit code 2."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        click.echo(f"course: error: {self.format_message()}", err=True)


class _Course(click.Group):
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # `course ... | head`: click ends quietly
            raise
        except KeyboardInterrupt:  # where no command says more
            click.echo("stopped", err=True)
            raise click.exceptions.Exit(130) from None
        except (OSError, ValueError, FloatingPointError) as error:
            if ctx.params["debug"]:
                raise
            raise _Refused(_one_line(error)) from error


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


def main() -> None:
    """The console script."""
    _run_group(None)


def main_train() -> None:
    """``course train`` as a program of its own, which torchrun can start."""
    _run_group(["train", *sys.argv[1:]])


def _run_group(arguments: list[str] | None) -> None:
    for stream in (sys.stdout, sys.stderr):
        # A terminal in an old encoding shows a question mark instead of stopping the story.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    # PyTorch's threads wait by going in circles. Beside any other work on the machine that makes
    # a small model ten times slower, and each of its many small steps waits for the slowest.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    course(arguments, prog_name="course")


@click.group(cls=_Course, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(__version__)
def course(debug: bool) -> None:
    """GPT, Piece by Piece: train a small GPT and let it write."""


# course train


@course.command()
@click.option("--out", required=True, metavar="FOLDER", help="Where the run is kept.")
@click.option(
    "--preset",
    metavar="NAME",
    help=f"Shape and recipe. [default: {DEFAULT_PRESET}; with --mine {LEARNERS_PRESET}]",
)
@click.option(
    "--corpus",
    metavar="NAME|PATH",
    help=f"{', '.join(CORPORA)}, a .txt file or a folder of them. [default: {DEFAULT_CORPUS}]",
)
@click.option(
    "--tokenizer",
    metavar="FILE|RUN|NAME",
    help="Use this tokenizer instead of training one on the corpus.",
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option(
    "--mine", metavar="FOLDER", help="Use your own pieces: those of your exercises that pass."
)
@click.option("--device", default="auto", help=", ".join(DEVICES), show_default=True)
@click.option("--seed", type=int, help="Of the weights, the batches and dropout.")
@click.option("--max-steps", type=int, help="Also shortens the warm-up to a tenth, if longer.")
@click.option("--batch-size", type=int, help="Windows in one forward pass.")
@click.option("--learning-rate", type=float, help="The peak; the final rate moves along.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any field of the configuration: --set model.num_layers=2 --set training.grad_clip=None",
)
def train(
    out: str,
    preset: str | None,
    corpus: str | None,
    tokenizer: str | None,
    resume: bool,
    mine: str | None,
    device: str,
    seed: int | None,
    max_steps: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    settings: tuple[str, ...],
) -> None:
    """Train a GPT and keep it in a folder.

    The folder gets the checkpoint to go on from, the tokenizer, the configuration, the weights,
    the history with its loss curve, and a sample. Ctrl-C saves and stops.

    With --mine the GPT is built, trained and sampled out of your answers to the exercises, and
    ours stand where yours fail or are missing. It then runs on the CPU unless --device says more.

    In several processes: torchrun --standalone --nproc-per-node 2 -m course_pkg.train --out FOLDER
    and the same options. When torchrun restarts them (--max-restarts), they resume by themselves.
    """
    with _ranks(device, mine) as ranks:
        overrides = _parse_settings(settings)
        shortcuts = {
            "seed": seed,
            "max_steps": max_steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
        }
        given = {name: value for name, value in shortcuts.items() if value is not None}
        overrides["training"] = given | overrides["training"]
        folder = Path(out)
        begun = ranks is not None and ranks.first(functools.partial(_begun, folder))
        if begun == "checkpoint":
            _resume(ranks, folder, None, None, None, None, device, _parse_settings(()))
        elif resume:
            _resume(ranks, folder, preset, corpus, tokenizer, mine, device, overrides)
        else:
            _start(
                ranks,
                folder,
                preset or (DEFAULT_PRESET if mine is None else LEARNERS_PRESET),
                corpus or DEFAULT_CORPUS,
                tokenizer,
                mine,
                device,
                overrides,
                begun=bool(begun),
            )


@contextlib.contextmanager
def _ranks(device: str, mine: str | None) -> Iterator["Ranks | None"]:
    """All processes of the run, where torchrun started this one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield None
        return
    from course_pkg import distributed

    with distributed.joined(device) as ranks:
        if mine is not None:
            raise ValueError("--mine trains in one process: start it with `course train`.")
        yield ranks


def _first(ranks: "Ranks | None", work: Callable[[], Value]) -> Value:
    """What the work gives, done by one process for all."""
    return work() if ranks is None else ranks.first(work)


def _begun(folder: Path) -> str | None:
    """What there is of this very run when torchrun starts its processes again."""
    from course_pkg.distributed import job
    from course_pkg.training import CHECKPOINT_NAME

    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" or not (folder / _RUN_FILE).exists():
        return None
    if _read_run(folder).get("job") != job():
        return None
    return "checkpoint" if (folder / CHECKPOINT_NAME).exists() else "folder"


def _note_job(ranks: "Ranks | None", run: dict[str, Any]) -> None:
    run.pop("job", None)
    if ranks is not None:
        from course_pkg.distributed import job

        run["job"] = job()


def _parse_settings(settings: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """``("model.num_layers=2",)`` -> ``{"model": {"num_layers": 2}, "training": {}}``."""
    names = {"model": dataclasses.fields(GPTConfig), "training": dataclasses.fields(TrainingConfig)}
    fields = [f"{part}.{field.name}" for part in names for field in names[part]]
    parsed: dict[str, dict[str, Any]] = {part: {} for part in names}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ValueError(f"--set {setting}: write it as KEY=VALUE.")
        if key not in fields:
            raise unknown_name("--set", key, fields)
        part, _, name = key.partition(".")
        try:
            parsed[part][name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parsed[part][name] = value  # the configuration says what it wants instead
    return parsed


def _start(
    ranks: "Ranks | None",
    folder: Path,
    preset: str,
    corpus_name: str,
    tokenizer_name: str | None,
    mine_folder: str | None,
    device: str,
    overrides: dict[str, dict[str, Any]],
    begun: bool,
) -> None:
    model_config = GPTConfig.preset(preset, **overrides["model"])
    training_config = TrainingConfig.preset(preset, **_adapted(preset, overrides["training"]))
    if not begun:
        _first(ranks, functools.partial(_require_free, folder))
    from course_pkg.data import load_corpus
    from course_pkg.gpt import GPT

    chosen_device = _device(device, mine_folder) if ranks is None else ranks.device
    corpus = load_corpus(corpus_name)
    training, validation = corpus.split(VALIDATION_FRACTION)
    mine = _load_mine(mine_folder)
    if tokenizer_name is None:
        tokenizer = _first(ranks, lambda: _train_tokenizer(training, model_config.vocab_size, mine))
    else:
        tokenizer = _load_tokenizer(tokenizer_name)
        if mine is not None:
            tokenizer = mine.given_tokenizer(tokenizer)
    # A small corpus may give fewer tokens than asked for, a given tokenizer any number.
    values = model_config.to_dict() | {"vocab_size": tokenizer.vocab_size}
    model_config = GPTConfig.from_dict(values)
    import torch

    with torch.random.fork_rng([]):
        torch.manual_seed(training_config.seed)
        model = GPT(model_config) if mine is None else mine.model(model_config)
    model.to(chosen_device)
    run: dict[str, Any] = {"preset": preset, "corpus": _lasting_name(corpus_name)}
    _note_job(ranks, run)
    _tell_pieces(mine, run, 0)
    parts = (training, validation, training_config, folder, mine)
    trainer = _trainer(ranks, model, tokenizer, *parts)

    def write() -> None:
        _write_json(folder / _RUN_FILE, run)
        tokenizer.save(folder / "tokenizer.json")

    with _writing(folder), _undone_without_checkpoint(ranks, folder):
        _first(ranks, write)
        _run(ranks, trainer, tokenizer, folder, mine)


def _require_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(
            f"{folder} exists: add --resume to go on with the run in it, or choose another --out."
        )


def _load_mine(folder: str | None) -> "Mine | None":
    """The pieces of the learner that pass."""
    if folder is None:
        return None
    from course_pkg.checks import mine

    paths = learning.notebooks_in(Path(folder))
    return mine.load(paths, on_notebook=lambda path: click.echo(f"running {path}"))


def _tell_pieces(mine: "Mine | None", run: dict[str, Any], step: int) -> None:
    """Print which pieces are whose, and note it in what is known of the run."""
    if mine is None:
        return
    from course_pkg.checks.mine import show

    click.echo()
    for line in show(mine.whose()):
        theirs = line.endswith("yours") or "  yours, " in line
        color = "green" if theirs else "red" if line.endswith("(failing)") else None
        click.secho(line, fg=color, dim=line.endswith("(not started)"))
    click.echo()
    run.setdefault("pieces", []).append({"from_step": step, **mine.whose()})


def _adapted(preset: str, given: dict[str, Any]) -> dict[str, Any]:
    """What was given, and what follows from it unless it was given too."""
    recipe = PRESETS[preset].training
    adapted: dict[str, Any] = {}
    if isinstance(given.get("max_steps"), int):
        adapted["warmup_steps"] = min(recipe.warmup_steps, max(0, given["max_steps"] // 10))
    if isinstance(given.get("learning_rate"), (int, float)):
        adapted["min_lr"] = given["learning_rate"] * recipe.min_lr / recipe.learning_rate
    return adapted | given


def _resume(
    ranks: "Ranks | None",
    folder: Path,
    preset: str | None,
    corpus_name: str | None,
    tokenizer_name: str | None,
    mine_folder: str | None,
    device: str,
    overrides: dict[str, dict[str, Any]],
) -> None:
    from course_pkg.data import load_corpus
    from course_pkg.gpt import GPT
    from course_pkg.tokenizer import BPETokenizer
    from course_pkg.training import CHECKPOINT_NAME, read_content

    checkpoint = read_content(folder / CHECKPOINT_NAME)
    run = _read_run(folder)
    _note_job(ranks, run)
    asked = {
        "preset": preset,
        "corpus": None if corpus_name is None else _lasting_name(corpus_name),
    }
    for name, value in asked.items():
        if value is not None and value != run[name]:
            raise ValueError(f"--{name}={value}: the run in {folder} has {name} {run[name]}.")
    if tokenizer_name is not None:
        raise ValueError(f"--tokenizer={tokenizer_name}: the run in {folder} has its own.")
    if ("pieces" in run) != (mine_folder is not None):
        given = "give it your folder again" if "pieces" in run else "it was started without"
        raise ValueError(f"--mine and the run in {folder} do not go together: {given}.")
    model_config = GPTConfig.from_dict(checkpoint["model_config"] | overrides["model"])
    training_config = TrainingConfig.from_dict(
        checkpoint["training_config"] | overrides["training"]
    )
    if checkpoint["step"] >= training_config.max_steps:
        click.echo(f"{folder} is finished: all {training_config.max_steps:,} steps are done.")
        if all((folder / name).exists() for name in _RESULTS):
            return
    chosen_device = _device(device, mine_folder) if ranks is None else ranks.device
    training, validation = load_corpus(run["corpus"]).split(VALIDATION_FRACTION)
    tokenizer = BPETokenizer.load(folder / "tokenizer.json")
    mine = _load_mine(mine_folder)
    if mine is not None:
        tokenizer = mine.given_tokenizer(tokenizer)
    model = GPT(model_config) if mine is None else mine.model(model_config)
    model.to(chosen_device)
    _tell_pieces(mine, run, checkpoint["step"])
    parts = (training, validation, training_config, folder, mine)
    trainer = _trainer(ranks, model, tokenizer, *parts)
    trainer.load(folder / CHECKPOINT_NAME)
    click.echo(f"resuming {folder} after step {trainer.step_number:,}")
    with _writing(folder):
        _first(ranks, functools.partial(_write_json, folder / _RUN_FILE, run))
        _run(ranks, trainer, tokenizer, folder, mine)


def _trainer(
    ranks: "Ranks | None",
    model: "GPT",
    tokenizer: "BPETokenizer",
    training: "Corpus",
    validation: "Corpus",
    config: TrainingConfig,
    folder: Path,
    mine: "Mine | None" = None,
) -> "Trainer":
    from course_pkg.data import encode_documents
    from course_pkg.training import Trainer

    make: Callable[..., Trainer] = Trainer if mine is None else mine.trainer
    if ranks is not None:
        from course_pkg.distributed import ParallelTrainer

        make = functools.partial(ParallelTrainer, ranks)
    train_ids = encode_documents(training.documents, tokenizer)
    validation_ids = encode_documents(validation.documents, tokenizer)
    click.echo(
        f"{training.num_documents:,} documents to train on ({len(train_ids):,} tokens), "
        f"{validation.num_documents:,} to validate on ({len(validation_ids):,} tokens)"
    )
    return make(
        model,
        train_ids,
        validation_ids,
        config,
        folder,
        bytes_per_token=validation.num_bytes / len(validation_ids),
    )


def _run(
    ranks: "Ranks | None",
    trainer: "Trainer",
    tokenizer: "BPETokenizer",
    folder: Path,
    mine: "Mine | None" = None,
) -> None:
    device = next(trainer.model.parameters()).device
    where = f"{device}, kept in {folder}" if ranks is None else f"{ranks}, kept in {folder}"
    click.echo(f"{trainer.model.num_parameters():,} parameters on {where}")
    with _progress("training", trainer.config.max_steps) as update:
        trainer.on_log = lambda record: update(str(record), record.step)
        history = trainer.train()
    if trainer.step_number < trainer.config.max_steps:
        again = "" if mine is None else " --mine ..."
        click.echo(f"to go on: course train --out {folder} --resume{again}")
        raise click.exceptions.Exit(130)
    model = trainer.whole_model()
    _first(ranks, lambda: _write_results(model, history, tokenizer, folder, mine))


def _write_results(
    model: "GPT",
    history: "History",
    tokenizer: "BPETokenizer",
    folder: Path,
    mine: "Mine | None" = None,
) -> None:
    from course_pkg.weights import save_pretrained

    save_pretrained(model, folder, tokenizer)
    _write_json(folder / "history.json", history.to_dict())
    if importlib.util.find_spec("matplotlib") is None:
        click.echo("no loss.svg: matplotlib is not installed (pip install matplotlib)")
    else:
        with atomic_write(folder / "loss.svg") as file:
            file.write(_loss_curve(history))
    pieces = _continuation(
        model, tokenizer, "", _SAMPLE_TOKENS, _SAMPLE_TEMPERATURE, None, None, 0, mine
    )
    sample = "".join(pieces).strip() + "\n"
    with atomic_write(folder / "sample.txt") as file:
        file.write(sample)
    click.echo(f"\n{sample}\nmore like this: course generate {folder}")


def _loss_curve(history: "History") -> str:
    """The curve as SVG text, the same for the same history."""
    import matplotlib
    from matplotlib.figure import Figure  # not pyplot: it has no global state and opens no window

    with matplotlib.rc_context({"svg.hashsalt": "course", "svg.fonttype": "none"}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(*history.curve("train_loss"), color="#8ab", linewidth=0.8, label="each batch")
        axes.plot(*history.evaluation_curve("train_loss"), "o-", label="training")
        axes.plot(*history.evaluation_curve("validation_loss"), "s--", label="validation")
        axes.set(xlabel="step", ylabel="loss (nats per token)")
        axes.legend()
        axes.grid(alpha=0.3)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _train_tokenizer(
    training: "Corpus", vocab_size: int, mine: "Mine | None" = None
) -> "BPETokenizer":
    from course_pkg.tokenizer import END_OF_TEXT, BPETokenizer

    train = BPETokenizer.train if mine is None else mine.train_tokenizer
    with warnings.catch_warnings(record=True) as caught, _progress("tokenizer", vocab_size) as go:
        warnings.simplefilter("always")
        go(f"training a tokenizer of {vocab_size:,} tokens", 0)
        tokenizer = train(
            training.documents,
            vocab_size,
            special_tokens=[END_OF_TEXT],
            progress=lambda done, wanted: go(None, done + vocab_size - wanted),
        )
    for warning in caught:
        click.echo(str(warning.message))
    return tokenizer


@contextlib.contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[str | None, int], None]]:
    """Gives ``update(line or None, done)``: a bar under the lines in a terminal, else the lines."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        yield lambda line, done: click.echo(line) if line else None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(what, total=total)

        def update(line: str | None, done: int) -> None:
            if line:
                bar.console.print(line)
            bar.update(task, completed=done)

        yield update


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Name the folder where an error of the disk names a temporary file or nothing."""
    try:
        yield
    except ChildProcessError:
        raise
    except OSError as error:
        if error.filename is not None and not str(error.filename).endswith(".tmp"):
            raise
        message = f"cannot write there: {error.strerror or error}"
        raise OSError(error.errno, message, str(folder)) from error


@contextlib.contextmanager
def _undone_without_checkpoint(ranks: "Ranks | None", folder: Path) -> Iterator[None]:
    """A run that ends in an error before its first checkpoint leaves no folder behind."""
    if ranks is not None and ranks.rank != 0:
        yield
        return
    from course_pkg.training import CHECKPOINT_NAME

    existed = folder.exists()
    try:
        yield
    except BaseException:
        if not (folder / CHECKPOINT_NAME).exists():
            for name in (_RUN_FILE, "tokenizer.json"):
                (folder / name).unlink(missing_ok=True)
            if folder.exists() and not existed:
                folder.rmdir()
        raise


def _write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as file:
        json.dump(content, file, indent=1)
        file.write("\n")


def _read_run(folder: Path) -> dict[str, Any]:
    """What ``run.json`` says that the checkpoint does not."""
    path = folder / _RUN_FILE
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        run = None
    if not isinstance(run, dict) or not {"preset", "corpus"} <= run.keys():
        raise ValueError(f"{path} is damaged: it must hold the run's preset and corpus.")
    return run


def _lasting_name(corpus: str) -> str:
    """A corpus's name, or its path from the root: a run may be resumed from another folder."""
    return corpus if corpus in CORPORA else str(Path(corpus).resolve())


def _device(name: str, mine_folder: str | None) -> "torch.device":
    # An exercise does not ask on which device its tensors are.
    return choose_device("cpu" if name == "auto" and mine_folder is not None else name)


# course diagnose


@course.command()
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="The diagnosis as JSON.")
@click.option("--figure", metavar="FILE.svg", help="Also write the curves, with the sign marked.")
def diagnose(run: str, as_json: bool, figure: str | None) -> None:
    """Say whether a run's curves look healthy, and if not, what may be wrong.

    RUN is a folder that `course train` made; the run need not be finished. Its curves are held
    against those of healthy runs of the same preset.
    """
    from course_pkg.checks import curves

    folder = Path(run)
    history, vocab_size = _history(folder)
    made = _read_run(folder) if (folder / _RUN_FILE).exists() else {}
    # The bands are of runs on the stories: on another text a healthy loss is another one.
    preset = made.get("preset") if made.get("corpus") == DEFAULT_CORPUS else None
    diagnosis = curves.diagnose(history, preset, vocab_size)
    if figure is not None:
        diagnosis.save_figure(figure)
    if as_json:
        click.echo(json.dumps(diagnosis.to_dict(), indent=1))
    else:
        click.echo(str(diagnosis))


def _history(folder: Path) -> tuple[Any, int]:
    """What a run's folder says of its steps, and the size of its vocabulary."""
    from course_pkg.training import CHECKPOINT_NAME, read_checkpoint

    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder.")
    checkpoint, results = folder / CHECKPOINT_NAME, folder / "history.json"
    if checkpoint.exists():  # of a run that is not finished, it is all there is
        content = read_checkpoint(checkpoint)
        return content["history"], content["model_config"]["vocab_size"]
    if not results.exists():
        raise FileNotFoundError(
            f"{folder}: there is no history here. `course train --out {folder}` makes one."
        )
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return json.loads(results.read_text(encoding="utf-8")), config["vocab_size"]
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{results} or the config.json beside it is damaged.") from None


# course generate


@course.command()
@click.argument("model")
@click.argument("prompt", default="")
@click.option("--max-new-tokens", default=200, show_default=True)
@click.option("--temperature", default=0.8, show_default=True, help="0 takes the likeliest token.")
@click.option("--top-k", type=int, help="Draw from this many tokens only.")
@click.option("--top-p", type=float, help="Draw from the likeliest tokens that hold this much.")
@click.option("--seed", type=int, help="The same seed writes the same text.")
@click.option("--num-samples", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--int8", is_flag=True, help="Weights of 8 bits: faster for a large model.")
@click.option("--mine", metavar="FOLDER", help="Use your own pieces, as in course train.")
def generate(
    model: str,
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    num_samples: int,
    int8: bool,
    mine: str | None,
) -> None:
    """Let a model continue a text.

    MODEL is a folder that `course train` made, or a name such as story-1m. Without PROMPT the
    model begins a text of its own.
    """
    if int8 and mine is not None:
        raise ValueError("--int8 and --mine do not go together: your pieces run as they are.")
    gpt, tokenizer = _load_model(model)
    pieces_of = _load_mine(mine)
    if pieces_of is not None:
        tokenizer = pieces_of.given_tokenizer(tokenizer)
        trained, gpt = gpt, pieces_of.model(gpt.config)
        gpt.load_state_dict(trained.state_dict())
        click.echo(f"{pieces_of.count()}\n")
    for number in range(num_samples):
        pieces = _continuation(
            gpt,
            tokenizer,
            prompt,
            max_new_tokens,
            temperature,
            top_k,
            top_p,
            seed=None if seed is None else seed + number,
            mine=pieces_of,
            int8=int8,
        )
        if num_samples > 1:
            click.echo(f"--- {number + 1} of {num_samples}")
        click.echo(prompt, nl=False)
        for piece in pieces:
            click.echo(piece, nl=False)
        click.echo()


def _continuation(
    model: "GPT",
    tokenizer: "BPETokenizer",
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    mine: "Mine | None" = None,
    int8: bool = False,
) -> Iterator[str]:
    """The text that follows, piece by piece. Bad arguments are refused at once."""
    import torch

    from course_pkg.cache import CachedGPT
    from course_pkg.generation import stream

    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    end = tokenizer.end_of_text_id
    ids = tokenizer.encode(prompt, allowed_special="all")
    if not ids:  # a document begins where the one before it ended
        ids = tokenizer.encode("\n") if end is None else [end]
    device = next(model.parameters()).device
    reader = CachedGPT(model, int8=True) if int8 else model
    tokens = (stream if mine is None else mine.stream)(
        reader,  # type: ignore[arg-type]  # never int8 with mine
        torch.tensor([ids], device=device),
        max_new_tokens,
        temperature,
        top_k,
        top_p,
        stop_ids=() if end is None else (end,),
        generator=generator,
    )
    new = (int(column) for column in tokens)
    if mine is not None and mine.get("01.decode_bytes") is not None:
        # Theirs makes a text of all ids at once: a character may be cut between two of them.
        return iter([tokenizer.decode([token for token in new if token != end])])
    return _text(tokenizer, new)


def _text(tokenizer: "BPETokenizer", ids: Iterator[int]) -> Iterator[str]:
    """The text of each id, without end-of-text; a character cut between ids comes whole."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for token in ids:
        if token != tokenizer.end_of_text_id:
            yield decoder.decode(tokenizer.decode_bytes([token]))
    yield decoder.decode(b"", final=True)


def _load_model(name: str) -> tuple["GPT", "BPETokenizer"]:
    from course_pkg.tokenizer import gpt2_tokenizer
    from course_pkg.training import CHECKPOINT_NAME, load_model
    from course_pkg.weights import load_pretrained

    folder = _folder(name)
    checkpoint = folder / CHECKPOINT_NAME
    # Of a run that is not finished, or was resumed, the checkpoint is what is newest.
    model = load_model(checkpoint) if checkpoint.exists() else load_pretrained(name)
    tokenizer = _load_tokenizer(name) if folder.is_dir() else gpt2_tokenizer()
    if tokenizer.vocab_size != model.config.vocab_size:
        raise ValueError(
            f"{name}: the tokenizer has {tokenizer.vocab_size} ids and the model "
            f"{model.config.vocab_size}: they do not belong together."
        )
    return model, tokenizer


def _folder(name: str) -> Path:
    """The folder of a model: of one in this package by its name, else the path as given."""
    embedded = files.MODELS / name
    return embedded if Path(name).name == name and embedded.is_dir() else Path(name)


# course tokenize


@course.command()
@click.argument("text")
@click.option("--tokenizer", default="stories", metavar="FILE|RUN|NAME", show_default=True)
@click.option("--ids", is_flag=True, help="Only the ids, with spaces between them.")
def tokenize(text: str, tokenizer: str, ids: bool) -> None:
    """Show the tokens of a text.

    If TEXT is `-`, it is read from the standard input.
    """
    if text == "-":
        text = _read_stdin()
    loaded = _load_tokenizer(tokenizer)
    tokens = loaded.encode(text, allowed_special="all")
    if ids:
        click.echo(" ".join(map(str, tokens)))
        return
    width = len(str(loaded.vocab_size))
    for token in tokens:
        click.echo(f"{token:>{width}}  {_visible(loaded.vocab[token])}")
    num_bytes = len(text.encode("utf-8"))
    ratio = f", {num_bytes / len(tokens):.2f} bytes per token" if tokens else ""
    click.echo(f"{len(tokens):,} tokens, {num_bytes:,} bytes{ratio}")


def _visible(token: bytes) -> str:
    """A token in quotes; a part of a character as its bytes."""
    try:
        return repr(token.decode("utf-8"))
    except UnicodeDecodeError:
        return repr(token)


def _read_stdin() -> str:
    content = sys.stdin.buffer.read()
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise ValueError(
            f"the standard input is not UTF-8: byte 0x{byte:02x} at offset {error.start}."
        ) from None


def _load_tokenizer(name: str) -> "BPETokenizer":
    from course_pkg.tokenizer import BPETokenizer, gpt2_tokenizer

    if name == "gpt2":
        return gpt2_tokenizer()
    folder = _folder("story-1m" if name == "stories" else name)
    if folder.is_dir():
        return BPETokenizer.load(folder / "tokenizer.json")
    if not folder.exists() and folder.name == name:
        raise unknown_name("tokenizer", name, TOKENIZERS)
    return BPETokenizer.load(folder)


# course encode


@course.command()
@click.argument("text_file")
@click.option("--out", required=True, metavar="FILE", help="The token file to make.")
@click.option("--tokenizer", default="stories", metavar="FILE|RUN|NAME", show_default=True)
@click.option("--workers", type=int, help="Processes. [default: one for each core]")
@click.option("--resume", is_flag=True, help="Go on with what a run that was stopped has done.")
def encode(text_file: str, out: str, tokenizer: str, workers: int | None, resume: bool) -> None:
    """Encode a text file of any size to a file of token ids.

    Lines of TEXT_FILE that hold <|endoftext|> alone separate its documents. open_token_file
    reads what this writes. Ctrl-C keeps what is done for --resume.
    """
    from course_pkg.data import encode_file

    loaded = _load_tokenizer(tokenizer)
    path, target = Path(text_file), Path(out)
    num_bytes = path.stat().st_size
    try:
        with _writing(target.parent), _progress("encoding", num_bytes) as update:
            count = encode_file(
                path,
                target,
                loaded,
                workers=workers,
                resume=resume,
                progress=lambda done, _: update(None, done),
            )
    except KeyboardInterrupt:
        again = shlex.join(["course", "encode", text_file, "--out", out, "--tokenizer", tokenizer])
        click.echo(f"stopped; to go on: {again} --resume", err=True)
        raise click.exceptions.Exit(130) from None
    ratio = f"{num_bytes / count:.2f} bytes per token"
    click.echo(f"{count:,} tokens in {target}, {num_bytes:,} bytes of text, {ratio}")


# course info


@course.command()
@click.argument("name", required=False)
def info(name: str | None) -> None:
    """Show a model's parts, or what there is.

    NAME is a folder that `course train` made, or a preset. Without it: versions, presets, corpora
    and the trained models in this package.
    """
    if name is None:
        _show_everything()
    elif name in PRESETS:
        _show_preset(name)
    elif Path(name).is_dir():
        _show_folder(Path(name))
    elif Path(name).name == name:
        raise unknown_name("preset", name, PRESETS)
    else:
        raise FileNotFoundError(f"{name}: there is no such folder.")


def _show_everything() -> None:
    import torch

    from course_pkg.data import load_corpus

    click.echo(f"course_pkg {__version__}, Python {platform.python_version()}, ", nl=False)
    click.echo(f"PyTorch {torch.__version__}, {torch.get_num_threads()} threads")
    click.echo("\npresets")
    for name, preset in PRESETS.items():
        click.echo(f"  {name:<12}  {_num_parameters(preset.model):>13,} parameters")
    click.echo("\ncorpora")
    for name, what in CORPORA.items():
        size = ""
        if name == DEFAULT_CORPUS:
            corpus = load_corpus(name)
            size = f": {corpus.num_documents:,} documents, {corpus.num_bytes:,} bytes"
        click.echo(f"  {name:<12}  {what}{size}")
    click.echo("\ntrained models in this package")
    click.echo("".join(f"  {name}\n" for name in packaged_models()) or "  none\n", nl=False)


def _show_preset(name: str) -> None:
    preset = PRESETS[name]
    _show_model(preset.model)
    _show_fields("recipe", preset.training.to_dict())
    if (files.MODELS / name).is_dir():
        click.echo(f"\na trained model of this preset is in this package: course generate {name}")


def _show_folder(folder: Path) -> None:
    from course_pkg.training import CHECKPOINT_NAME, read_checkpoint

    checkpoint = folder / CHECKPOINT_NAME
    if not checkpoint.exists():
        model, tokenizer = _load_model(str(folder))
        _show_model(model.config)
        click.echo(f"\ntokenizer: {tokenizer.vocab_size:,} tokens")
        return
    content = read_checkpoint(checkpoint)
    _show_model(GPTConfig.from_dict(content["model_config"]))
    _show_fields("recipe", content["training_config"])
    run = _read_run(folder)
    for whose in run.pop("pieces", []):
        from course_pkg.checks.mine import show

        click.echo(f"\npieces, from step {whose.pop('from_step'):,}")
        click.echo("\n".join(f"  {line}" for line in show(whose)))
    _show_fields("run", run)
    click.echo(f"\nsteps done: {content['step']:,} of {content['training_config']['max_steps']:,}")
    evaluations = content["history"]["evaluations"]
    for split in ("train", "validation"):
        if losses := evaluations[f"{split}_loss"]:
            step = evaluations["step"][-1]
            click.echo(f"{split} loss at step {step:,}: {losses[-1]:.4f} nats per token")
    click.echo("\nfiles")
    for file in sorted(path for path in folder.iterdir() if path.is_file()):
        click.echo(f"  {file.name:<18} {file.stat().st_size:>12,} bytes")


def _show_model(config: GPTConfig) -> None:
    click.echo(f"{_num_parameters(config):,} parameters, ", nl=False)
    click.echo(f"{_num_parameters(config, non_embedding=True):,} without the embeddings")
    _show_fields("model", config.to_dict())


def _show_fields(title: str, values: dict[str, Any]) -> None:
    click.echo(f"\n{title}")
    for name, value in values.items():
        click.echo(f"  {name:<18} {value}")


def _num_parameters(config: GPTConfig, non_embedding: bool = False) -> int:
    import torch

    from course_pkg.gpt import GPT

    with torch.device("meta"):  # shapes without memory
        return GPT(config).num_parameters(non_embedding)


course.add_command(learning.check)
course.add_command(learning.doctor)
course.add_command(learning.progress)
course.add_command(teaching.grade)
course.add_command(teaching.release)
course.add_command(teaching.report)
course.add_command(teaching.verify)


if __name__ == "__main__":
    main()
