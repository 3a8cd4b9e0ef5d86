"""The exercises of chapter 2: what the checks expect, by another route, and wrong answers.

Right answers by other routes are in ``right_answers/ch02.py``.
"""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from judging import evaluate_at_seeds

from course_pkg.checks import ch02
from course_pkg.checks.engine import find_exercise

PAGE = Path(__file__).parents[1] / "solutions" / "02_causal_attention.md"

# What the checks expect, by another route


def test_mixture_is_that_of_torch():
    generator = torch.Generator().manual_seed(1)
    for queries, keys, values in ch02._queries_keys_values(generator):
        expected = F.scaled_dot_product_attention(queries, keys, values)
        torch.testing.assert_close(ch02.scaled_dot_product(queries, keys, values), expected)


def test_masked_weights_are_those_of_torch():
    generator = torch.Generator().manual_seed(1)
    for scores, is_real in ch02._padded_scores(generator):
        allowed = torch.ones_like(scores, dtype=torch.bool).tril() & is_real[:, None]
        unit = torch.eye(scores.shape[-1]).expand_as(scores)
        # queries that are the scores and keys that are unit vectors give back the scores
        expected = F.scaled_dot_product_attention(scores, unit, unit, allowed, scale=1.0)
        torch.testing.assert_close(ch02.masked_weights(scores, is_real), expected)


def signs_of(weights):
    """The faults that a reader who follows the descriptions would name, from the map alone."""
    size = len(weights)
    rows, columns = weights.sum(dim=1), weights.sum(dim=0)
    later = weights.triu(1) != 0
    inside = weights.tril() == 0
    past = [weights[i, : i + 1] for i in range(2, size)]
    return {
        "no mask": bool(later.triu(2).all(dim=None) or later[0].sum() == size - 1),
        "mask one place too far": bool(later.diagonal(1).all() and not later.triu(2).any()),
        "own token masked": bool((weights.diagonal() == 0).all() or weights.isnan().any()),
        "zeroed after the softmax": bool(
            (rows[:-1] < 0.99).all() and (columns < 0.99).any() and not inside.tril().any()
        ),
        "softmax over the queries": bool(torch.allclose(columns, torch.ones(size))),
        "scores not scaled": all(row.max() > 0.55 for row in past)
        and bool(torch.allclose(rows, torch.ones(size))),
        "scores divided by d": all(row.max() < 2 * row.min() for row in past),
        "dropout left on": bool((weights.tril() == 0).tril().logical_and(_lower(size)).any()),
    }


def _lower(size):
    return torch.ones(size, size, dtype=torch.bool).tril()


@pytest.mark.parametrize("letter", ch02._MAPS)
def test_each_map_shows_its_fault_and_no_other(letter):
    fault, weights = ch02._MAPS[letter], ch02.attention_maps()[letter]
    shown = {name for name, shows in signs_of(weights).items() if shows}
    assert shown == ({fault} - {"no fault"})


def test_faults_that_no_map_has_would_show_too():
    for fault in set(ch02.FAULTS) - set(ch02._MAPS.values()):
        shown = {name for name, shows in signs_of(ch02._map_with(fault)).items() if shows}
        assert fault in shown


def test_the_page_names_every_fault_and_shows_none():
    page = PAGE.read_text("utf-8")
    for name in ch02.FAULTS:
        assert f"`{name}`" in page
    prompt = page[
        page.index("## Six maps") : page.index("### BEGIN SOLUTION", page.index("## Six"))
    ]
    assert not any(f'"{name}"' in prompt for name in ch02.FAULTS)


# Wrong in ways that no misconception foresees


def dropout_of_whole_rows(scores, values, p, training):
    weights = torch.softmax(scores, dim=-1)
    if training:
        weights = weights * (torch.rand(weights.shape[:-1]) >= p)[..., None] / (1 - p)
    return weights @ values


def mixture_in_float32(queries, keys, values):
    mixed = ch02.scaled_dot_product(queries.float(), keys.float(), values.float())
    return mixed.to(torch.bfloat16).to(values.dtype)


def mixture_without_gradients(queries, keys, values):
    return ch02.scaled_dot_product(queries.detach(), keys, values)


def masked_by_the_first_text(scores, is_real):
    return ch02.masked_weights(scores, is_real[:1].expand_as(is_real))


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("02.past_average", lambda x: x),
        ("02.softmax", lambda scores: torch.sigmoid(scores)),
        ("02.causal_weights", lambda queries, keys: torch.eye(queries.shape[1])),
        ("02.leak", lambda queries, keys, values: values),
        ("02.attention_dropout", dropout_of_whole_rows),
        ("02.shapes", {"queries": (3, 7, 5)}),
        ("02.shapes", [(5, 16), (3, 7, 5), (3, 7, 7), (7, 7), (3, 7, 5)]),
        ("02.scaled_dot_product", lambda queries, keys, values: values),
        ("02.scaled_dot_product", mixture_in_float32),
        ("02.scaled_dot_product", mixture_without_gradients),
        ("02.mask", lambda scores, is_real: scores),
        ("02.mask", masked_by_the_first_text),
        ("02.read_maps", {**ch02._MAPS, "A": "no idea"}),
        ("02.read_maps", {**ch02._MAPS, "A": ["no mask"]}),
        ("02.read_maps", {"A": ch02._MAPS["A"]}),
        ("02.read_maps", list(ch02._MAPS.values())),
        ("02.initial_spread", {**ch02._SPREAD, "spread": 0.4}),
        ("02.initial_spread", {"spread": 0.33, "largest": 0.11}),
        ("02.initial_spread", 1 / 3),
    ],
)
def test_wrong_answers_fail(exercise_id, answer):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert report.status == "failed"


def test_a_wrong_prediction_is_not_told_the_right_one():
    for exercise_id in ("02.shapes", "02.read_maps", "02.initial_spread"):
        for misconception in find_exercise(exercise_id).misconceptions:
            for report in evaluate_at_seeds(exercise_id, misconception.answer):
                messages = "\n".join(o.message for o in report.outcomes if o.message)
                assert "expected" not in messages
