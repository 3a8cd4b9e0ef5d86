"""Chapter 3: its page's code, and wrong answers of no known kind."""

import math
from pathlib import Path

import pytest
import torch
from judging import evaluate_at_seeds
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from course_pkg.authoring.exercises import read_solutions
from course_pkg.checks import ch03


def given_sources(exercise_id):
    page = read_solutions(Path(__file__).parents[1] / "solutions" / "03_multi_head_attention.md")
    (exercise,) = [e for e in page.exercises if e.id == exercise_id]
    return [cell.source for cell in exercise.cells if cell.cell_type == "code"]


def test_the_faulty_code_of_the_page_is_the_one_that_is_diagnosed():
    (source,) = [s for s in given_sources("03.wrong_view") if "def faulty_heads" in s]
    names = {"torch": torch, "nn": nn, "math": math}
    exec(compile(source, "<cell>", "exec"), names)
    report, *_ = evaluate_at_seeds("03.wrong_view", list(names.values())[-1])
    assert [d.partition(".")[0] for d in report.diagnoses] == ["Nothing is repaired yet"]
    held = {outcome.name for outcome in report.outcomes if outcome.holds}
    assert {"no future", "one head"} <= held and "whole past" not in held  # as its text says


# Wrong in ways that no misconception foresees


def heads_reversed(x, num_heads):
    return ch03.split_heads(x, num_heads).flip(1)


def split_of_a_contiguous_input_only(x, num_heads):
    B, T, D = x.shape
    return x.as_strided((B, num_heads, T, D // num_heads), (T * D, D // num_heads, D, 1))


def names_only(state_dict):
    return {name: torch.zeros_like(tensor) for name, tensor in ch03.from_torch(state_dict).items()}


@pytest.mark.parametrize(
    ("exercise_id", "answer"),
    [
        ("03.shapes", {"queries": (3, 4, 7, 6)}),
        ("03.shapes", [(24, 16), (3, 4, 7, 6), (3, 4, 7, 7), (7, 7), (3, 7, 24)]),
        ("03.split_heads", heads_reversed),
        ("03.merge_heads", lambda x: ch03.merge_heads(x.flip(1))),
        ("03.one_projection", lambda x, weight, num_heads: x @ weight.T),
        ("03.multi_head_attention", ch03.attention.MultiHeadAttention),
        ("03.from_torch", names_only),
        ("03.from_torch", lambda state_dict: state_dict),
        ("03.wrong_view", lambda queries, keys, values, num_heads: values),
        ("03.cost", {**ch03._COST, "crossover": math.nan}),
        ("03.cost", {**ch03._COST, "kept_heads": 1 / ch03._COST["kept_heads"]}),
        ("03.cost", 192),
        ("03.heads", lambda weights: weights.diagonal(-1, -2, -1).mean()),
    ],
)
def test_wrong_answers_fail(exercise_id, answer):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert report.status == "failed"


# Wrong in one respect alone


def split_of_32_bits(x, num_heads):
    return ch03.split_heads(x.float(), num_heads)


def split_without_gradient(x, num_heads):
    return ch03.split_heads(x.detach(), num_heads)


def split_that_drops_an_axis_of_one(x, num_heads):
    return ch03.split_heads(x, num_heads).squeeze(1)


def merge_of_32_bits(x):
    return ch03.merge_heads(x.float())


def merge_without_gradient(x):
    return ch03.merge_heads(x.detach())


def merge_with_strides_by_hand(x):
    B, H, T, Dh = x.shape
    heads_last = x.as_strided((B, T, H, Dh), (H * T * Dh, Dh, T * Dh, 1))
    return heads_last.flatten(2)


def merge_that_drops_an_axis_of_one(x):
    return ch03.merge_heads(x).squeeze(0)


def project_with_a_frozen_weight(x, weight, num_heads):
    return ch03.project_heads(x, weight.detach(), num_heads)


def project_in_32_bits(x, weight, num_heads):
    return ch03.project_heads(x.float(), weight.float(), num_heads)


def from_torch_in_16_bits_and_back(state_dict):
    return {name: tensor.float() for name, tensor in ch03.from_torch(state_dict).items()}


def repaired_in_32_bits(queries, keys, values, num_heads):
    return ch03.repaired_heads(queries.float(), keys.float(), values.float(), num_heads)


def repaired_without_gradient(queries, keys, values, num_heads):
    past = torch.cat([values[:, :1].detach(), values[:, 1:]], dim=1)
    return ch03.repaired_heads(queries, keys, past, num_heads)


class LayerWithFrozenValues(ch03.MultiHeadAttention):
    def forward(self, x):
        self.W_value.requires_grad_(False)
        return super().forward(x)


class LayerOf32Bits(ch03.MultiHeadAttention):
    def scaled(self, scores):
        return super().scaled(scores).float().to(scores.dtype)


class LayerThatDropsFeatures(ch03.MultiHeadAttention):
    def dropped(self, weights):
        return weights

    def merge(self, x):
        return super().merge(self.dropout(x))


@pytest.mark.parametrize(
    ("exercise_id", "answer", "failing"),
    [
        ("03.split_heads", split_of_32_bits, {"64 bits"}),
        ("03.split_heads", split_without_gradient, {"gradient"}),
        ("03.split_heads", split_that_drops_an_axis_of_one, {"extremes"}),
        ("03.split_heads", split_of_a_contiguous_input_only, {"memory"}),
        ("03.merge_heads", merge_of_32_bits, {"64 bits"}),
        ("03.merge_heads", merge_without_gradient, {"gradient"}),
        ("03.merge_heads", merge_that_drops_an_axis_of_one, {"extremes"}),
        ("03.merge_heads", merge_with_strides_by_hand, {"memory"}),
        ("03.one_projection", project_with_a_frozen_weight, {"gradient"}),
        ("03.one_projection", project_in_32_bits, {"64 bits"}),
        ("03.multi_head_attention", ch03._AlwaysDropping, {"in use"}),
        ("03.multi_head_attention", ch03._NeverDropping, {"dropout"}),
        ("03.multi_head_attention", LayerThatDropsFeatures, {"dropout"}),
        ("03.multi_head_attention", LayerWithFrozenValues, {"gradients"}),
        ("03.multi_head_attention", LayerOf32Bits, {"64 bits"}),
        ("03.from_torch", from_torch_in_16_bits_and_back, {"64 bits"}),
        ("03.wrong_view", repaired_in_32_bits, {"64 bits"}),
        ("03.wrong_view", repaired_without_gradient, {"gradient"}),
    ],
)
def test_a_property_can_be_the_only_one_to_fail(exercise_id, answer, failing):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert {outcome.name for outcome in report.outcomes if not outcome.holds} - {
            "inputs"
        } == failing


# What the checks take for granted


@pytest.mark.parametrize("num_heads", [1, 4, 16])
def test_operations_are_what_the_counter_of_pytorch_counts(num_heads):
    for num_tokens in (192, 256):
        x, matrices = torch.randn(1, num_tokens, 96), torch.randn(4, 96, 96)
        with FlopCounterMode(display=False) as counter:
            page_names()["attention"](x, matrices, num_heads)
        assert counter.get_total_flops() == ch03._flops(num_tokens)
    assert ch03._flops(192) == 2 * 192 * 4 * 2 * 96**2  # at the crossover, half is attention


@pytest.mark.parametrize("num_heads", [4, 16])
def test_numbers_kept_are_what_the_function_of_the_page_counts(num_heads):
    kept = page_names()["numbers_kept"](256, num_heads)
    assert kept == ch03._numbers_kept(256, num_heads)


def page_names():
    """What the given cells of the exercise on cost define."""
    names = {"torch": torch, "nn": nn, "math": math}
    (source,) = [s for s in given_sources("03.cost") if "def numbers_kept" in s]
    exec(compile(source, "<cell>", "exec"), names)
    return names
