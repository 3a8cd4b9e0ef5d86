"""The exercises of chapter 2: right answers pass by any route, wrong ones fail and are told why."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from judging import evaluate_at_seeds
from torch import nn

from course_pkg import CausalAttention
from course_pkg.checks import ch02

# Right by another route


def past_average_in_a_loop(x):
    means = [x[:, : i + 1].mean(dim=1) for i in range(x.shape[1])]
    return torch.stack(means, dim=1)


def past_average_by_softmax(x):
    T = x.shape[1]
    scores = torch.zeros(T, T).masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf)
    return torch.einsum("ij,bjd->bid", torch.softmax(scores, -1), x)


def past_average_recursively(x):
    y = torch.empty_like(x, dtype=torch.float64)
    mean = torch.zeros_like(x[:, 0], dtype=torch.float64)
    for i in range(x.shape[1]):
        mean = mean + (x[:, i] - mean) / (i + 1)
        y[:, i] = mean
    return y


def softmax_by_logsumexp(scores):
    return torch.exp(scores - torch.logsumexp(scores, dim=-1, keepdim=True))


def softmax_in_double(scores):
    scores = scores.double()
    powers = torch.exp(scores - scores.amax(-1, keepdim=True))
    return powers / powers.sum(-1, keepdim=True)


def softmax_in_numpy(scores):
    scores = scores.numpy()
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return torch.from_numpy(powers / powers.sum(axis=-1, keepdims=True))


def weights_in_a_loop(queries, keys):
    B, T, d = queries.shape
    weights = torch.zeros(B, T, T)
    for b in range(B):
        for i in range(T):
            scores = keys[b, : i + 1] @ queries[b, i] / d**0.5
            weights[b, i, : i + 1] = torch.softmax(scores, dim=0)
    return weights


def weights_renormalised(queries, keys):
    scores = torch.einsum("bid,bjd->bij", queries, keys) * queries.shape[-1] ** -0.5
    weights = torch.softmax(scores, dim=-1).tril()
    return weights / weights.sum(dim=-1, keepdim=True)


def weights_by_addition(queries, keys):
    T = queries.shape[1]
    bias = torch.full((T, T), -torch.inf).triu(diagonal=1)
    root = queries.shape[-1] ** 0.25  # shared by both factors
    return torch.softmax((queries / root) @ (keys / root).mT + bias, dim=-1)


def fused_attention(queries, keys, values):
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)


def packaged_attention(queries, keys, values):
    d = queries.shape[-1]
    layer = CausalAttention(3 * d, d, context_length=queries.shape[1], dropout=0.0)
    weights = torch.eye(3 * d).split(d)
    with torch.no_grad():
        for linear, weight in zip(
            (layer.W_query, layer.W_key, layer.W_value), weights, strict=True
        ):
            linear.weight.copy_(weight)
    return layer(torch.cat([queries, keys, values], dim=-1))


def attention_without_gradients(queries, keys, values):
    q, k, v = (tensor.detach().numpy() for tensor in (queries, keys, values))
    scores = q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1])
    powers = np.tril(np.exp(scores - scores.max(axis=-1, keepdims=True)))
    return torch.from_numpy(powers / powers.sum(axis=-1, keepdims=True) @ v)


def dropout_by_module(scores, values, p, training):
    return nn.Dropout(p).train(training)(scores.softmax(-1)) @ values


def dropout_by_where(scores, values, p, training):
    weights = torch.softmax(scores, dim=-1)
    if training:
        dropped = torch.rand_like(weights) < p
        weights = torch.where(dropped, 0.0, weights / (1 - p))
    return torch.einsum("bij,bjd->bid", weights, values)


def dropout_by_bernoulli(scores, values, p, training):
    keep = torch.bernoulli(torch.full(scores.shape, 1 - p if training else 1.0))
    return (F.softmax(scores, dim=-1) * keep) @ values / (1 - p if training else 1.0)


def wide_layer():
    d = 512
    x = torch.randn(100, 16, d, generator=torch.Generator().manual_seed(7))
    torch.manual_seed(8)
    with torch.no_grad():
        scores = nn.Linear(d, d)(x) @ nn.Linear(d, d)(x).mT / math.sqrt(d)  # with a bias
    return {"spread": scores.std(), "largest": scores.softmax(-1).amax(-1).mean()}


ALTERNATIVES = {
    "02.past_average": [
        past_average_in_a_loop,
        past_average_by_softmax,
        past_average_recursively,
    ],
    "02.softmax": [softmax_by_logsumexp, softmax_in_double, softmax_in_numpy],
    "02.shapes": [
        lambda: {name: torch.Size(shape) for name, shape in ch02._SHAPES.items()},
        {name: list(shape) for name, shape in ch02._SHAPES.items()},
    ],
    "02.causal_weights": [weights_in_a_loop, weights_renormalised, weights_by_addition],
    "02.leak": [fused_attention, packaged_attention, attention_without_gradients],
    "02.attention_dropout": [dropout_by_module, dropout_by_where, dropout_by_bernoulli],
    "02.initial_spread": [wide_layer, {"spread": 0.34, "largest": 0.11}],
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


def dropout_of_whole_rows(scores, values, p, training):
    weights = torch.softmax(scores, dim=-1)
    if training:
        weights = weights * (torch.rand(weights.shape[:-1]) >= p)[..., None] / (1 - p)
    return weights @ values


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
        ("02.initial_spread", {"spread": 0.4, "largest": 0.11}),
        ("02.initial_spread", 1 / 3),
    ],
)
def test_wrong_answers_fail(exercise_id, answer):
    for report in evaluate_at_seeds(exercise_id, answer):
        assert report.status == "failed"
