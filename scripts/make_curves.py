"""Train the healthy and the sick runs that the curve doctor is made from and tested on.

    python scripts/make_curves.py train       the runs that are missing, one file each
    python scripts/make_curves.py collect     bands and held-out runs, from those files
    python scripts/make_curves.py score       the confusion matrix on the held-out runs

A run takes about ten seconds of one CPU core with the preset ``story-tiny`` and a few minutes with
``story-1m``. Each is written as soon as it is complete, so an interrupted ``train`` goes on where
it stopped. Three kinds of runs are kept apart:

    band       healthy runs of a preset as it is, of several seeds: the doctor's bands
    tune       what the doctor's thresholds were chosen on
    held-out   other seeds, severities, sizes and parts of the corpus: what it is tested on
"""

import dataclasses
import functools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from course_pkg import (
    END_OF_TEXT,
    GPT,
    BPETokenizer,
    GPTConfig,
    History,
    MultiHeadAttention,
    Trainer,
    TrainingConfig,
    encode_documents,
    load_corpus,
)
from course_pkg.checks.curves import BANDS_FILE, diagnose, smooth, smoothing_width
from course_pkg.config import PRESETS
from course_pkg.data import Batch
from course_pkg.files import atomic_write
from course_pkg.training import EvaluationRecord, Record

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT_FILE = ROOT / "tests" / "held_out_curves.json"


# Faults: each takes a trainer that is ready to go and breaks it in the way that people do.


def nothing(trainer: Trainer) -> None:
    """A healthy run, or one whose fault is in its settings."""


def change_batches(
    trainer: Trainer, change: Callable[[Batch], Batch], splits: tuple[str, ...]
) -> None:
    draw = trainer._random_batches

    def changed(split: str, generator: torch.Generator) -> Iterator[Batch]:
        batches = draw(split, generator)
        return map(change, batches) if split in splits else batches

    # Evaluation draws with a generator of its own, from the same function for both splits.
    if "validation" in splits:
        trainer._random_batches = changed  # type: ignore[method-assign]
        return
    step = trainer.step

    def sick_step() -> dict[str, Any]:
        trainer._random_batches = changed  # type: ignore[method-assign]
        try:
            return step()
        finally:
            trainer._random_batches = draw  # type: ignore[method-assign]

    trainer.step = sick_step  # type: ignore[method-assign]


def not_shifted(trainer: Trainer, *, also_evaluation: bool) -> None:
    splits = ("train", "validation") if also_evaluation else ("train",)
    change_batches(trainer, lambda batch: (batch[0], batch[0]), splits)


def shuffled_targets(trainer: Trainer, *, also_evaluation: bool) -> None:
    generator = torch.Generator().manual_seed(trainer.config.seed)

    def shuffle(batch: Batch) -> Batch:
        inputs, targets = batch
        order = torch.randperm(targets.numel(), generator=generator)
        return inputs, targets.flatten()[order].view_as(targets)

    change_batches(trainer, shuffle, ("train", "validation") if also_evaluation else ("train",))


def same_batch(trainer: Trainer) -> None:
    step = trainer.step

    def again() -> dict[str, Any]:
        trainer._generator.manual_seed(trainer.config.seed)
        return step()

    trainer.step = again  # type: ignore[method-assign]


class SeesTheFuture(MultiHeadAttention):
    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._split_heads(W(x)) for W in (self.W_query, self.W_key, self.W_value))
        context = F.scaled_dot_product_attention(q, k, v)  # is_causal=True is missing
        return self.out_proj(context.transpose(1, 2).flatten(2))  # (B, H, T, Dh) -> (B, T, D)


def leak(trainer: Trainer) -> None:
    for block in trainer.model.blocks:
        block.attention.__class__ = SeesTheFuture


def double_softmax(trainer: Trainer) -> None:
    trainer.model.register_forward_hook(lambda model, inputs, logits: logits.softmax(-1))


def bad_init(trainer: Trainer, *, std: float) -> None:
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0.0, std)


def default_init(trainer: Trainer) -> None:
    """PyTorch's own: N(0, 1) for embeddings, the output head included, which shares them."""
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.reset_parameters()


def frozen(trainer: Trainer) -> None:
    trainer.optimizer.step = lambda: None  # type: ignore[method-assign]


def not_zeroed(trainer: Trainer) -> None:
    trainer.optimizer.zero_grad = lambda set_to_none=True: None  # type: ignore[method-assign]


# Settings that only change where a run happens, not whether it is healthy.
ELSEWHERE: dict[str, dict[str, Any]] = {
    "": {},
    "first half": {"corpus": "first half"},
    "second half": {"corpus": "second half"},
    "wide": {"model": {"d_model": 96}},
    "narrow": {"model": {"d_model": 48}},
    "deep": {"model": {"num_layers": 3}},
    "shallow": {"model": {"num_layers": 1}},
    "wide and deep": {"model": {"d_model": 96, "num_layers": 3}},
    "short windows": {"model": {"context_length": 32}},
    "long windows": {"model": {"context_length": 128}},
    "large vocabulary": {"model": {"vocab_size": 1024}},
    "small vocabulary": {"model": {"vocab_size": 384}},
    "fewer steps": {"training": {"max_steps": 200, "warmup_steps": 20}},
    "more steps": {"training": {"max_steps": 450, "warmup_steps": 45}},
    "dropout": {"model": {"dropout": 0.1}},
    "half the rate": {"rate": 0.5},
    "twice the rate": {"rate": 2.0},
    "half the batch": {"batch": 0.5},
    "twice the batch": {"batch": 2.0},
    "shakespeare": {"corpus": "shakespeare"},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """One run: ``fault`` breaks the trainer, the rest are settings over those of the preset."""

    role: str
    disease: str
    seed: int
    preset: str = "story-tiny"
    elsewhere: str = ""
    fault: Callable[[Trainer], None] = nothing
    rate: float = 1.0  # times the preset's
    batch: float = 1.0  # times the preset's
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    tokens: int | None = None  # only so many of the training text
    stop: int | None = None  # the step at which the run is interrupted
    severity: str = ""

    @property
    def name(self) -> str:
        parts = (self.preset, self.role, self.disease, self.severity, self.elsewhere, self.seed)
        return " ".join(str(part) for part in parts if part != "").replace(" ", "_")


@functools.cache
def text(part: str, vocab_size: int) -> tuple[Tensor, Tensor, int]:
    """Ids of both splits, and the vocabulary's size."""
    corpus = load_corpus("shakespeare" if part == "shakespeare" else "stories")
    documents = corpus.documents
    half = len(documents) // 2
    if part in ("first half", "second half"):
        documents = documents[:half] if part == "first half" else documents[half:]
    training, validation = dataclasses.replace(corpus, documents=documents).split()
    tokenizer = BPETokenizer.train(training.documents, vocab_size, special_tokens=[END_OF_TEXT])
    ids = (encode_documents(split.documents, tokenizer) for split in (training, validation))
    return (*ids, tokenizer.vocab_size)


def stop_at(step: int | None, record: Record) -> None:
    """What ``on_log`` does to interrupt a run, after it was evaluated."""
    if record.step == step and isinstance(record, EvaluationRecord):
        raise KeyboardInterrupt


def train(run: Run) -> dict[str, Any]:
    setting = ELSEWHERE[run.elsewhere]
    preset = PRESETS[run.preset]
    model_config = {**preset.model.to_dict(), **setting.get("model", {})}
    part = setting.get("corpus", "all")
    train_ids, validation_ids, vocab_size = text(part, model_config["vocab_size"])
    if run.tokens is not None:
        train_ids = train_ids[: run.tokens]
    recipe = preset.training
    rate = recipe.learning_rate * run.rate * setting.get("rate", 1.0)
    batch = recipe.batch_size * run.batch * setting.get("batch", 1.0)
    config = {
        **recipe.to_dict(),
        "learning_rate": rate,
        "min_lr": rate * recipe.min_lr / recipe.learning_rate,
        "batch_size": max(1, round(batch)),
        "seed": run.seed,
        **setting.get("training", {}),
        **run.training,
    }
    torch.manual_seed(run.seed)
    model = GPT(GPTConfig.from_dict({**model_config, "vocab_size": vocab_size}))
    trainer = Trainer(
        model,
        train_ids,
        validation_ids,
        TrainingConfig.from_dict(config),
        on_log=functools.partial(stop_at, run.stop),
    )
    run.fault(trainer)
    stopped = None
    try:
        trainer.train()
    except FloatingPointError as error:
        stopped = str(error)
    return {
        "name": run.name,
        "role": run.role,
        "disease": run.disease,
        "seed": run.seed,
        "preset": run.preset,
        "corpus": part,
        "vocab_size": vocab_size,
        "max_steps": config["max_steps"],
        "stopped": stopped,
        "history": trainer.history.to_dict(),
    }


# The catalogue. ``SICK`` gives each disease's ways to come about: those for tuning, then those
# held out. A way is what ``Run`` takes besides its role, disease, seed and place.
SICK: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "rate_too_high": (
        [{"rate": 8.0}, {"rate": 30.0}],
        [{"rate": 6.0}, {"rate": 12.0}, {"rate": 60.0}],
    ),
    "no_warm_up": (
        [{"rate": 8.0, "training": {"warmup_steps": 0}}],
        [
            {"rate": 6.0, "training": {"warmup_steps": 0}},
            {"rate": 12.0, "training": {"warmup_steps": 1}},
        ],
    ),
    "rate_too_low": (
        [{"rate": 0.1}, {"rate": 0.02}],
        [{"rate": 0.15}, {"rate": 0.05}, {"rate": 0.005}],
    ),
    "small_batch": (
        [{"batch": 1 / 16}, {"batch": 1 / 8}],
        [{"batch": 1 / 16, "severity": "one"}, {"batch": 1 / 8, "severity": "two"}],
    ),
    "not_zeroed": (
        [{"fault": not_zeroed}],
        [
            {"fault": not_zeroed},
            {"fault": not_zeroed, "training": {"grad_clip": None}, "severity": "unclipped"},
        ],
    ),
    "frozen": ([{"fault": frozen}], [{"fault": frozen}]),
    "bad_init": (
        [{"fault": functools.partial(bad_init, std=0.3)}, {"fault": default_init}],
        [
            {"fault": functools.partial(bad_init, std=std), "severity": str(std)}
            for std in (0.2, 0.5, 1.0)
        ],
    ),
    "double_softmax": ([{"fault": double_softmax}], [{"fault": double_softmax}]),
    "not_shifted": (
        [
            {"fault": functools.partial(not_shifted, also_evaluation=False)},
            {"fault": functools.partial(not_shifted, also_evaluation=True), "severity": "both"},
        ],
        [
            {"fault": functools.partial(not_shifted, also_evaluation=False)},
            {"fault": functools.partial(not_shifted, also_evaluation=True), "severity": "both"},
        ],
    ),
    "shuffled_targets": (
        [
            {"fault": functools.partial(shuffled_targets, also_evaluation=False)},
            {
                "fault": functools.partial(shuffled_targets, also_evaluation=True),
                "severity": "both",
            },
        ],
        [
            {"fault": functools.partial(shuffled_targets, also_evaluation=False)},
            {
                "fault": functools.partial(shuffled_targets, also_evaluation=True),
                "severity": "both",
            },
        ],
    ),
    "leak": ([{"fault": leak}], [{"fault": leak}]),
    "same_batch": ([{"fault": same_batch}], [{"fault": same_batch}]),
    "little_text": (
        [{"tokens": 4_000}, {"tokens": 15_000}],
        [{"tokens": 2_000}, {"tokens": 8_000}, {"tokens": 20_000}],
    ),
    "weight_decay": (
        [
            {"training": {"weight_decay": 30.0}, "severity": "30"},
            {"training": {"weight_decay": 80.0}, "severity": "80"},
        ],
        [
            {"training": {"weight_decay": 20.0}, "severity": "20"},
            {"training": {"weight_decay": 50.0}, "severity": "50"},
            {"training": {"weight_decay": 150.0}, "severity": "150"},
        ],
    ),
}
TUNE_PLACES = (
    "",
    "first half",
    "narrow",
    "deep",
    "long windows",
    "large vocabulary",
    "fewer steps",
    "half the rate",
    "twice the batch",
    "short windows",
)
HELD_OUT_PLACES = (
    "",
    "second half",
    "wide",
    "shallow",
    "wide and deep",
    "small vocabulary",
    "more steps",
    "dropout",
    "twice the rate",
    "half the batch",
    "shakespeare",
)
# Where the third to the fifth held-out run of each disease happen.
SICK_PLACES = {
    "rate_too_high": ("wide", "more steps", "second half"),
    "no_warm_up": ("more steps", "second half", "short windows"),
    "rate_too_low": ("second half", "short windows", "dropout"),
    "small_batch": ("short windows", "dropout", "wide"),
    "not_zeroed": ("dropout", "wide", "more steps"),
    "frozen": ("wide", "more steps", "second half"),
    "bad_init": ("more steps", "second half", "short windows"),
    "double_softmax": ("wide", "more steps", "second half"),
    "not_shifted": ("more steps", "second half", "short windows"),
    "shuffled_targets": ("second half", "short windows", "dropout"),
    "leak": ("short windows", "dropout", "wide"),
    "same_batch": ("dropout", "wide", "more steps"),
    "little_text": ("wide", "more steps", "second half"),
    "weight_decay": ("more steps", "second half", "short windows"),
}

# At six times the rate a run with Muon ends in the band: these are ways that do harm there.
WAY_WITH_MUON = {"rate_too_high": 1, "no_warm_up": 1}


def catalogue() -> list[Run]:
    runs = [Run(role="band", disease="healthy", seed=seed) for seed in range(1, 7)]
    runs += [
        Run(role="tune", disease="healthy", seed=11 + i, elsewhere=place)
        for i, place in enumerate(TUNE_PLACES)
    ]
    runs += [
        Run(role="held-out", disease="healthy", seed=seed + 10 * i, elsewhere=place)
        for i, place in enumerate(HELD_OUT_PLACES)
        for seed in (range(100, 105) if place == "" else range(100, 101))
    ]
    for disease, (tune, held_out) in SICK.items():
        for i, place in enumerate(("", "first half")):
            seed = 31 + i
            runs.append(_sick(disease, tune, i, role="tune", seed=seed, elsewhere=place))
        for i, place in enumerate(("", "", *SICK_PLACES[disease])):
            seed = 201 + i
            runs.append(_sick(disease, held_out, i, role="held-out", seed=seed, elsewhere=place))
    # Evaluated more often than the presets say, so that the band is close between two of them.
    often = {"eval_every": 50, "eval_batches": 8}
    # A run of a whole preset takes minutes; these are stopped once the late signs can show.
    longer = {"seed": 0, "training": {"max_steps": 5_000}}
    for preset, first_seed, stop, whole in (
        ("story-1m", 301, 500, longer),
        ("story-3min", 401, 400, {"seed": 401}),
    ):
        for seed in (1, 2, 3):
            runs.append(
                Run(role="band", disease="healthy", seed=seed, preset=preset, training=often)
            )
        for i, disease in enumerate(("healthy", *SICK)):
            held_out = SICK[disease][1] if disease in SICK else [{}]
            way = WAY_WITH_MUON.get(disease, 0) if preset == "story-3min" else 0
            place = {"role": "held-out", "seed": first_seed + i, "preset": preset, "stop": stop}
            runs.append(_sick(disease, held_out, way, **place))
        whole = {"disease": "healthy", "severity": "whole", **whole}
        runs.append(Run(role="held-out", preset=preset, **whole))
    return runs


def _sick(disease: str, ways: list[dict[str, Any]], i: int, **place: Any) -> Run:
    way = ways[i % len(ways)]
    severity = way.get("severity", "")
    for key in ("rate", "batch", "tokens"):
        if key in way and not severity:
            severity = f"{key} {way[key]:g}"
    values = {**way, "severity": severity, **place}
    # A place brings its own number of steps; its other settings give way to the fault's.
    return Run(disease=disease, **values)


@click.group()
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=ROOT / "runs" / "curves",
    help="Where the runs are kept.",
)
@click.pass_context
def main(context: click.Context, work: Path) -> None:
    """Train, collect and score the runs of the curve doctor."""
    context.obj = work


@main.command("train")
@click.option("--only", default="", help="Only the runs whose name holds this.")
@click.pass_obj
def train_command(work: Path, only: str) -> None:
    """Train the runs that are missing."""
    torch.set_num_threads(1)
    missing = [
        run for run in catalogue() if only in run.name and not (work / f"{run.name}.json").exists()
    ]
    started = time.perf_counter()
    for i, run in enumerate(missing, start=1):
        if (work / f"{run.name}.json").exists():  # another process was quicker
            continue
        result = train(run)
        with atomic_write(work / f"{run.name}.json") as file:
            json.dump(result, file)
        minutes = (time.perf_counter() - started) / 60
        left = minutes / i * (len(missing) - i)
        click.echo(f"{i}/{len(missing)}  {run.name}  {minutes:.1f} min, {left:.1f} left")


# What is made of the runs


def results(work: Path) -> list[dict[str, Any]]:
    """The runs that are there, in the order of the catalogue."""
    there = []
    for run in catalogue():
        path = work / f"{run.name}.json"
        if path.exists():
            there.append(json.loads(path.read_text(encoding="utf-8")))
    return there


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def edges(steps: np.ndarray, curves: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, list[float]]:
    """The lowest, the highest and the median of several curves at the given steps."""
    values = np.array([np.interp(steps, xs, ys) for xs, ys in curves])
    return {
        "step": [int(step) for step in steps],
        "low": [rounded(value) for value in values.min(axis=0)],
        "high": [rounded(value) for value in values.max(axis=0)],
        "median": [rounded(value) for value in np.median(values, axis=0)],
    }


def frequencies_loss(train_ids: Tensor, validation_ids: Tensor, vocab_size: int) -> float:
    """Loss on the validation text of a model that knows the training text's frequencies only."""
    counts = torch.bincount(train_ids, minlength=vocab_size).double() + 1
    return -(counts / counts.sum()).log()[validation_ids].mean().item()


def band(preset: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    histories = [History.from_dict(run["history"]) for run in runs]
    last_step = PRESETS[preset].training.max_steps
    width = smoothing_width(last_step)
    grid = np.unique(np.rint([*range(1, 11), *np.geomspace(10, last_step, 70)]))
    curves: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {
        name: [] for name in ("train_loss", "grad_norm", "validation_loss", "gap")
    }
    for history in histories:
        for name in ("train_loss", "grad_norm"):
            steps, values = history.curve(name)
            curves[name].append((steps, smooth(steps, values, width)))
        steps, validation = history.evaluation_curve("validation_loss")
        _, training = history.evaluation_curve("train_loss")
        curves["validation_loss"].append((steps, validation))
        curves["gap"].append((steps, validation - training))
    evaluated = curves["gap"][0][0]
    train_ids, validation_ids, vocab_size = text("all", PRESETS[preset].model.vocab_size)
    return {
        "seeds": [run["seed"] for run in runs],
        "vocab_size": vocab_size,
        "frequencies": rounded(frequencies_loss(train_ids, validation_ids, vocab_size)),
        "curves": {
            name: edges(grid if name in ("train_loss", "grad_norm") else evaluated, lines)
            for name, lines in curves.items()
        },
    }


def thinned(history: dict[str, Any]) -> dict[str, Any]:
    """The first ten rows, then so few that about 80 are left; four digits."""
    rows = history["rows"]
    count = len(rows["step"])
    stride = max(1, count // 70)
    kept = sorted({*range(min(10, count)), *range(count - 1, 9, -stride)})
    return {
        "rows": {name: [rounded_item(column[i]) for i in kept] for name, column in rows.items()},
        "evaluations": {
            name: [rounded_item(value) for value in column]
            for name, column in history["evaluations"].items()
        },
    }


def rounded_item(value: float) -> float:
    return value if isinstance(value, int) else rounded(value)


def write_json(path: Path, content: Any) -> None:
    with atomic_write(path) as file:
        json.dump(content, file, separators=(",", ":"))
        file.write("\n")
    click.echo(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")


@main.command("collect")
@click.pass_obj
def collect_command(work: Path) -> None:
    """Write the bands and the held-out runs; those whose runs are not there stay as they are."""
    there = results(work)
    bands = json.loads(BANDS_FILE.read_text("utf-8"))
    for preset in dict.fromkeys(run["preset"] for run in there):
        healthy = [run for run in there if run["preset"] == preset and run["role"] == "band"]
        if len(healthy) >= 3:
            bands[preset] = band(preset, healthy)
    write_json(BANDS_FILE, bands)
    held_out = {run["name"]: run for run in json.loads(HELD_OUT_FILE.read_text("utf-8"))}
    for run in there:
        if run["role"] == "held-out":
            held_out[run["name"]] = {**run, "history": thinned(run["history"])}
    names = [run.name for run in catalogue()]
    write_json(HELD_OUT_FILE, [held_out[name] for name in names if name in held_out])


def judged(run: dict[str, Any]) -> str:
    # The command line names no preset for another corpus than that of the bands.
    preset = None if run["corpus"] == "shakespeare" else run["preset"]
    return diagnose(run["history"], preset, run["vocab_size"]).disease


@main.command("score")
@click.option("--role", type=click.Choice(["tune", "held-out", "band"]), default="held-out")
@click.option("--committed", is_flag=True, help="Of the committed, thinned histories.")
@click.option("--explain", is_flag=True, help="Print what was said of the runs it got wrong.")
@click.pass_obj
def score_command(work: Path, role: str, committed: bool, explain: bool) -> None:
    """Print the confusion matrix: a row for each disease, and how often each was diagnosed."""
    there = json.loads(HELD_OUT_FILE.read_text("utf-8")) if committed else results(work)
    pairs = [(run, judged(run)) for run in there if run["role"] == role]
    matrix = Counter((run["disease"], said) for run, said in pairs)
    names = sorted({name for pair in matrix for name in pair})
    for i, name in enumerate(names):
        cells = "".join(f"{matrix[name, other] or '.':>4}" for other in names)
        click.echo(f"{chr(97 + i)} {name:<17}{cells}")
    click.echo(" " * 19 + "".join(f"{chr(97 + i):>4}" for i in range(len(names))))
    right = sum(said == run["disease"] for run, said in pairs)
    alarms = sum(run["disease"] == "healthy" != said for run, said in pairs)
    healthy = sum(run["disease"] == "healthy" for run, _ in pairs)
    click.echo(f"{right} of {len(pairs)} right; {alarms} of {healthy} healthy runs called ill")
    for run, said in pairs:
        if said != run["disease"]:
            click.echo(f"  {run['name']}: {said}")
            if explain:
                preset = None if run["corpus"] == "shakespeare" else run["preset"]
                click.echo(str(diagnose(run["history"], preset, run["vocab_size"])) + "\n")


if __name__ == "__main__":
    main()
