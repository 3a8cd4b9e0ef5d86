"""The exercises of chapter 6: right answers pass by any route, wrong ones fail and are told why."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judging import evaluate_at_seeds
from torch import nn

from course_pkg.checks import ch06

# Right by another route


def loss_by_flattening(logits, ids, mask):
    targets = torch.where(mask[:, 1:], ids[:, 1:], -100)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=-100)


def loss_in_a_loop(logits, ids, mask):
    losses = []
    for b in range(ids.shape[0]):
        for i in range(ids.shape[1] - 1):
            if mask[b, i + 1]:
                losses.append(-F.log_softmax(logits[b, i].double(), dim=0)[ids[b, i + 1]].item())
    return sum(losses) / len(losses)


def loss_in_numpy(logits, ids, mask):
    z = logits.numpy()[:, :-1]
    z = z - z.max(axis=-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(log_p, ids.numpy()[:, 1:, None], axis=-1)[..., 0]
    real = mask.numpy()[:, 1:]
    return -(picked * real).sum() / real.sum()


def rate_by_interpolation(step, peak, warmup, decay, total):
    if warmup == 0:
        return float(np.interp(step, [total - decay, total], [peak, 0.0]))
    return float(np.interp(step, [0, warmup, total - decay, total], [0.0, peak, peak, 0.0]))


def rate_in_cases(step, peak, warmup, decay, total):
    if step >= total:
        return 0
    if warmup and step < warmup:
        return peak * (step / warmup)
    left = total - step
    return peak if left > decay else peak * left / decay


def combine_by_tensordot(gradients, counts):
    n = torch.tensor(counts, dtype=torch.float64)
    stacked = torch.nan_to_num(torch.stack(gradients)).double()
    return torch.tensordot(n / n.sum(), stacked, dims=1)


def combine_one_by_one(gradients, counts):
    mean, seen = torch.zeros_like(gradients[0]), 0
    for gradient, count in zip(gradients, counts, strict=True):
        if count:
            seen += count
            mean = mean + (gradient - mean) * count / seen
    return mean


def min_p_on_logits(logits, temperature, min_p):
    scaled = logits / temperature
    margin = -math.log(min_p) if min_p else math.inf
    too_low = scaled < scaled.max(dim=-1, keepdim=True).values - margin
    return scaled.masked_fill(too_low, -torch.inf).softmax(dim=-1)


def min_p_row_by_row(logits, temperature, min_p):
    rows = []
    for row in logits.double():
        p = torch.softmax(row / temperature, dim=0)
        kept = torch.where(p >= min_p * p.max(), p, 0)
        rows.append(kept / kept.sum())
    return torch.stack(rows)


def updates_by_formula():
    corrected_mean = (0.9 * 0.1 - 0.1) / (1 - 0.9**2)
    return {"first": 1, "thousandfold": 1, "flipped": corrected_mean}


ALTERNATIVES = {
    "06.shifted_cross_entropy": [loss_by_flattening, loss_in_a_loop, loss_in_numpy],
    "06.perplexity": [
        {"first_loss": 8.32, "perplexity": 4, "bits_per_byte": 0.5},
        lambda: {"first_loss": 12 * math.log(2), "perplexity": 16**0.5, "bits_per_byte": 2 / 4},
    ],
    "06.learning_rate": [rate_by_interpolation, rate_in_cases],
    "06.accumulate": [combine_by_tensordot, combine_one_by_one],
    "06.sample": [min_p_on_logits, min_p_row_by_row],
    "06.diagnose": [
        {name: finding.upper() for name, finding in ch06._DIAGNOSES.items()},
        lambda: dict(ch06._DIAGNOSES),
    ],
    "06.first_update": [updates_by_formula, updates_by_formula()],
}


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        pytest.param(exercise_id, answer, id=f"{exercise_id}-{number}")
        for exercise_id, answers in ALTERNATIVES.items()
        for number, answer in enumerate(answers)
    ],
)
def test_right_by_another_route_passes(exercise_id, answer):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert report.status == "passed", report.text()


# Wrong in ways that no misconception foresees


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("06.shifted_cross_entropy", lambda logits, ids, mask: logits.mean()),
        ("06.perplexity", {"first_loss": 8.32, "perplexity": 4.0}),
        ("06.perplexity", 4.0),
        ("06.learning_rate", lambda step, peak, warmup, decay, total: peak),
        ("06.accumulate", lambda gradients, counts: gradients[0]),
        ("06.sample", lambda logits, temperature, min_p: torch.softmax(logits, dim=-1)),
        ("06.diagnose", dict.fromkeys("ABCDE", "healthy")),
        ("06.diagnose", {**ch06._DIAGNOSES, "A": "bad luck"}),
        ("06.diagnose", "leak"),
        ("06.first_update", {"first": 0.02, "thousandfold": 20.0, "flipped": -0.02}),
        ("06.first_update", [1, 1, -0.05]),
    ],
)
def test_wrong_answers_fail(exercise_id, answer):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert report.status == "failed"


def test_a_module_is_no_answer():
    for report in evaluate_at_seeds("06.accumulate", nn.Linear(2, 2)):
        assert report.status == "failed"
