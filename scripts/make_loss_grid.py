"""Train the runs of the page's explorer of loss curves: ``book/data/loss_grid.json``.

    python scripts/make_loss_grid.py

The preset ``story-tiny`` is trained at each combination of a learning rate, a warm-up and a batch
size, everything else being the preset's own. A run takes 2 to 8 seconds of one CPU core, all of
them about four minutes. Each is written as soon as it is complete, so an interrupted start goes on
where it stopped. Make them again when the preset's recipe, the corpus, the trainer or the curve
doctor changes; runs that are there already are not trained again unless their folder is removed.
"""

import itertools
import json
import re
import time
from pathlib import Path
from typing import Any

import click
import torch
from make_curves import frequencies_loss, text

from course_pkg import GPT, Trainer
from course_pkg.authoring import loss_grid
from course_pkg.checks.curves import diagnose
from course_pkg.config import PRESETS
from course_pkg.files import atomic_write

ROOT = Path(__file__).resolve().parents[1]
DATA_FILE = ROOT / "book" / "data" / "loss_grid.json"

PRESET = "story-tiny"
SEED = 1
# From a sixteenth of the preset's rate to sixty times it, by steps of about four.
GRID = {
    "learning_rate": [0.0003, 0.0012, 0.005, 0.02, 0.08, 0.3],
    "warmup_steps": [0, 30, 100],
    "batch_size": [1, 4, 16],
}
LAST = PRESETS[PRESET].training.max_steps
# The first steps, in which a run may go wrong, are all kept; then every fifth.
STEPS = [*range(1, 11), *range(15, LAST + 1, 5)]


def settings() -> list[dict[str, Any]]:
    return [
        dict(zip(loss_grid.AXES, values, strict=True))
        for values in itertools.product(*(GRID[axis] for axis in loss_grid.AXES))
    ]


def make_trainer(setting: dict[str, Any]) -> Trainer:
    """A run that is ready to go. All start from the same weights."""
    model_config = PRESETS[PRESET].model
    train_ids, validation_ids, _ = text("all", model_config.vocab_size)
    torch.manual_seed(SEED)
    config = loss_grid.recipe(PRESET, SEED, setting)
    model = GPT(model_config)
    return Trainer(model, train_ids, validation_ids, config, on_log=lambda record: None)


def train_missing(work: Path) -> None:
    missing = [setting for setting in settings() if not path_of(work, setting).exists()]
    started = time.perf_counter()
    for i, setting in enumerate(missing, start=1):
        history = make_trainer(setting).train()
        with atomic_write(path_of(work, setting)) as file:
            json.dump(history.to_dict(), file)
        minutes = (time.perf_counter() - started) / 60
        left = minutes / i * (len(missing) - i)
        loss = history.evaluations[-1]["validation_loss"]
        click.echo(f"{i}/{len(missing)}  {setting}  {loss:.2f}  {minutes:.1f} min, {left:.1f} left")


def path_of(work: Path, setting: dict[str, Any]) -> Path:
    return work / ("_".join(f"{setting[axis]:g}" for axis in loss_grid.AXES) + ".json")


def collect(work: Path) -> dict[str, Any]:
    """The grid, made of the runs' files. Each run is named by what the grid keeps of it."""
    vocab_size = PRESETS[PRESET].model.vocab_size
    train_ids, validation_ids, _ = text("all", vocab_size)
    grid: dict[str, Any] = {
        "preset": PRESET,
        "seed": SEED,
        "vocab_size": vocab_size,
        "frequency_loss": round(frequencies_loss(train_ids, validation_ids, vocab_size), 3),
        **GRID,
        "steps": STEPS,
        "evaluation_steps": [],
        "runs": [],
    }
    for setting in settings():
        whole = json.loads(path_of(work, setting).read_text(encoding="utf-8"))
        rows, evaluations = whole["rows"], whole["evaluations"]
        kept = [rows["step"].index(step) for step in STEPS]
        grid["evaluation_steps"] = evaluations["step"]
        run = {
            **setting,
            "train_loss": [round(rows["train_loss"][i], 2) for i in kept],
            "grad_norm": [round(rows["grad_norm"][i], 2) for i in kept],
            "evaluation_train_loss": [round(value, 3) for value in evaluations["train_loss"]],
            "validation_loss": [round(value, 3) for value in evaluations["validation_loss"]],
        }
        run["disease"] = loss_grid.diagnosis(grid, run).disease
        seen_whole = diagnose(whole, PRESET, vocab_size).disease
        loss = run["validation_loss"][-1]
        note = "" if seen_whole == run["disease"] else f", and {seen_whole} by all of its steps"
        click.echo(f"{setting}: {loss:.2f}, {run['disease']}{note}")
        grid["runs"].append(run)
    return grid


def write(grid: dict[str, Any], path: Path) -> None:
    """As JSON with a line for each list."""
    content = re.sub(
        r"\[[^][{]*\]", lambda part: "".join(part[0].split()), json.dumps(grid, indent=1)
    )
    with atomic_write(path) as file:
        file.write(content + "\n")
    click.echo(f"{path.name}: {path.stat().st_size:,} bytes")


@click.command()
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=ROOT / "runs" / "loss_grid",
    help="Where the whole runs are kept.",
)
def main(work: Path) -> None:
    """Train the runs that are missing, and write what the page shows of all."""
    torch.set_num_threads(1)
    train_missing(work)
    write(collect(work), DATA_FILE)


if __name__ == "__main__":
    main()
