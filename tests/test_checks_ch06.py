"""The exercises of chapter 6: wrong answers fail, and the measured curves show their faults."""

import math
from itertools import pairwise

import pytest
import torch
from judging import evaluate_at_seeds
from torch import nn

from course_pkg.checks import ch06
from course_pkg.checks.engine import evaluate, find_exercise

# Wrong in ways that no misconception foresees


class OnlyCountsSteps(ch06.Run):
    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("06.shifted_cross_entropy", lambda logits, ids, mask: logits.mean()),
        ("06.perplexity", {"first_loss": 8.32, "perplexity": 4.0}),
        ("06.perplexity", 4.0),
        ("06.learning_rate", lambda step, peak, warmup, decay, total: peak),
        ("06.decay_groups", lambda model, weight_decay: list(model.parameters())),
        ("06.decay_groups", lambda model, weight_decay: ch06.decay_groups(model, weight_decay)[:1]),
        ("06.decay_groups", lambda model, weight_decay: [{"params": model.parameters()}]),
        ("06.warmup_cosine", lambda step, peak, low, warmup, cycle: peak),
        ("06.clip", lambda gradients, max_norm: gradients),
        ("06.clip", lambda gradients, max_norm: ch06.clip(gradients, max_norm)[0]),
        ("06.clip", lambda gradients, max_norm: ch06.clip(gradients, 2 * max_norm)),
        ("06.accumulate", lambda gradients, counts: gradients[0]),
        ("06.evaluate", lambda model, batches: 2.0),
        ("06.cut_the_tail", lambda logits, *rules: torch.softmax(logits, dim=-1)),
        ("06.resume", OnlyCountsSteps),
        ("06.read_curves", dict.fromkeys("ABCDEF", "healthy")),
        ("06.read_curves", {**ch06._CURVES, "B": "gremlins"}),
        ("06.read_curves", "FEDCBA"),
        ("06.sample", lambda logits, temperature, min_p: torch.softmax(logits, dim=-1)),
        ("06.diagnose", dict.fromkeys("ABCDE", "healthy")),
        ("06.diagnose", {**ch06._DIAGNOSES, "A": "bad luck"}),
        ("06.diagnose", "leak"),
        ("06.first_update", {"first": 0.02, "thousandfold": 20.0, "flipped": -0.02, "coasting": 0}),
        ("06.first_update", [1, 1, -0.05]),
    ],
)
def test_wrong_answers_fail(exercise_id, answer):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert report.status == "failed"


def test_a_module_is_no_answer():
    for report in evaluate_at_seeds("06.accumulate", nn.Linear(2, 2)):
        assert report.status == "failed"


@pytest.mark.parametrize("exercise_id", ["06.decay_groups", "06.evaluate", "06.resume"])
def test_the_global_random_state_stays(exercise_id):
    before = torch.get_rng_state()
    evaluate_at_seeds(exercise_id, lambda *inputs: torch.rand(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_adam_updates_are_those_of_the_formula():
    beta1, beta2 = 0.9, 0.95

    def second(g):
        """Adam's second update after a first gradient of 1, by equation 6.3 of the chapter."""
        mean = (beta1 * (1 - beta1) + (1 - beta1) * g) / (1 - beta1**2)
        square = (beta2 * (1 - beta2) + (1 - beta2) * g**2) / (1 - beta2**2)
        return mean / math.sqrt(square)

    expected = {"first": 1, "thousandfold": 1, "flipped": second(-1), "coasting": second(0)}
    measured = dict(ch06._UPDATES)
    assert measured == pytest.approx(expected, rel=1e-5)


# What each curve of 06.read_curves shows, and no other


def steps(losses, first, last):
    """The mean loss of the steps from first to last, both counted from 1."""
    return sum(losses[first - 1 : last]) / (last - first + 1)


@pytest.fixture(scope="module")
def curves():
    return ch06.measured_curves()


def showing(curves, sign):
    return {ch06.CURVE_FAULTS[run] for run, losses in curves["losses"].items() if sign(losses)}


def test_there_is_a_curve_for_each_fault(curves):
    assert curves["losses"].keys() == ch06.CURVE_FAULTS.keys()
    assert all(len(losses) == 240 for losses in curves["losses"].values())


def test_large_initial_weights_show_in_the_first_loss(curves):
    known_nothing = math.log(curves["vocab_size"])
    shown = showing(curves, lambda losses: abs(losses[0] - known_nothing) > 0.5)
    assert shown == {"initial weights too large"}


def test_weights_that_are_never_updated_show_in_a_loss_that_stays(curves):
    known_nothing = math.log(curves["vocab_size"])
    shown = showing(curves, lambda losses: all(abs(loss - known_nothing) < 0.2 for loss in losses))
    assert shown == {"weights never updated"}


def test_a_low_rate_shows_in_a_slow_fall(curves):
    level = curves["frequency_loss"]

    def falls_slowly(losses):
        fifths = [steps(losses, n, n + 39) for n in range(1, 241, 40)]
        return all(b < a for a, b in pairwise(fifths)) and fifths[-1] > level + 0.3

    # The one that stands still falls by chance, too little to be seen.
    assert showing(curves, falls_slowly) - {"weights never updated"} == {"learning rate too low"}


def test_wrong_targets_show_in_the_loss_of_the_frequencies(curves):
    level = curves["frequency_loss"]

    def ends_there(losses):
        return all(abs(steps(losses, n, n + 39) - level) < 0.1 for n in range(81, 241, 40))

    assert showing(curves, ends_there) == {"targets of other windows"}


def test_an_older_checkpoint_shows_in_a_jump(curves):
    def jumps(losses):
        return steps(losses, 121, 130) > steps(losses, 111, 120) + 0.5

    assert showing(curves, jumps) == {"resumed from an older checkpoint"}


def test_a_leak_shows_in_a_loss_too_good_after_a_start_like_the_healthy_one(curves):
    healthy = curves["losses"]["healthy"]

    def leaves_the_healthy_one(losses):
        alike = abs(steps(losses, 41, 60) - steps(healthy, 41, 60)) < 0.15
        return alike and steps(losses, 221, 240) < steps(healthy, 221, 240) - 1

    assert showing(curves, leaves_the_healthy_one) == {"leak"}


def test_the_healthy_run_shows_nothing(curves):
    healthy = curves["losses"]["healthy"]
    tens = [steps(healthy, n, n + 29) for n in range(1, 241, 30)]
    assert all(b < a for a, b in pairwise(tens))
    assert tens[-1] < curves["frequency_loss"] - 1


@pytest.mark.parametrize("number", [10**290, -(2**63) - 1, 2**63])
def test_a_number_that_no_tensor_holds_is_wrong_and_nothing_else(number):
    report = evaluate(find_exercise("06.shifted_cross_entropy"), lambda logits, ids, mask: number)
    assert report.status == "failed"
    assert not report.outcomes[0].holds
