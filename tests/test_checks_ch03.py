"""Chapter 3: its page's code, right answers by any route, and wrong ones of no known kind."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from judging import evaluate_at_seeds
from torch import nn

from course_pkg import CausalAttention, MultiHeadAttention
from course_pkg.authoring.exercises import read_solutions
from course_pkg.checks import ch03


def test_the_faulty_code_of_the_page_is_the_one_that_is_diagnosed():
    page = read_solutions(Path(__file__).parents[1] / "solutions" / "03_multi_head_attention.md")
    (exercise,) = [e for e in page.exercises if e.id == "03.wrong_view"]
    (source,) = [c.source for c in exercise.cells if "def faulty_heads" in c.source]
    names = {"torch": torch, "nn": nn, "math": math}
    exec(compile(source, "<cell>", "exec"), names)
    report, *_ = evaluate_at_seeds("03.wrong_view", list(names.values())[-1])
    assert [d.partition(".")[0] for d in report.diagnoses] == ["Nothing is repaired yet"]
    held = {outcome.name for outcome in report.outcomes if outcome.holds}
    assert {"no future", "one head"} <= held and "whole past" not in held  # as its text says


# Right by another route


def split_in_a_loop(x, num_heads):
    return torch.stack(x.split(x.shape[-1] // num_heads, dim=-1), dim=1)


def split_by_permute(x, num_heads):
    B, T, D = x.shape
    return x.double().contiguous().view(B, T, num_heads, D // num_heads).permute(0, 2, 1, 3)


def split_element_by_element(x, num_heads):
    B, T, D = x.shape
    Dh = D // num_heads
    heads = torch.empty(B, num_heads, T, Dh)
    for h in range(num_heads):
        for d in range(Dh):
            heads[:, h, :, d] = x[:, :, h * Dh + d]
    return heads


def merge_in_a_loop(x):
    return torch.cat([x[:, h] for h in range(x.shape[1])], dim=-1)


def merge_by_contiguous_view(x):
    B, H, T, Dh = x.shape
    return x.transpose(1, 2).contiguous().view(B, T, H * Dh)


def merge_by_einsum(x):
    _, H, _, Dh = x.shape
    place = torch.eye(H * Dh).view(H, Dh, H * Dh)
    return torch.einsum("bhtd,hde->bte", x, place)


def project_by_linear(x, weight, num_heads):
    parts = F.linear(x, weight).tensor_split(3, dim=-1)
    return [split_in_a_loop(part, num_heads) for part in parts]


def project_head_by_head(x, weight, num_heads):
    blocks = weight.view(3, num_heads, -1, weight.shape[1])
    return tuple(torch.einsum("btk,hdk->bhtd", x, block) for block in blocks)


def project_in_double(x, weight, num_heads):
    parts = (weight.double() @ x.double().mT).mT.chunk(3, dim=2)
    return tuple(split_in_a_loop(part, num_heads) for part in parts)


def from_torch_by_slices(state_dict):
    D = state_dict["out_proj.bias"].numel()
    result = {}
    for i, name in enumerate(("W_query", "W_key", "W_value")):
        result[f"{name}.weight"] = state_dict["in_proj_weight"][i * D : (i + 1) * D].clone()
        result[f"{name}.bias"] = state_dict["in_proj_bias"][i * D : (i + 1) * D].clone()
    result |= {key: value for key, value in state_dict.items() if key.startswith("out_proj")}
    return result


def from_torch_through_the_layer(state_dict):
    D = state_dict["out_proj.bias"].numel()
    layer = MultiHeadAttention(D, D, 3, 0.0, 2, qkv_bias=True)
    for start, linear in enumerate((layer.W_query, layer.W_key, layer.W_value)):
        rows = torch.arange(start * D, (start + 1) * D)
        linear.weight.data = state_dict["in_proj_weight"][rows]
        linear.bias.data = state_dict["in_proj_bias"][rows]
    layer.out_proj.weight.data = state_dict["out_proj.weight"]
    layer.out_proj.bias.data = state_dict["out_proj.bias"]
    return layer.state_dict()


def heads_fused(queries, keys, values, num_heads):
    parts = [split_in_a_loop(t, num_heads) for t in (queries, keys, values)]
    return merge_in_a_loop(F.scaled_dot_product_attention(*parts, is_causal=True))


def heads_in_a_loop(queries, keys, values, num_heads):
    d = queries.shape[-1]
    size, outputs = d // num_heads, []
    eye = torch.eye(d)
    for h in range(num_heads):
        rows = eye[h * size : (h + 1) * size]
        head = CausalAttention(d, size, context_length=queries.shape[1], dropout=0.0)
        for linear in (head.W_query, head.W_key, head.W_value):
            linear.weight.data = rows
        q, k, v = head.W_query(queries), head.W_key(keys), head.W_value(values)
        scores = (q @ k.mT / math.sqrt(size)).masked_fill(~head.allowed, -torch.inf)
        outputs.append(scores.softmax(dim=-1) @ v)
    return torch.cat(outputs, dim=-1)


def heads_by_einsum(queries, keys, values, num_heads):
    q, k, v = [t.unflatten(-1, (num_heads, -1)) for t in (queries, keys, values)]  # (B, T, H, Dh)
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * q.shape[-1] ** -0.5
    T = scores.shape[-1]
    weights = (scores + torch.full((T, T), -torch.inf).triu(1)).softmax(-1)
    return torch.einsum("bhij,bjhd->bihd", weights, v).flatten(2)


def previous_in_a_loop(weights):
    B, H, T, _ = weights.shape
    sums = torch.zeros(H, dtype=torch.float64)
    for b in range(B):
        for i in range(1, T):
            sums += weights[b, :, i, i - 1]
    return sums / (B * (T - 1))


def previous_by_indexing(weights):
    i = torch.arange(1, weights.shape[-1])
    return weights[:, :, i, i - 1].mean(-1).mean(0)


def previous_by_trace(weights):
    below = weights[:, :, 1:, :-1]
    return torch.einsum("bhii->h", below) / (below.shape[0] * below.shape[-1])


ALTERNATIVES = {
    "03.shapes": [
        lambda: {name: torch.Size(shape) for name, shape in ch03._SHAPES.items()},
        {name: list(shape) for name, shape in ch03._SHAPES.items()},
    ],
    "03.split_heads": [split_in_a_loop, split_by_permute, split_element_by_element],
    "03.merge_heads": [merge_in_a_loop, merge_by_contiguous_view, merge_by_einsum],
    "03.one_projection": [project_by_linear, project_head_by_head, project_in_double],
    "03.from_torch": [from_torch_by_slices, from_torch_through_the_layer],
    "03.wrong_view": [heads_fused, heads_in_a_loop, heads_by_einsum],
    "03.heads": [previous_in_a_loop, previous_by_indexing, previous_by_trace],
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


def heads_reversed(x, num_heads):
    return split_in_a_loop(x, num_heads).flip(1)


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
        ("03.split_heads", split_of_a_contiguous_input_only),
        ("03.merge_heads", lambda x: merge_in_a_loop(x.flip(1))),
        ("03.one_projection", lambda x, weight, num_heads: x @ weight.T),
        ("03.from_torch", names_only),
        ("03.from_torch", lambda state_dict: state_dict),
        ("03.wrong_view", lambda queries, keys, values, num_heads: values),
        ("03.heads", lambda weights: weights.diagonal(-1, -2, -1).mean()),
    ],
)
def test_wrong_answers_fail(exercise_id, answer):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert report.status == "failed"
