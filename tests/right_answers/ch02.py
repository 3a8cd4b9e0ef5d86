"""Right answers to the exercises of chapter 2 that do not look like the solutions."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from course_pkg import CausalAttention
from course_pkg.checks import ch02

# 02.past_average


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


# 02.softmax


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


def softmax_row_by_row(scores):
    weights = torch.empty_like(scores)
    for place in np.ndindex(*scores.shape[:-1]):
        row = [math.exp(score - max(scores[place])) for score in scores[place]]
        weights[place] = torch.tensor(row) / math.fsum(row)
    return weights


# 02.scaled_dot_product


def mixture_fused(queries, keys, values):
    return F.scaled_dot_product_attention(queries, keys, values)


def mixture_by_einsum(queries, keys, values):
    scores = torch.einsum("...nd,...md->...nm", queries, keys)
    weights = F.softmax(scores * keys.size(-1) ** -0.5, dim=-1)
    return torch.einsum("...nm,...mv->...nv", weights, values)


def mixture_in_a_loop(queries, keys, values):
    rows = []
    for n in range(queries.shape[-2]):
        scores = (queries[..., n : n + 1, :] * keys).sum(dim=-1) / math.sqrt(queries.shape[-1])
        weights = (scores - scores.logsumexp(dim=-1, keepdim=True)).exp()  # (..., M)
        rows.append((weights[..., None] * values).sum(dim=-2))
    return torch.stack(rows, dim=-2)


def mixture_with_scaled_factors(queries, keys, values):
    root = queries.shape[-1] ** 0.25  # shared by both
    scores = (queries / root).double() @ (keys / root).double().mT
    return (scores.softmax(dim=-1) @ values.double()).to(values.dtype)


# 02.causal_weights


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


def weights_of_unit_values(queries, keys):
    unit = torch.eye(queries.shape[1]).expand(len(queries), -1, -1)
    return F.scaled_dot_product_attention(queries, keys, unit, is_causal=True)


# 02.mask


def masked_in_a_loop(scores, is_real):
    B, T, _ = scores.shape
    rows = []
    for b in range(B):
        for i in range(T):
            seen = is_real[b].clone()
            seen[i + 1 :] = False
            row = torch.zeros(T)
            if seen.any():
                row = row.masked_scatter(seen, torch.softmax(scores[b, i][seen], dim=0))
            rows.append(row)
    return torch.stack(rows).view(B, T, T)


def masked_by_powers(scores, is_real):
    T = is_real.shape[-1]
    allowed = (torch.arange(T)[:, None] >= torch.arange(T)) & is_real.unsqueeze(1)
    powers = scores.double().exp() * allowed
    return powers / powers.sum(dim=-1, keepdim=True).clamp(min=1e-300)


def masked_by_the_smallest_number(scores, is_real):
    allowed = torch.ones_like(scores, dtype=torch.bool).tril() & is_real[:, None]
    scores = torch.where(allowed, scores, torch.finfo(scores.dtype).min)
    return F.softmax(scores, dim=-1) * allowed


def masked_with_nan_replaced(scores, is_real):
    T = scores.shape[-1]
    blocked = torch.ones(T, T).triu(1).bool() | ~is_real[:, None, :]
    return scores.masked_fill(blocked, float("-inf")).softmax(-1).nan_to_num(0.0)


# 02.leak


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


def attention_of_beginnings(queries, keys, values):
    """Each output from the beginning of the text that ends with its token."""
    outputs = []
    for i in range(queries.shape[1]):
        scores = (keys[:, : i + 1] @ queries[:, i, :, None]).double() / queries.shape[-1] ** 0.5
        outputs.append((scores.softmax(dim=1) * values[:, : i + 1]).sum(dim=1))
    return torch.stack(outputs, dim=1)


def attention_renormalised(queries, keys, values):
    return weights_renormalised(queries, keys) @ values


# 02.attention_dropout


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


# 02.initial_spread


def layer_with_a_bias():
    x = torch.randn(200, 16, 256, generator=torch.Generator().manual_seed(7))
    torch.manual_seed(8)
    with torch.no_grad():
        queries, keys = nn.Linear(256, 256)(x), nn.Linear(256, 256)(x)
        scores = torch.einsum("bid,bjd->bij", queries, keys)
    return {
        "largest": F.softmax(scores / 16, dim=-1).amax(-1).mean(),
        "queries": queries.var() ** 0.5,
        "scores": scores.std(),
        "spread": (scores / math.sqrt(256)).std(),
    }


def layer_in_numpy():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((150, 16, 256))
    queries, keys = (x @ rng.uniform(-1 / 16, 1 / 16, (256, 256)) for _ in range(2))
    scores = queries @ keys.swapaxes(1, 2)
    powers = np.exp(scores / 16)
    weights = powers / powers.sum(axis=-1, keepdims=True)
    return {
        "queries": queries.std(),
        "scores": scores.std(),
        "spread": scores.std() / 16,
        "largest": weights.max(axis=-1).mean(),
    }


RIGHT = {
    "02.past_average": {
        "loop": past_average_in_a_loop,
        "softmax of zeros": past_average_by_softmax,
        "recursion in float64": past_average_recursively,
    },
    "02.softmax": {
        "logsumexp": softmax_by_logsumexp,
        "float64": softmax_in_double,
        "numpy": softmax_in_numpy,
        "row by row": softmax_row_by_row,
    },
    "02.shapes": {
        "sizes": lambda: {name: torch.Size(shape) for name, shape in ch02._SHAPES.items()},
        "lists": {name: list(shape) for name, shape in ch02._SHAPES.items()},
        "arrays": {name: np.array(shape) for name, shape in ch02._SHAPES.items()},
    },
    "02.scaled_dot_product": {
        "fused": mixture_fused,
        "einsum": mixture_by_einsum,
        "loop": mixture_in_a_loop,
        "scaled factors in float64": mixture_with_scaled_factors,
    },
    "02.causal_weights": {
        "loop": weights_in_a_loop,
        "renormalised": weights_renormalised,
        "added mask": weights_by_addition,
        "unit values": weights_of_unit_values,
    },
    "02.mask": {
        "loop": masked_in_a_loop,
        "powers": masked_by_powers,
        "smallest number": masked_by_the_smallest_number,
        "nan replaced": masked_with_nan_replaced,
    },
    "02.leak": {
        "fused": fused_attention,
        "package": packaged_attention,
        "beginnings": attention_of_beginnings,
        "renormalised": attention_renormalised,
    },
    "02.read_maps": {
        "function": lambda: dict(ch02._MAPS),
        "pairs": lambda: dict(zip(ch02._MAPS, ch02._MAPS.values(), strict=True)),
        "upside down": dict(reversed(ch02._MAPS.items())),
    },
    "02.attention_dropout": {
        "module": dropout_by_module,
        "where": dropout_by_where,
        "bernoulli": dropout_by_bernoulli,
    },
    "02.initial_spread": {
        "with a bias": layer_with_a_bias,
        "numpy": layer_in_numpy,
        "rounded": {"queries": 0.58, "scores": 5.3, "spread": 0.33, "largest": 0.11},
    },
}
