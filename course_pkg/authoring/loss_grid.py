"""The same small training at many settings: what the page's explorer of loss curves shows.

``scripts/make_loss_grid.py`` trains and writes ``book/data/loss_grid.json``. It holds of each run
the losses and gradient norms of some steps, all evaluations, and the disease that the curve doctor
named. Whatever is said of a run here is said by the doctor, from these numbers.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from course_pkg.checks.curves import DISEASES, Diagnosis, diagnose
from course_pkg.config import PRESETS, TrainingConfig
from course_pkg.training import History, learning_rate_at

AXES = ("learning_rate", "warmup_steps", "batch_size")
EVALUATED_WINDOWS = 128  # of either split, whatever the batch size: the losses compare


def recipe(preset: str, seed: int, setting: Mapping[str, Any]) -> TrainingConfig:
    """The preset's recipe at a setting, one value of each of ``AXES``.

    The rate falls to the same part of its peak as the preset's.
    """
    own = PRESETS[preset].training
    rate = setting["learning_rate"]
    changed = {
        **{axis: setting[axis] for axis in AXES},
        "min_lr": rate * own.min_lr / own.learning_rate,
        "eval_batches": EVALUATED_WINDOWS // setting["batch_size"],
        "seed": seed,
    }
    return TrainingConfig.from_dict({**own.to_dict(), **changed})


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The grid that ``scripts/make_loss_grid.py`` wrote.

    Returns:
        ``preset``, ``seed`` and ``vocab_size``; the values of each axis, under its name in
        ``AXES``; ``steps`` and ``evaluation_steps``; ``frequency_loss``, in nats; and ``runs``, one
        for each combination, with ``train_loss`` and ``grad_norm`` at ``steps``,
        ``evaluation_train_loss`` and ``validation_loss`` at ``evaluation_steps``, and ``disease``.

    Raises:
        FileNotFoundError: there is no such file.
    """
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return content


def find(grid: Mapping[str, Any], **setting: Any) -> dict[str, Any]:
    """The run of a setting, one value of each of ``AXES``.

    Raises:
        ValueError: the grid has no such run.
    """
    for run in grid["runs"]:
        if setting == {axis: run[axis] for axis in AXES}:
            return dict(run)
    allowed = "; ".join(f"{axis}: {', '.join(map(str, grid[axis]))}" for axis in AXES)
    raise ValueError(f"setting={setting} is not in the grid, which has {allowed}.")


def history(grid: Mapping[str, Any], run: Mapping[str, Any]) -> History:
    """What the grid holds of a run, as its history. Rate and tokens follow from the recipe."""
    config = recipe(grid["preset"], grid["seed"], run)
    tokens = config.batch_size * PRESETS[grid["preset"]].model.context_length
    steps = grid["steps"]
    return History.from_dict(
        {
            "rows": {
                "step": steps,
                "tokens": [step * tokens for step in steps],
                "train_loss": run["train_loss"],
                "learning_rate": [learning_rate_at(step, config) for step in steps],
                "grad_norm": run["grad_norm"],
            },
            "evaluations": {
                "step": grid["evaluation_steps"],
                "train_loss": run["evaluation_train_loss"],
                "validation_loss": run["validation_loss"],
            },
        }
    )


def diagnosis(grid: Mapping[str, Any], run: Mapping[str, Any]) -> Diagnosis:
    """What the curve doctor says of a run, from what the grid holds of it."""
    return diagnose(history(grid, run), grid["preset"], grid["vocab_size"])


def page_data(grid: Mapping[str, Any]) -> dict[str, Any]:
    """What the page's script reads: the grid without gradient norms, with the doctor's sentences.

    Each run has ``signs``; ``diseases`` gives title, advice and section of those that occur;
    ``context_length`` is that of the model, in tokens.
    """
    left_out = ("grad_norm", "evaluation_train_loss")
    runs = [
        {**{key: value for key, value in run.items() if key not in left_out}, "signs": said.signs}
        for run in grid["runs"]
        for said in [diagnosis(grid, run)]
    ]
    named = sorted({run["disease"] for run in runs})
    diseases = {
        name: {
            "ill": name != "healthy",
            "title": DISEASES[name].title,
            "advice": DISEASES[name].advice,
            "section": DISEASES[name].section,
        }
        for name in named
    }
    context_length = PRESETS[grid["preset"]].model.context_length
    return {**grid, "context_length": context_length, "runs": runs, "diseases": diseases}


def table(grid: Mapping[str, Any], batch_size: int) -> str:
    """The last validation losses at a batch size as text: a row a warm-up, a column a rate."""
    rates, warm_ups = grid["learning_rate"], grid["warmup_steps"]
    lines = [
        f"Validation loss (nats per token) after {grid['steps'][-1]} steps with a batch of "
        f"{batch_size},",
        "by steps of warm-up (down) and learning rate (across):",
        "       " + "".join(f"{rate:>8g}" for rate in rates),
    ]
    for steps in warm_ups:
        runs = [
            find(grid, learning_rate=rate, warmup_steps=steps, batch_size=batch_size)
            for rate in rates
        ]
        losses = "".join(f"{run['validation_loss'][-1]:>8.2f}" for run in runs)
        lines.append(f"{steps:>7}{losses}")
    return "\n".join(lines)
