"""The curve doctor: what a run's history says about the run.

``diagnose(history, preset="story-tiny")`` holds the loss, the gradient norm and the learning rate
of each step against bands of healthy runs of the same preset, and names the disease whose sign it
finds. It sees the numbers of ``History`` only, no model and no text.

The rules are a list, in the order in which they are tried: first what shows whatever else is
wrong, last what is only known from the loss being too high. Their thresholds were chosen on runs
made by ``scripts/make_curves.py``; its other runs, of other seeds, sizes and parts of the corpus,
are what the tests hold the doctor to.
"""

import dataclasses
import functools
import itertools
import json
import math
import os
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from course_pkg.checks import curve_plot
from course_pkg.config import PRESETS
from course_pkg.errors import unknown_name
from course_pkg.files import atomic_write
from course_pkg.training import History, learning_rate_at

Number = int | float
BANDS_FILE = Path(__file__).with_name("curves.json")


@dataclasses.dataclass(frozen=True)
class Disease:
    """What is said about one: ``section`` is the book's, as in "6.4"."""

    title: str
    advice: str
    section: str


DISEASES: Mapping[str, Disease] = {
    "diverged": Disease(
        "The run has diverged",
        "Lower the learning rate, warm up for longer, and clip the gradient (grad_clip=1.0).",
        "6.5",
    ),
    "bad_init": Disease(
        "The initial weights are too large",
        "Draw all matrices from N(0, 0.02), embeddings and output head included, and compare the "
        "first loss with ln V, the logarithm of the vocabulary's size.",
        "5.6",
    ),
    "frozen": Disease(
        "The weights do not change",
        "See that optimizer.step() is called, that the optimizer was given the parameters of this "
        "model, and that none of them has requires_grad=False.",
        "6.3",
    ),
    "zero_rate": Disease(
        "The learning rate is zero",
        "Look at the schedule: print learning_rate_at(step, config) for the first steps.",
        "6.4",
    ),
    "double_softmax": Disease(
        "Softmax is taken twice",
        "cross_entropy wants logits and takes the softmax itself: remove the one in the model.",
        "6.1",
    ),
    "not_shifted": Disease(
        "The targets are not shifted",
        "The target of position t is the token at t + 1. Decode one batch and print inputs and "
        "targets below each other.",
        "6.12",
    ),
    "same_batch": Disease(
        "The same batches come again and again",
        "The generator, or the iterator over the batches, is made anew in each step: make it once, "
        "before the loop.",
        "6.8",
    ),
    "little_text": Disease(
        "Overfitting: too little text for so many steps",
        "Get more text, else stop where the validation loss is lowest, else add dropout.",
        "6.12",
    ),
    "leak": Disease(
        "A leak: the model may see the answers",
        "Change one token and see whether an earlier output moves: then the causal mask is "
        "missing. If none does, look for validation text among the training text.",
        "6.12",
    ),
    "not_zeroed": Disease(
        "The gradients are not cleared between steps",
        "Call optimizer.zero_grad() once in each step, after optimizer.step().",
        "6.8",
    ),
    "no_warm_up": Disease(
        "There is no warm-up, and the rate needs one",
        "Let the rate rise from 0 over the first tenth of the steps, or lower it.",
        "6.4",
    ),
    "rate_too_high": Disease(
        "The learning rate is too high",
        "Divide the rate by three until the loss joins the band.",
        "6.12",
    ),
    "rate_too_low": Disease(
        "The learning rate is too low",
        "Multiply the rate by three until the loss joins the band.",
        "6.4",
    ),
    "small_batch": Disease(
        "The batch is too small",
        "Use more windows in a batch, or accumulate the gradients of several.",
        "6.6",
    ),
    "shuffled_targets": Disease(
        "Inputs and targets do not belong together",
        "The model has learned how frequent each token is and nothing else. See whether inputs and "
        "targets were shuffled, sorted or cut apart from each other.",
        "6.12",
    ),
    "weight_decay": Disease(
        "The weight decay is too strong",
        "Take the usual 0.1: each step shrinks every matrix by rate times decay.",
        "6.3",
    ),
    "unclear": Disease(
        "The loss is too high, for no reason that the curves show",
        "Overfit a single batch first: if that fails, the fault is in the model or in its data.",
        "6.2",
    ),
    "too_short": Disease(
        "The run is too short to tell",
        "Go on with it, and ask again.",
        "6.12",
    ),
    "healthy": Disease(
        "Nothing unusual",
        "Read a sample too: a wrong tokenizer shows in no curve.",
        "6.12",
    ),
}
_NOT_ILL = ("healthy", "too_short")

# How far the last loss may lie above the band and below it, in nats. A band of few seeds is narrow,
# so it also counts as reaching a little above its median: other sizes, other halves of the corpus,
# half or twice the rate or the batch are healthy too.
_ABOVE = 0.07
_BELOW = 0.06
_NARROWEST = 0.3
_SPEED = 1.6  # and the run may be this much slower or faster than the band
_TOO_SHORT = 0.2  # of the preset's steps; before, the late signs say nothing
_FEWEST_STEPS = 100  # the same, where there is no band


@dataclasses.dataclass(frozen=True)
class Band:
    """What healthy runs of a preset do, on the corpus of stories.

    Attributes:
        seeds: of the runs that the band is made of.
        vocab_size: theirs.
        frequencies: mean loss of a model that knows only how frequent each token is.
        curves: ``train_loss`` and ``grad_norm``, smoothed, and ``validation_loss`` and ``gap``
            (validation minus training loss of an evaluation): (steps, lowest, highest) of each.
        medians: of the same curves, at the same steps. One slow seed in six widens a band; it
            does not move the median.
    """

    preset: str
    seeds: tuple[int, ...]
    vocab_size: int
    frequencies: float
    curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    medians: Mapping[str, np.ndarray]

    @property
    def last_step(self) -> float:
        return float(self.curves["train_loss"][0][-1])

    def at(self, name: str, step: Number) -> tuple[float, float]:
        """The lowest and highest value of a curve.

        After its end a loss goes on to fall with each doubling of the steps as it did with the
        last one; the others stay as they are.
        """
        low, high = (self._at(name, step, edge) for edge in self.curves[name][1:])
        return low, high

    def median(self, name: str, step: Number) -> float:
        """The value of a curve's median, after its end as in ``at``."""
        return self._at(name, step, self.medians[name])

    def _at(self, name: str, step: Number, values: np.ndarray) -> float:
        steps, median = self.curves[name][0], self.medians[name]
        value, end = float(np.interp(step, steps, values)), float(steps[-1])
        if name.endswith("loss") and step > end:
            fall = float(np.interp(end / 2, steps, median) - median[-1])
            value -= fall * math.log2(step / end)
        return value

    def scaled(self, vocab_size: int) -> "Band":
        """For another vocabulary, roughly: losses in proportion to ln V."""
        ratio = math.log(vocab_size) / math.log(self.vocab_size)
        factors = {name: ratio if name.endswith("loss") else 1.0 for name in self.curves}
        return dataclasses.replace(
            self,
            vocab_size=vocab_size,
            frequencies=self.frequencies * ratio,
            curves={
                name: (steps, low * factors[name], high * factors[name])
                for name, (steps, low, high) in self.curves.items()
            },
            medians={name: values * factors[name] for name, values in self.medians.items()},
        )


@functools.cache
def _bands() -> dict[str, Band]:
    content = json.loads(BANDS_FILE.read_text(encoding="utf-8"))
    return {
        preset: Band(
            preset,
            tuple(values["seeds"]),
            values["vocab_size"],
            values["frequencies"],
            {
                name: (np.array(c["step"]), np.array(c["low"]), np.array(c["high"]))
                for name, c in values["curves"].items()
            },
            {name: np.array(c["median"]) for name, c in values["curves"].items()},
        )
        for preset, values in content.items()
    }


def presets_with_a_band() -> list[str]:
    """The presets that a history can be held against."""
    return sorted(_bands())


def smoothing_width(last_step: Number) -> float:
    """Steps over which a run of that length is smoothed."""
    return max(5.0, last_step / 15)


def smooth(steps: np.ndarray, values: np.ndarray, width: Number) -> np.ndarray:
    """At each step, the mean of the values of the last ``width`` steps, itself included."""
    first = np.searchsorted(steps, steps - width, side="right")
    return np.array([values[i : j + 1].mean() for j, i in enumerate(first)])


class _Run:
    """The numbers that the rules look at."""

    def __init__(self, history: History, band: Band | None, vocab_size: int | None) -> None:
        self.band = band
        self.rows = _columns(history.rows, History._COLUMNS, "rows")
        self.evaluations = _columns(history.evaluations, History._EVALUATION_COLUMNS, "evaluations")
        self.steps, self.loss = self.rows["step"], self.rows["train_loss"]
        self.norm, self.rate = self.rows["grad_norm"], self.rows["learning_rate"]
        self.eval_steps = self.evaluations["step"]
        self.eval_train = self.evaluations["train_loss"]
        self.validation = self.evaluations["validation_loss"]
        both = np.concatenate([self.steps, self.eval_steps])
        self.last_step = float(both.max()) if len(both) else 0.0
        width = smoothing_width(band.last_step if band else self.last_step)
        self.smooth_loss = smooth(self.steps, self.loss, width)
        self.peak = float(self.rate.max()) if len(self.rate) else math.nan
        if vocab_size is None and band is not None:
            vocab_size = band.vocab_size
        self.vocab_size = vocab_size
        self.recipe = PRESETS[band.preset].training if band else None

    @property
    def start(self) -> float | None:
        """The loss of a model that knows nothing: ln V, or what an untrained model has."""
        if self.vocab_size is not None:
            return math.log(self.vocab_size)
        if len(self.eval_steps) and self.eval_steps[0] == 0 and self.validation[0] < 13:
            return float(self.validation[0])
        return None

    @property
    def first_loss(self) -> tuple[float, int] | None:
        """The first loss there is, and its step, if it is from the very start."""
        if len(self.eval_steps) and self.eval_steps[0] == 0:
            return float(self.eval_train[0]), 0
        if len(self.steps) and self.steps[0] == 1:
            return float(self.loss[0]), 1
        return None

    @property
    def has_validation(self) -> bool:
        """Whether the last evaluation is recent enough to speak for the run."""
        return len(self.eval_steps) > 0 and bool(self.eval_steps[-1] >= 0.7 * self.last_step > 0)

    @property
    def final(self) -> tuple[str, float, float]:
        """The loss that the run is judged by: its name, value and step."""
        if self.has_validation:
            return "validation_loss", float(self.validation[-1]), float(self.eval_steps[-1])
        return "train_loss", float(self.smooth_loss[-1]), float(self.steps[-1])

    @property
    def tokens_per_step(self) -> float:
        if not len(self.steps) or self.steps[-1] <= 0:
            return float(self.usual_tokens)
        return float(self.rows["tokens"][-1] / self.steps[-1])

    @property
    def usual_tokens(self) -> int:
        """What a step of the preset sees."""
        if self.band is None:
            return 1024
        preset = PRESETS[self.band.preset]
        windows = preset.training.batch_size * preset.training.accumulation_steps
        return windows * preset.model.context_length

    @property
    def is_short(self) -> bool:
        if self.band is not None:
            return self.last_step < _TOO_SHORT * self.band.last_step
        return self.last_step < _FEWEST_STEPS

    def last_fall(self) -> float:
        """How far the loss that the run is judged by fell in the last half of the run."""
        name, value, step = self.final
        if name == "validation_loss":
            return float(np.interp(step / 2, self.eval_steps, self.validation)) - value
        return float(np.interp(step / 2, self.steps, self.smooth_loss)) - value

    def late_norm(self) -> float:
        """Median gradient norm of the last third."""
        return float(np.median(self.norm[self.steps >= self.last_step * 2 / 3]))

    def excess(self) -> float:
        """How far the last loss lies above the band (below: negative; inside: 0).

        The nearest part of the band counts, among steps that a slower or a faster run has reached.
        """
        if self.band is None:
            return 0.0
        name, value, step = self.final
        # Half the tokens in a step are not half the progress, and twice the tokens not twice.
        share = math.sqrt(min(max(self.tokens_per_step / self.usual_tokens, 1 / 3), 3))
        slower, faster = step * min(share, 1) / _SPEED, step * max(share, 1) * _SPEED
        high = max(
            self.band.at(name, slower)[1],
            self.band.median(name, slower) + _NARROWEST,
            self.band.at(name, step)[1],
        )
        low = min(self.band.at(name, faster)[0], self.band.at(name, step)[0])
        return max(value - high, 0.0) + min(value - low, 0.0)

    def is_above(self) -> bool:
        """Whether the loss is too high to be healthy, as far as anybody can say."""
        if self.is_short:
            return False
        if self.band is not None:
            return self.excess() > _ABOVE
        # Without a band: three quarters of ln V are left. Letters of English come to about half.
        return self.start is not None and self.final[1] > 0.75 * self.start


def _columns(
    rows: list[dict[str, Any]], names: tuple[str, ...], where: str
) -> dict[str, np.ndarray]:
    try:
        table = {name: np.array([row[name] for row in rows], dtype=float) for name in names}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"history: its {where} must hold the numbers {', '.join(names)}; {error!r}."
        ) from None
    # Where steps were done twice, after a crash, the later row counts.
    _, last = np.unique(table["step"][::-1], return_index=True)
    return {name: values[::-1][last] for name, values in table.items()}


@dataclasses.dataclass(frozen=True)
class _Finding:
    disease: str
    signs: tuple[str, ...]
    panel: str = "loss"  # or "grad_norm", "learning_rate": where the sign is drawn
    steps: tuple[Number, Number] | None = None  # from where to where


def _nats(value: float) -> str:
    return f"{value:.2f}"


def _against_band(run: _Run) -> str:
    """The last loss, and what it is compared with."""
    name, value, step = run.final
    what = name.replace("_", " ").replace("train ", "training ")
    said = f"The {what} at step {step:.0f} is {_nats(value)}"
    if run.band is not None:
        low, high = run.band.at(name, step)
        return f"{said}; healthy runs of {run.band.preset} have {_nats(low)} to {_nats(high)} there"
    return f"{said}, and knowing nothing gives {_nats(run.start)}" if run.start else said


def _since(run: _Run) -> tuple[float, float]:
    """From where the loss has left the band for good to the end."""
    if run.band is None:
        return run.last_step / 2, run.last_step
    name = run.final[0]
    steps, values = (
        (run.eval_steps, run.validation)
        if name == "validation_loss"
        else (run.steps, run.smooth_loss)
    )
    band = np.array([run.band.at(name, step) for step in steps])
    inside = (values >= band[:, 0] - 0.1) & (values <= band[:, 1] + 0.1)
    left = np.flatnonzero(inside)
    first = steps[min(left[-1] + 1, len(steps) - 1)] if len(left) else steps[0]
    return float(first), run.last_step


# The rules. Each returns what it found, or None.


def _diverged(run: _Run) -> _Finding | None:
    for what, steps, values in (
        ("training loss", run.steps, run.loss),
        ("gradient norm", run.steps, run.norm),
        ("validation loss", run.eval_steps, run.validation),
        ("training loss of an evaluation", run.eval_steps, run.eval_train),
    ):
        broken = np.flatnonzero(~np.isfinite(values))
        if len(broken):
            step = float(steps[broken[0]])
            sign = f"The {what} is {values[broken[0]]} at step {step:.0f}"
            before = run.norm[(run.steps < step) & np.isfinite(run.norm)]
            if len(before):
                sign += f"; the gradient norm of the step before is {before[-1]:.3g}"
            return _Finding("diverged", (f"{sign}.",), "loss", (step, max(step, run.last_step)))
    if not len(run.steps) or run.start is None or run.first_loss is None:
        return None
    value, first = float(run.smooth_loss[-1]), run.first_loss[0]
    if value > run.start + 1 and first < run.start + 0.7:
        lowest = float(run.steps[np.argmin(run.smooth_loss)])
        sign = (
            f"The training loss was {_nats(run.smooth_loss.min())} at step {lowest:.0f} and has "
            f"risen to {_nats(value)}, above the {_nats(run.start)} of knowing nothing."
        )
        return _Finding("diverged", (sign,), "loss", (lowest, run.last_step))
    return None


def _bad_init(run: _Run) -> _Finding | None:
    # Without a vocabulary's size: no vocabulary in use has ln V above 13.
    expected = run.start if run.start is not None else 13.0
    if run.first_loss is None or run.first_loss[0] < expected + 0.7:
        return None
    value, step = run.first_loss
    sign = f"The loss at step {step} is {_nats(value)}; a model that knows nothing has "
    if run.vocab_size is not None:
        sign += f"ln {run.vocab_size} = {_nats(expected)}."
    else:
        sign += "the logarithm of the vocabulary's size, which is at most 13."
    slow = np.flatnonzero(run.smooth_loss < expected)
    until = float(run.steps[slow[0]]) if len(slow) else run.last_step
    return _Finding("bad_init", (sign,), "loss", (0, until))


def _frozen(run: _Run) -> _Finding | None:
    if len(run.rate) and run.peak == 0:
        sign = f"The learning rate is 0 in all {len(run.rate)} rows."
        return _Finding("zero_rate", (sign,), "learning_rate", (0, run.last_step))
    if run.last_step < 20 or len(run.steps) < 2:
        return None
    half = run.steps >= run.last_step / 2
    start, end = float(run.loss[0]), float(run.loss[half].mean())
    spread = float(run.loss.max() - run.loss.min())
    if abs(start - end) > 0.03 or spread > 0.3 or (run.start and end < run.start - 0.5):
        return None
    if run.recipe and run.peak < run.recipe.learning_rate / 20:
        return None  # it moves, but hardly: the rate is why
    if float(np.median(run.norm)) < 0.05:
        return None  # there is no gradient to follow
    sign = (
        f"The training loss is {_nats(start)} at step {run.steps[0]:.0f} and {_nats(end)} on "
        f"average over the last half, though the learning rate goes up to {run.peak:.3g} and the "
        f"gradient norm is {float(np.median(run.norm)):.2f}."
    )
    return _Finding("frozen", (sign,), "loss", (run.last_step * 0.1, run.last_step))


def _double_softmax(run: _Run) -> _Finding | None:
    if run.start is None or not len(run.norm) or run.steps[0] > 5:
        return None
    norm = float(run.norm[:3].mean())
    usual = run.band.at("grad_norm", run.steps[0])[0] if run.band else 0.5
    # Probabilities used as logits lie between 0 and 1, so no loss gets below ln(e + V - 1) - 1.
    floor = run.start - 1.05
    if norm > usual / 10 or float(run.smooth_loss.min()) < floor:
        return None
    sign = (
        f"The gradient norm of the first steps is {norm:.2g}, and healthy runs have about "
        f"{usual:.2g}; the loss never falls more than 1 below the {_nats(run.start)} of knowing "
        "nothing, which is as far as probabilities taken for logits can go."
    )
    return _Finding("double_softmax", (sign,), "grad_norm", (0, run.last_step * 0.1))


def _not_shifted(run: _Run) -> _Finding | None:
    if run.start is None or not len(run.steps):
        return None
    # With one table for reading and writing, each token's own logit is the largest before any
    # training: copying starts with a head start.
    if run.steps[0] == 1:
        # A pretrained model starts low too, but so does its evaluation, and it does not reach 0.
        first = float(run.loss[0])
        untrained = run.eval_train[0] if len(run.eval_steps) and run.eval_steps[0] == 0 else None
        only_here = untrained is not None and untrained > run.start - 0.3
        if first < run.start - 0.3 and (only_here or run.smooth_loss[-1] < 1):
            signs = [
                f"The training loss of the first batch is {_nats(first)}, below the "
                f"{_nats(run.start)} of knowing nothing, before anything was learned: the answer "
                "is in the input.",
                *_copied(run),
            ]
            return _Finding("not_shifted", tuple(signs), "loss", (0, _copied_at(run)))
    at = _copied_at(run)
    if at > 0.4 * run.last_step or float(run.smooth_loss[-1]) > 0.3 or run.is_short:
        return None
    # Who copies never learns what the same batch, again and again, teaches at first: the tokens'
    # frequencies. Only an evaluation from before the loss is at 0 can tell.
    early = (run.eval_steps > 0) & (run.eval_steps <= 1.2 * at)
    learned_nothing = bool(early.any()) and run.validation[early].min() > run.start - 0.5
    shows_elsewhere = run.has_validation and (learned_nothing or run.validation[-1] < 0.3)
    if not shows_elsewhere:
        return None
    return _Finding("not_shifted", tuple(_copied(run)), "loss", (0, at))


def _copied_at(run: _Run) -> float:
    """The step at which the loss is too low for any text."""
    low = np.flatnonzero(run.smooth_loss < 1.0)
    return float(run.steps[low[0]]) if len(low) else run.last_step


def _copied(run: _Run) -> list[str]:
    if float(run.smooth_loss[-1]) > 1:
        return []
    sign = f"At step {_copied_at(run):.0f} the training loss is below 1, and no text is that easy"
    if run.has_validation:
        value = float(run.validation[-1])
        sign += f"; the validation loss ends at {_nats(value)}"
        sign += ", so the same mistake is in the evaluation" if value < 1 else ""
    return [f"{sign}."]


def _same_batch(run: _Run) -> _Finding | None:
    if not run.has_validation or not len(run.steps):
        return None
    later = run.eval_steps > run.last_step * 0.1
    steps = run.eval_steps[later]
    seen = np.interp(steps, run.steps, run.smooth_loss)
    gaps = run.eval_train[later] - seen
    # One evaluation may have caught a bad moment, of which the first steps have many.
    if run.is_short or len(gaps) < 2 or gaps[-2:].min() < 0.7:
        return None
    sign = (
        f"At step {steps[-1]:.0f} the batches that it trains on have a loss of {_nats(seen[-1])}, "
        f"other batches of the same training text have {_nats(float(run.eval_train[-1]))}: it "
        "knows the few that it gets by heart."
    )
    first = float(steps[np.flatnonzero(gaps > 0.4)[0]])
    return _Finding("same_batch", (sign,), "loss", (first, run.last_step))


def _little_text(run: _Run) -> _Finding | None:
    if not run.has_validation:
        return None
    gap = float(run.validation[-1] - run.eval_train[-1])
    usual = max(0.05, run.band.at("gap", run.last_step)[1] if run.band else 0.0)
    if gap < usual + 0.35:
        return None
    lowest = int(np.argmin(run.validation))
    risen = run.validation[-1] > run.validation[lowest] + 0.03
    # The two losses of every long run drift apart; as long as both fall, it learns.
    parted = (
        run.band is not None
        and run.validation[-1] > run.band.median("validation_loss", run.eval_steps[-1]) + 0.1
        and run.eval_train[-1] < run.band.at("validation_loss", run.eval_steps[-1])[0] - 0.1
    )
    if not (risen or parted or gap > 1):
        return None
    sign = (
        f"At step {run.eval_steps[-1]:.0f} the validation loss is {_nats(gap)} above the training "
        f"loss ({_nats(float(run.validation[-1]))} and {_nats(float(run.eval_train[-1]))})"
    )
    if run.band is not None:
        sign += f"; in healthy runs of {run.band.preset} the two are at most {_nats(usual)} apart"
    signs = [f"{sign}."]
    if risen:
        signs.append(
            f"The validation loss was lowest, {_nats(float(run.validation[lowest]))}, at step "
            f"{run.eval_steps[lowest]:.0f} and has risen since."
        )
    apart = np.flatnonzero(run.validation - run.eval_train > usual + 0.15)
    since = float(run.eval_steps[apart[0]])
    return _Finding("little_text", tuple(signs), "loss", (since, run.last_step))


def _leak(run: _Run) -> _Finding | None:
    if run.is_short:
        return None
    if run.band is None:
        # An eleventh of ln V: 0.5 for bytes, 1 for GPT-2's tokens. No text is that easy.
        if run.start is None or not run.has_validation or run.validation[-1] > run.start / 11:
            return None
    elif run.excess() > -_BELOW and not _falls_out_of_the_band(run):
        return None
    signs = [f"{_against_band(run)}. Training and validation loss are both too good to be true."]
    if run.band is not None and _falls_out_of_the_band(run):
        signs.append(
            f"It fell by {_nats(run.last_fall())} in the last half of the run, healthy ones by "
            f"about {_nats(_usual_fall(run, run.band))}: it has found where the answers are."
        )
    return _Finding("leak", tuple(signs), "loss", _since(run))


def _usual_fall(run: _Run, band: Band) -> float:
    name, _, step = run.final
    return band.median(name, step / 2) - band.median(name, step)


def _falls_out_of_the_band(run: _Run) -> bool:
    """Whether a loss below the band was still falling faster than those inside."""
    if run.band is None:
        return False
    name, value, step = run.final
    # A short schedule ends with small steps while the band's runs still take large ones.
    decayed = len(run.rate) > 0 and run.rate[-1] < 0.2 * run.peak
    early = decayed and step < 0.9 * run.band.last_step
    below = value < run.band.at(name, step * (_SPEED if early else 1))[0] - 0.1
    return below and bool(run.last_fall() > 1.3 * _usual_fall(run, run.band))


def _not_zeroed(run: _Run) -> _Finding | None:
    if len(run.norm) < 4 or run.steps[0] != 1 or run.steps[2] != 3:
        return None
    first, second, third = (float(value) for value in run.norm[:3])
    slow_start = run.rate[1] <= 0.25 * run.peak  # else the weights have moved, and the norm too
    # The sum of two gradients that point the same way, the first of them clipped to 1 at most.
    added = min(second, third) - first > 0.5 * min(first, 1.0)
    if not (slow_start and added):
        return None
    if run.band is not None and not run.is_short and not run.is_above():
        return None
    signs = [
        f"The gradient norm is {first:.2f} at step 1, {second:.2f} at step 2 and {third:.2f} at "
        "step 3, while the weights have hardly moved: each step adds to the gradient before."
    ]
    if not run.is_short:
        floor = float(np.quantile(run.norm[run.steps > run.last_step / 3], 0.05))
        if floor > 0.9:
            signs.append(
                f"Later it hardly ever falls below {floor:.2f}: what was clipped to 1 stays."
            )
        signs.append(f"{_against_band(run)}.")
    return _Finding("not_zeroed", tuple(signs), "grad_norm", (1, max(3.0, run.last_step * 0.05)))


def _no_warm_up(run: _Run) -> _Finding | None:
    if not run.is_above() or not len(run.rate) or run.steps[0] > 3:
        return None
    if run.rate[0] < 0.5 * run.peak or not _is_high(run):
        return None
    signs = [
        f"The learning rate is {run.rate[0]:.3g} at step {run.steps[0]:.0f} already, its highest "
        f"value being {run.peak:.3g}; the preset's own is {run.recipe.learning_rate:.3g}."
        if run.recipe
        else f"The learning rate is {run.rate[0]:.3g} at step {run.steps[0]:.0f} already.",
        f"{_against_band(run)}.",
    ]
    return _Finding("no_warm_up", tuple(signs), "learning_rate", (0, run.last_step * 0.1))


def _is_high(run: _Run) -> bool:
    return run.peak > (2.5 * run.recipe.learning_rate if run.recipe else 0.02)


def _rate_too_high(run: _Run) -> _Finding | None:
    if not run.is_above() or not len(run.rate) or not _is_high(run):
        return None
    return _wrong_rate(run, "rate_too_high")


def _rate_too_low(run: _Run) -> _Finding | None:
    if not run.is_above() or not len(run.rate):
        return None
    if run.peak > (run.recipe.learning_rate / 3 if run.recipe else 2e-5):
        return None
    return _wrong_rate(run, "rate_too_low")


def _wrong_rate(run: _Run, disease: str) -> _Finding:
    sign = f"The highest learning rate is {run.peak:.3g}"
    if run.recipe is not None:
        factor = run.peak / run.recipe.learning_rate
        times = f"{factor:.3g} times" if factor > 1 else f"1/{1 / factor:.3g} of"
        sign += f", {times} the preset's {run.recipe.learning_rate:.3g}"
    # The sign is the loss: the rate is only its explanation.
    return _Finding(disease, (f"{_against_band(run)}.", f"{sign}."), "loss", _since(run))


def _small_batch(run: _Run) -> _Finding | None:
    if not run.is_above() or not len(run.steps):
        return None
    usual = run.usual_tokens
    if run.tokens_per_step > usual / 4:
        return None
    around = np.abs(run.loss - run.smooth_loss)[run.steps > run.last_step / 2]
    signs = (
        f"{_against_band(run)}.",
        f"A step sees {run.tokens_per_step:.0f} tokens"
        + (f", the preset's sees {usual}" if run.recipe else "")
        + f"; from one step to the next the loss jumps by {float(around.mean()):.2f} on average.",
    )
    return _Finding("small_batch", signs, "loss", _since(run))


def _stuck(run: _Run) -> _Finding | None:
    """The loss is too high and the recipe's visible part is as it should be."""
    if not run.is_above() or run.band is None or not len(run.steps):
        return None
    norm = run.late_norm()
    low, high = run.band.at("grad_norm", run.last_step)
    signs = [f"{_against_band(run)}."]
    value = run.final[1]
    at_frequencies = abs(value - run.band.frequencies) < 0.15
    compared = f"the gradient norm is {norm:.2f} (healthy: {low:.2f} to {high:.2f})"
    if at_frequencies and norm < 0.6 * low:
        signs.append(
            f"That is the loss of the tokens' frequencies alone, {_nats(run.band.frequencies)}; "
            f"{compared}: there is nothing more to learn."
        )
        return _Finding("shuffled_targets", tuple(signs), "loss", _since(run))
    if norm >= 0.6 * low:
        signs.append(
            f"The learning rate and the batch are the preset's, and {compared}: there is something "
            "to learn, and something takes it back."
        )
        return _Finding("weight_decay", tuple(signs), "loss", _since(run))
    return None


def _unclear(run: _Run) -> _Finding | None:
    if not run.is_above():
        return None
    return _Finding("unclear", (f"{_against_band(run)}.",), "loss", _since(run))


def _too_short(run: _Run) -> _Finding | None:
    if not run.is_short:
        return None
    enough = _TOO_SHORT * run.band.last_step if run.band else _FEWEST_STEPS
    steps = "1 step" if run.last_step == 1 else f"{run.last_step:.0f} steps"
    sign = f"It has done {steps}; most signs need at least {enough:.0f}."
    return _Finding("too_short", (sign,))


def _healthy(run: _Run) -> _Finding:
    sign = _against_band(run)
    if run.band is not None:
        name, value, step = run.final
        low, high = run.band.at(name, step)
        if not low <= value <= high:
            sign += ", and other sizes and settings are as far from them without being ill"
    return _Finding("healthy", (f"{sign}.",))


_RULES: tuple[Callable[[_Run], _Finding | None], ...] = (
    _diverged,
    _bad_init,
    _double_softmax,
    _frozen,
    _not_shifted,
    _same_batch,
    _little_text,
    _leak,
    _not_zeroed,
    _no_warm_up,
    _rate_too_high,
    _rate_too_low,
    _small_batch,
    _stuck,
    _unclear,
    _too_short,
    _healthy,
)


@dataclasses.dataclass(frozen=True)
class Diagnosis:
    """What the doctor says. In a notebook it shows itself with its picture.

    Attributes:
        disease: a key of ``DISEASES``.
        signs: what was seen, a sentence each, with values and steps.
        notes: what the diagnosis could not rest on.
        panels: what is drawn.
    """

    disease: str
    signs: tuple[str, ...]
    notes: tuple[str, ...]
    panels: tuple[curve_plot.Panel, ...] = dataclasses.field(repr=False)

    @property
    def ill(self) -> bool:
        return self.disease not in _NOT_ILL

    @property
    def title(self) -> str:
        return DISEASES[self.disease].title

    @property
    def advice(self) -> str:
        return DISEASES[self.disease].advice

    @property
    def section(self) -> str:
        """The section of the book that says more."""
        return DISEASES[self.disease].section

    def to_dict(self) -> dict[str, Any]:
        """Everything but the picture, as plain values."""
        return {
            "disease": self.disease,
            "ill": self.ill,
            "title": self.title,
            "signs": list(self.signs),
            "advice": self.advice,
            "section": self.section,
            "notes": list(self.notes),
        }

    def text(self, plot: bool = True) -> str:
        """For a terminal."""
        parts = [f"{self.title}.", *self.signs]
        parts.append(f"{'What to do' if self.ill else 'Next'}: {self.advice}")
        parts += [f"Note: {note}" for note in self.notes]
        parts.append(f"The book: section {self.section}.")
        if plot and self.panels:
            parts += [f"\n{curve_plot.letters(panel)}" for panel in self.panels]
        return "\n".join(parts)

    __str__ = text

    def alt(self) -> str:
        """What the picture shows, in words."""
        shown = " and ".join(panel.label.split(" (")[0] for panel in self.panels)
        band = " over the band of healthy runs" if self.panels and self.panels[0].band else ""
        spans = [panel.sign for panel in self.panels if panel.sign is not None]
        sign = "".join(f" Marked: steps {a:.0f} to {b:.0f}." for a, b in spans)
        return f"{shown} of the run by step{band}.{sign} {' '.join(self.signs)}"

    def svg(self, *, inline: bool = False) -> str:
        """The picture: the run, the band, and the sign. See ``curve_plot.svg``.

        Raises:
            ValueError: the history is empty.
        """
        if not self.panels:
            raise ValueError("history is empty: there is nothing to draw.")
        return curve_plot.svg(self.panels, self.title, self.alt(), inline=inline)

    def save_figure(self, path: str | os.PathLike[str]) -> None:
        """Write the picture to a file.

        Raises:
            ValueError: the name does not end in ``.svg``, or the history is empty.
        """
        if Path(path).suffix.lower() != ".svg":
            raise ValueError(f"{path}: the figure is an SVG, so its name must end in .svg.")
        content = self.svg()
        with atomic_write(path) as file:
            file.write(content)

    def _repr_html_(self) -> str:
        paragraphs = [f"<strong>{escape(self.title)}.</strong>", *map(escape, self.signs)]
        paragraphs.append(escape(self.advice))
        paragraphs += [f"<em>{escape(note)}</em>" for note in self.notes]
        paragraphs.append(f"The book: section {self.section}.")
        text = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
        picture = self.svg(inline=True) if self.panels else ""
        return f'<div class="course-diagnosis">{text}{picture}</div>'

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(self.text(plot=False))


def diagnose(
    history: Any,
    preset: str | None = None,
    vocab_size: int | None = None,
) -> Diagnosis:
    """Say whether a run's curves look healthy, and if not, which disease shows.

    Args:
        history: what ``train`` returned, or its ``to_dict``.
        preset: the run's preset; its band of healthy runs on the corpus of stories is what the
            curves are held against. Without one, only the signs that need no band are looked for.
        vocab_size: of the run's tokenizer. Without it, that of the preset; without that either,
            what the untrained model's evaluation says.

    Raises:
        ValueError: the preset is unknown, the vocabulary has fewer than 2 tokens, or the history
            does not hold the columns of a ``History``.
    """
    if preset is not None and preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    if vocab_size is not None and vocab_size < 2:
        raise ValueError(f"vocab_size={vocab_size} is not allowed: it must be at least 2.")
    history = _as_history(history)
    notes = []
    band = _bands().get(preset) if preset is not None else None
    if preset is None:
        notes.append("No preset was named, so there is no band: only signs that need none count.")
    elif band is None:
        notes.append(
            f"There is no band for {preset} (there is for {', '.join(presets_with_a_band())}): "
            "only signs that need none count."
        )
        vocab_size = PRESETS[preset].model.vocab_size if vocab_size is None else vocab_size
    elif vocab_size is not None and vocab_size != band.vocab_size:
        notes.append(
            f"The band is of runs with {band.vocab_size} tokens and this one has {vocab_size}: "
            "the band was scaled by ln V, so it is a rough guide."
        )
        band = band.scaled(vocab_size)
    steps = [row["step"] for row in history.rows if "step" in row]
    if any(b <= a for a, b in itertools.pairwise(steps)):
        notes.append("Some steps are there more than once: the last row of each counts.")
    run = _Run(history, band, vocab_size)
    if not len(run.steps) and not len(run.eval_steps):
        sign = "The history is empty: no step has been done."
        return Diagnosis("too_short", (sign,), tuple(notes), ())
    finding = next(found for rule in _RULES if (found := rule(run)) is not None)
    return Diagnosis(finding.disease, finding.signs, tuple(notes), _panels(run, finding))


def _as_history(history: Any) -> History:
    if isinstance(history, History):
        return history
    try:
        return History.from_dict(history)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            "history is not one: it must be a History, or what its to_dict() gives; "
            f"{type(error).__name__}: {error}."
        ) from None


def _panels(run: _Run, finding: _Finding) -> tuple[curve_plot.Panel, ...]:
    levels: tuple[tuple[str, float], ...] = ()
    if run.start is not None:
        levels += (("knowing nothing", run.start),)
    panels = [
        curve_plot.Panel(
            "loss (nats per token)",
            (run.steps.tolist(), run.smooth_loss.tolist()),
            dots=(run.eval_steps.tolist(), run.validation.tolist()),
            band=_drawn(run.band, "train_loss"),
            levels=levels,
            sign=finding.steps if finding.panel == "loss" else None,
        )
    ]
    if finding.panel == "grad_norm":
        panels.append(
            curve_plot.Panel(
                "gradient norm",
                (run.steps.tolist(), run.norm.tolist()),
                band=_drawn(run.band, "grad_norm"),
                sign=finding.steps,
                logarithmic=True,
            )
        )
    if finding.panel == "learning_rate" or finding.disease.startswith("rate_"):
        panels.append(
            curve_plot.Panel(
                "learning rate",
                (run.steps.tolist(), run.rate.tolist()),
                band=_schedule(run.band),
                sign=finding.steps if finding.panel == "learning_rate" else None,
            )
        )
    return tuple(panels)


def _schedule(band: Band | None) -> tuple[Any, Any, Any] | None:
    """The preset's own learning rate, as a band without width."""
    if band is None:
        return None
    recipe = PRESETS[band.preset].training
    steps = np.unique(np.linspace(1, recipe.max_steps, 60, dtype=int)).tolist()
    rates = [learning_rate_at(step, recipe) for step in steps]
    return steps, rates, rates


def _drawn(band: Band | None, name: str) -> tuple[Any, Any, Any] | None:
    if band is None:
        return None
    steps, low, high = band.curves[name]
    return steps.tolist(), low.tolist(), high.tolist()
