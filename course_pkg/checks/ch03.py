"""Exercises of chapter 3, multi-head attention."""

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_pkg import attention
from course_pkg.checks.compare import expect, expect_close, shape_is
from course_pkg.checks.engine import Exercise, Misconception, Property, call, fill_parameters
from course_pkg.checks.probes import (
    copied,
    first_alone,
    input_gradients,
    pairs,
    parameter_gradients,
    same_both_times,
    sees_its_past_alone,
    sensitivity,
    token_changed,
)


def _randn(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=dtype)


# 03.shapes: a batch of 3 texts of 7 tokens, d_in = 16, d_out = 24, 4 heads


def _shapes() -> dict[str, tuple[int, ...]]:
    x = torch.zeros(3, 7, 16)
    w_query = nn.Linear(16, 24)
    queries = keys = values = split_heads(w_query(x), 4)
    scores = queries @ keys.transpose(-2, -1)
    tensors = {
        "W_query.weight": w_query.weight,
        "queries": queries,
        "scores": scores,
        "allowed": torch.ones(7, 7).tril(),
        "merged": merge_heads(scores @ values),
    }
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


# 03.split_heads


def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(B, T, D) -> (B, H, T, Dh)"""
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).transpose(1, 2)


def _view_alone(x: Tensor, num_heads: int) -> Tensor:
    B, T, D = x.shape
    return x.reshape(B, num_heads, T, D // num_heads)


def _not_transposed(x: Tensor, num_heads: int) -> Tensor:
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads)


def _last_axes_swapped(x: Tensor, num_heads: int) -> Tensor:
    return split_heads(x, num_heads).transpose(2, 3)


def _strided_heads(x: Tensor, num_heads: int) -> Tensor:
    B, T, D = x.shape
    return x.reshape(B, T, D // num_heads, num_heads).permute(0, 3, 1, 2)


def _head_dim_for_heads(x: Tensor, num_heads: int) -> Tensor:
    B, T, D = x.shape
    return x.reshape(B, T, D // num_heads, num_heads).transpose(1, 2)


def _wide_inputs(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 5, 12), 4), (_randn(generator, 3, 4, 10), 2)]


def _extreme_splits(generator: torch.Generator) -> list[tuple]:
    sizes = [((2, 5, 6), 1), ((2, 5, 6), 6), ((1, 5, 6), 2), ((3, 1, 6), 2)]
    return [(_randn(generator, *shape), num_heads) for shape, num_heads in sizes]


def _wide_doubles(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 5, 12, dtype=torch.float64), 4)]


def _not_contiguous(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 12, 5).transpose(1, 2), 4)]


def _split_gradient(split_heads, x, num_heads):
    return input_gradients(split_heads, x, num_heads)


def _split_axes(x: Tensor, num_heads: int) -> dict[str, int]:
    B, T, D = x.shape
    return {"B": B, "T": T, "D": D, "H": num_heads, "Dh": D // num_heads}


def _move_token_0(split_heads, x, num_heads):
    moved = x.clone()
    moved[:, 0] += 1.0
    return split_heads(x, num_heads), split_heads(moved, num_heads)


def _only_row_0_moves(seen, x, num_heads):
    before, after = seen
    rows = (before != after).any(dim=3).any(dim=1).any(dim=0).nonzero().flatten().tolist()
    expect(rows == [0], f"token 0 was changed; rows of the heads that moved: {rows}")


def _move_first_features(split_heads, x, num_heads):
    moved = x.clone()
    moved[..., : x.shape[-1] // num_heads] += 1.0
    return split_heads(x, num_heads), split_heads(moved, num_heads)


def _only_head_0_moves(seen, x, num_heads):
    before, after = seen
    heads = (before != after).any(dim=3).any(dim=2).any(dim=0).nonzero().flatten().tolist()
    expect(
        heads == [0],
        f"the first D / num_heads features of every token were changed; heads that moved: {heads}",
    )


# 03.merge_heads


def merge_heads(x: Tensor) -> Tensor:
    """(B, H, T, Dh) -> (B, T, D)"""
    return x.transpose(1, 2).flatten(2)


def _merged_by_view(x: Tensor) -> Tensor:
    B, H, T, Dh = x.shape
    return x.reshape(B, T, H * Dh)


def _view_of_transposed(x: Tensor) -> Tensor:
    B, H, T, Dh = x.shape
    return x.transpose(1, 2).view(B, T, H * Dh)


def _features_before_heads(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(2)


def _heads_averaged(x: Tensor) -> Tensor:
    return x.mean(dim=1)


def _not_joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2)


def _split_inputs(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 4, 5, 3),), (_randn(generator, 3, 2, 4, 5),)]


def _extreme_merges(generator: torch.Generator) -> list[tuple]:
    shapes = [(2, 1, 5, 3), (2, 3, 5, 1), (1, 3, 5, 2), (3, 4, 1, 2)]
    return [(_randn(generator, *shape),) for shape in shapes]


def _split_doubles(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 4, 5, 3, dtype=torch.float64),)]


def _tokens_first_in_memory(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 5, 4, 3).transpose(1, 2),)]


def _merge_gradient(merge_heads, x):
    return input_gradients(merge_heads, x)


def _merge_axes(x: Tensor) -> dict[str, int]:
    B, H, T, Dh = x.shape
    return {"B": B, "H": H, "T": T, "Dh": Dh, "D": H * Dh}


def _seen_through_split(merge_heads, x):
    return split_heads(merge_heads(x), x.shape[1])


def _comes_back(seen, x):
    expect_close(seen, x, "split again")


def _move_last_token(merge_heads, x):
    moved = x.clone()
    moved[:, :, -1] += 1.0
    return merge_heads(x), merge_heads(moved)


def _only_last_token_moves(seen, x):
    before, after = seen
    tokens = (before != after).any(dim=2).any(dim=0).nonzero().flatten().tolist()
    last = x.shape[2] - 1
    expect(tokens == [last], f"token {last} of every head was changed; rows that moved: {tokens}")


# 03.one_projection


def project_heads(x: Tensor, weight: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """(B, T, d_in), (3D, d_in) -> queries, keys, values, each (B, H, T, Dh)."""
    parts = (x @ weight.T).chunk(3, dim=-1)
    return tuple(split_heads(part, num_heads) for part in parts)


def _values_first(x: Tensor, weight: Tensor, num_heads: int) -> tuple[Tensor, ...]:
    return project_heads(x, weight, num_heads)[::-1]


def _keys_first(x: Tensor, weight: Tensor, num_heads: int) -> tuple[Tensor, ...]:
    keys, queries, values = project_heads(x, weight, num_heads)
    return queries, keys, values


def _head_by_head(x: Tensor, weight: Tensor, num_heads: int) -> tuple[Tensor, ...]:
    heads = (x @ weight.T).unflatten(-1, (num_heads, 3, -1))  # (B, T, H, 3, Dh)
    return tuple(part.transpose(1, 2) for part in heads.unbind(dim=3))


def _interleaved(x: Tensor, weight: Tensor, num_heads: int) -> tuple[Tensor, ...]:
    parts = (x @ weight.T).unflatten(-1, (-1, 3)).unbind(dim=-1)
    return tuple(split_heads(part, num_heads) for part in parts)


def _views_alone(x: Tensor, weight: Tensor, num_heads: int) -> tuple[Tensor, ...]:
    return tuple(_view_alone(part, num_heads) for part in (x @ weight.T).chunk(3, dim=-1))


def _weight_not_transposed(x: Tensor, weight: Tensor, num_heads: int) -> tuple[Tensor, ...]:
    return tuple(split_heads(part, num_heads) for part in (x @ weight).chunk(3, dim=-1))


def _projection_inputs(generator: torch.Generator) -> list[tuple]:
    return [
        (_randn(generator, 2, 5, 7), _randn(generator, 36, 7), 4),
        (_randn(generator, 3, 4, 8), _randn(generator, 24, 8), 2),
    ]


def _square_inputs(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 5, 18), _randn(generator, 18, 18), 2)]


def _extreme_projections(generator: torch.Generator) -> list[tuple]:
    sizes = [((2, 5, 6), 4, 1), ((3, 1, 6), 8, 2), ((1, 4, 6), 3, 3)]
    return [
        (_randn(generator, *shape), _randn(generator, 3 * width, 6), num_heads)
        for shape, width, num_heads in sizes
    ]


def _projected_doubles(generator: torch.Generator) -> list[tuple]:
    x = _randn(generator, 2, 7, 5, dtype=torch.float64).transpose(1, 2)
    return [(x, _randn(generator, 7, 36, dtype=torch.float64).T, 4)]


def _three(project_heads, x, weight, num_heads):
    """The three as a tuple, also where they come stacked in one tensor."""
    found = project_heads(x, weight, num_heads)
    return found.unbind() if isinstance(found, Tensor) and found.ndim == 5 else found


def _projection_gradients(project_heads, x, weight, num_heads):
    return input_gradients(functools.partial(_three, project_heads), x, weight, num_heads)


def _projection_axes(x: Tensor, weight: Tensor, num_heads: int) -> dict[str, int]:
    (B, T, d_in), D = x.shape, weight.shape[0] // 3
    return {"B": B, "T": T, "d_in": d_in, "D": D, "H": num_heads, "Dh": D // num_heads}


def _projected_shapes(project_heads, x, weight, num_heads):
    return [tuple(part.shape) for part in project_heads(x, weight, num_heads)]


def _three_equal_shapes(shapes, x, weight, num_heads):
    head_dim = weight.shape[0] // 3 // num_heads
    expected = (x.shape[0], num_heads, x.shape[1], head_dim)
    expect(
        shapes == [expected] * 3,
        f"the shapes are {', '.join(map(str, shapes))}",
    )


def _third_zeroed(third):
    def observe(project_heads, x, weight, num_heads):
        zeroed = weight.clone()
        size = weight.shape[0] // 3
        zeroed[third * size : (third + 1) * size] = 0.0
        return [bool((part == 0).all()) for part in project_heads(x, zeroed, num_heads)]

    return observe


def _only_this_is_zero(third):
    names = ("queries", "keys", "values")

    def judge(seen, x, weight, num_heads):
        zero = [name for name, is_zero in zip(names, seen, strict=True) if is_zero]
        expect(
            zero == [names[third]],
            f"with this third of the weight at zero, what is zero: {', '.join(zero) or 'nothing'}",
        )

    return judge


# 03.multi_head_attention


class MultiHeadAttention(nn.Module):
    """Multi-head causal attention whose heads may share keys and values.

    Written so that a wrong layer changes one method.
    """

    def __init__(
        self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False, num_kv_heads=None
    ):
        super().__init__()
        self.num_heads = num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.head_dim = d_out // num_heads
        shared = self.num_kv_heads * self.head_dim
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, shared, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, shared, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        queries = self.split(self.W_query(x), self.num_heads)  # (B, H, T, Dh)
        keys = self.share(self.split(self.W_key(x), self.num_kv_heads))
        values = self.share(self.split(self.W_value(x), self.num_kv_heads))
        scores = self.blocked(self.scaled(queries @ keys.transpose(-2, -1)))  # (B, H, T, T)
        weights = self.dropped(torch.softmax(scores, dim=-1))
        return self.mixed(self.merge(weights @ values))

    def split(self, x, num_heads):
        return split_heads(x, num_heads)

    def share(self, x):
        return x.repeat_interleave(self.num_heads // self.num_kv_heads, dim=1)

    def scaled(self, scores):
        return scores / math.sqrt(self.head_dim)

    def blocked(self, scores):
        return scores.masked_fill(_later(scores, 1), -torch.inf)

    def dropped(self, weights):
        return self.dropout(weights)

    def merge(self, x):
        return merge_heads(x)

    def mixed(self, x):
        return self.out_proj(x)


def _later(scores: Tensor, diagonal: int) -> Tensor:
    return torch.ones(scores.shape[-2:], dtype=torch.bool).triu(diagonal)


class _RepeatedInTurn(MultiHeadAttention):
    def share(self, x):
        return x.repeat(1, self.num_heads // self.num_kv_heads, 1, 1)


class _NoMask(MultiHeadAttention):
    def blocked(self, scores):
        return scores


class _BlindToItself(MultiHeadAttention):
    def blocked(self, scores):
        return scores.masked_fill(_later(scores, 0), -torch.inf)


class _WholeWidthScale(MultiHeadAttention):
    def scaled(self, scores):
        return scores / math.sqrt(self.num_heads * self.head_dim)


class _NoScale(MultiHeadAttention):
    def scaled(self, scores):
        return scores


class _SplitByView(MultiHeadAttention):
    def split(self, x, num_heads):
        return _view_alone(x, num_heads)


class _MergedByView(MultiHeadAttention):
    def merge(self, x):
        return _merged_by_view(x)


class _NotMixed(MultiHeadAttention):
    def mixed(self, x):
        return x


class _AlwaysDropping(MultiHeadAttention):
    def dropped(self, weights):
        return F.dropout(weights, self.dropout.p)


class _NeverDropping(MultiHeadAttention):
    def dropped(self, weights):
        return weights


class _OutputDropped(MultiHeadAttention):
    def dropped(self, weights):
        return weights

    def mixed(self, x):
        return self.dropout(self.out_proj(x))


class _NeverSharing(MultiHeadAttention):
    def __init__(
        self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False, num_kv_heads=None
    ):
        super().__init__(d_in, d_out, context_length, dropout, num_heads, qkv_bias)


_CONTEXT = 15  # more than any width of the cases: a mask of another size is too small


def _layer_inputs(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 5, 6), 12, 4), (_randn(generator, 1, 3, 8), 10, 2)]


def _shared_inputs(generator: torch.Generator) -> list[tuple]:
    sizes = [((2, 5, 6), 12, 4, 2), ((3, 4, 8), 18, 6, 2), ((1, 3, 6), 12, 4, 1)]
    return [(_randn(generator, *shape), *rest) for shape, *rest in sizes]


def _one_shared_input(generator: torch.Generator) -> list[tuple]:
    return _shared_inputs(generator)[1:2]


def _layer_doubles(generator: torch.Generator) -> list[tuple]:
    x = _randn(generator, 2, 6, 5, dtype=torch.float64).transpose(1, 2)
    return [(x, 12, 4, 2)]


def _full_context(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, _CONTEXT, 6), 12, 4)]


def _square_layer_inputs(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 5, 12), 12, 4)]


def _layer_axes(x: Tensor, d_out: int, num_heads: int) -> dict[str, int]:
    B, T, d_in = x.shape
    return {"B": B, "T": T, "d_in": d_in, "D": d_out, "H": num_heads, "Dh": d_out // num_heads}


def _layer(layer_class, x, d_out, num_heads, num_kv_heads=None, *, dropout=0.0, bias=False):
    """A filled layer in use; ``num_kv_heads`` is handed over only where it is given."""
    sizes = (x.shape[-1], d_out, _CONTEXT, dropout, num_heads, bias)
    extra = {} if num_kv_heads is None else {"num_kv_heads": num_kv_heads}
    return fill_parameters(layer_class(*sizes, **extra).to(x.dtype)).eval()


def _layer_values(layer_class, x, d_out, num_heads):
    return _layer(layer_class, x, d_out, num_heads)(x)


def _shared_values(layer_class, x, d_out, num_heads, num_kv_heads):
    return _layer(layer_class, x, d_out, num_heads, num_kv_heads)(x)


def _layer_parameters(layer_class, x, d_out, num_heads):
    layers = {
        "without biases": layer_class(x.shape[-1], d_out, _CONTEXT, 0.0, num_heads),
        "with biases": layer_class(x.shape[-1], d_out, _CONTEXT, 0.0, num_heads, qkv_bias=True),
        "sharing": layer_class(x.shape[-1], d_out, _CONTEXT, 0.0, num_heads, num_kv_heads=1),
    }
    return {
        kind: {name: list(parameter.shape) for name, parameter in layer.named_parameters()}
        for kind, layer in layers.items()
    }


def _our_layer_as_theirs(layer_class, x, d_out, num_heads):
    """The output with biases; ``_is_torchs`` has the same weights."""
    return _layer(layer_class, x, d_out, num_heads, bias=True)(x)


def _is_torchs(seen, x, d_out, num_heads):
    source = _layer(attention.MultiHeadAttention, x, d_out, num_heads, bias=True).state_dict()
    theirs = nn.MultiheadAttention(d_out, num_heads, batch_first=True).eval()
    names = ("W_query", "W_key", "W_value")
    for kind in ("weight", "bias"):
        stacked = torch.cat([source[f"{name}.{kind}"] for name in names])
        getattr(theirs, f"in_proj_{kind}").data = stacked
        getattr(theirs.out_proj, kind).data = source[f"out_proj.{kind}"]
    with torch.no_grad():
        expected, _ = theirs(x, x, x, attn_mask=_later(x[0] @ x[0].T, 1), need_weights=False)
    expect_close(seen, expected, "compared with nn.MultiheadAttention", tolerance=1e-4)


def _layer_at_lengths(layer_class, x, d_out, num_heads):
    layer = _layer(layer_class, x, d_out, num_heads)
    return [layer(x[:, :length]) for length in (1, 2, _CONTEXT)]


def _layer_of_changed_token(layer_class, x, d_out, num_heads):
    return token_changed(_layer(layer_class, x, d_out, num_heads), x, 2)


def _token_2_and_later_move(seen, x, d_out, num_heads):
    expected = list(range(2, x.shape[1]))
    expect(seen == expected, f"token 2 was changed; outputs that moved: {seen}")


def _layer_sensitivity(layer_class, x, d_out, num_heads):
    return sensitivity(_layer(layer_class, x, d_out, num_heads), x)


def _layer_sees_its_past(seen, x, d_out, num_heads):
    sees_its_past_alone(seen)


def _layer_gradients(layer_class, x, d_out, num_heads, num_kv_heads):
    return parameter_gradients(_layer(layer_class, x, d_out, num_heads, num_kv_heads), x)


def _layer_copied(layer_class, x, d_out, num_heads):
    sizes = (x.shape[-1], d_out, _CONTEXT, 0.0, num_heads)
    make = functools.partial(layer_class, *sizes, qkv_bias=True)
    return copied(make, fill_parameters(make()), x)


def _layer_on_first_text(layer_class, x, d_out, num_heads):
    return first_alone(_layer(layer_class, x, d_out, num_heads), x)


def _layer_in_use(layer_class, x, d_out, num_heads):
    """Whether a layer with dropout, in use, gives what one without gives, and twice the same."""
    without = _layer(layer_class, x, d_out, num_heads)(x)
    layer = _layer(layer_class, x, d_out, num_heads, dropout=0.5)
    with torch.no_grad():
        outputs = [layer(x) for _ in range(3)]
    return [torch.allclose(y, without, rtol=0.0, atol=1e-5, equal_nan=True) for y in outputs]


def _nothing_is_dropped(seen, x, d_out, num_heads):
    expect(seen == [True] * 3, "in use, a layer with dropout=0.5 gives other numbers than without")


def _dropped_heads(layer_class, x, d_out, num_heads):
    """In words, so that it does not hang on the random numbers: what dropout does to one token.

    The only weight of a single token is 1: it is dropped, and its head's output is 0, or it is
    kept, and the output is doubled.
    """
    tokens = x.flatten(0, 1)[:, None].repeat(40, 1, 1)  # (B T 40, 1, D): texts of one token
    layers = [_layer(layer_class, x, d_out, num_heads, dropout=rate) for rate in (0.0, 0.5)]
    with torch.no_grad():
        for layer in layers:
            layer.out_proj.weight.copy_(torch.eye(d_out))
            layer.out_proj.bias.zero_()
        plain, training = (layer.train()(tokens) for layer in layers)  # (B T 40, 1, D) each
    zero = training.abs() < 1e-6
    doubled = torch.isclose(training, 2 * plain, rtol=1e-4, atol=1e-5)
    whole = [each.unflatten(-1, (num_heads, -1)).all(dim=-1) for each in (zero, doubled)]
    if not bool((zero | doubled).all()):
        return "numbers other than zero and the double"
    if not bool((whole[0] | whole[1]).all()):
        return "single features of a head"
    share = whole[0].float().mean().item()
    return "about half of the heads" if 0.35 < share < 0.65 else f"{share:.0%} of the heads"


def _whole_heads_are_dropped(seen, x, d_out, num_heads):
    expected = "about half of the heads"
    expect(
        seen == expected,
        "on texts of one token, dropping half of the weights silences half of the heads and "
        f"doubles the rest; seen in training with dropout=0.5: {seen}",
    )


# 03.cost: a batch of one text, four matrices of 96 x 96


_WIDTH = 96


def _flops(num_tokens: int) -> int:
    """Multiplications and additions of the explicit layer, for any number of heads."""
    projections = 4 * 2 * num_tokens * _WIDTH**2
    attention = 2 * 2 * num_tokens**2 * _WIDTH  # scores and weighted sums, each H T² D/H times 2
    return projections + attention


def _numbers_kept(num_tokens: int, num_heads: int) -> int:
    """How many numbers the explicit layer keeps for the backward pass."""
    parts = [
        num_tokens * _WIDTH,  # the input
        4 * _WIDTH**2,  # the matrices
        3 * num_tokens * _WIDTH,  # queries, keys and values
        num_heads * num_tokens**2,  # the table of weights
        num_tokens**2,  # what the mask blocks
        num_tokens * _WIDTH,  # the merged heads
    ]
    return sum(parts)


_COST = {
    "flops_tokens": _flops(512) / _flops(256),
    "flops_heads": 1.0,
    "kept_heads": _numbers_kept(256, 16) / _numbers_kept(256, 4),
    "crossover": 2 * _WIDTH,
}


def _entry(name: str) -> Callable[[Any], float]:
    def observe(answer):
        return float(answer()[name])

    return observe


# 03.from_torch


def from_torch(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state dict of a MultiHeadAttention from that of an nn.MultiheadAttention."""
    converted = {}
    for kind in ("weight", "bias"):
        for name, part in zip(
            ("W_query", "W_key", "W_value"), state_dict[f"in_proj_{kind}"].chunk(3), strict=True
        ):
            converted[f"{name}.{kind}"] = part
        converted[f"out_proj.{kind}"] = state_dict[f"out_proj.{kind}"]
    return converted


def _renamed(state_dict, query="W_query", key="W_key", value="W_value"):
    names = {"W_query": query, "W_key": key, "W_value": value}
    found = from_torch(state_dict)
    return {
        f"{names.get(name.split('.')[0], name.split('.')[0])}.{name.split('.')[1]}": tensor
        for name, tensor in found.items()
    }


def _keys_before_queries(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    return _renamed(state_dict, query="W_key", key="W_query")


def _values_before_queries(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    return _renamed(state_dict, query="W_value", value="W_query")


def _transposed(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    found = from_torch(state_dict)
    return {name: tensor.T if tensor.ndim == 2 else tensor for name, tensor in found.items()}


def _every_third_row(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    found = from_torch(state_dict)
    for kind in ("weight", "bias"):
        for start, name in enumerate(("W_query", "W_key", "W_value")):
            found[f"{name}.{kind}"] = state_dict[f"in_proj_{kind}"][start::3]
    return found


def _without_biases(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    found = from_torch(state_dict)
    biases = ("W_query.bias", "W_key.bias", "W_value.bias")
    return {name: tensor for name, tensor in found.items() if name not in biases}


def _columns_cut(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    found = from_torch(state_dict)
    for name, part in zip(
        ("W_query", "W_key", "W_value"), state_dict["in_proj_weight"].chunk(3, dim=1), strict=True
    ):
        found[f"{name}.weight"] = part
    return found


def _torch_state_dicts(generator: torch.Generator) -> list[tuple]:
    return [(_torch_state_dict(width, generator),) for width in (12, 8)]


def _double_state_dicts(generator: torch.Generator) -> list[tuple]:
    (state_dict,) = _torch_state_dicts(generator)[0]
    return [({name: tensor.double() / 3 for name, tensor in state_dict.items()},)]


def _torch_state_dict(width: int, generator: torch.Generator) -> dict[str, Tensor]:
    shapes = {
        "in_proj_weight": (3 * width, width),
        "in_proj_bias": (3 * width,),
        "out_proj.weight": (width, width),
        "out_proj.bias": (width,),
    }
    return {name: _randn(generator, *shape) / 2 for name, shape in shapes.items()}


def _names_and_shapes(from_torch, state_dict):
    return {name: tuple(tensor.shape) for name, tensor in from_torch(state_dict).items()}


def _fit_the_layer(seen, state_dict):
    width = state_dict["out_proj.bias"].shape[0]
    layer = attention.MultiHeadAttention(width, width, 4, 0.0, num_heads=2, qkv_bias=True)
    expected = {name: tuple(tensor.shape) for name, tensor in layer.state_dict().items()}
    for name, shape in expected.items():
        expect(name in seen, f"there is no entry {name!r}")
        expect(seen[name] == shape, f"{name} has shape {seen[name]}, the layer's has {shape}")
    extra = sorted(set(seen) - set(expected))
    expect(not extra, f"the layer has no parameter {', '.join(extra)}")


_NUM_HEADS, _NUM_TOKENS = 4, 6


def _output_of_ours(from_torch, state_dict):
    width = state_dict["out_proj.bias"].shape[0]
    layer = attention.MultiHeadAttention(
        width, width, _NUM_TOKENS, 0.0, num_heads=_NUM_HEADS, qkv_bias=True
    ).eval()
    layer.load_state_dict(from_torch(state_dict))
    return layer(_some_tokens(width))


def _output_is_theirs(seen, state_dict):
    width = state_dict["out_proj.bias"].shape[0]
    theirs = nn.MultiheadAttention(width, _NUM_HEADS, batch_first=True).eval()
    theirs.load_state_dict(state_dict)
    x = _some_tokens(width)
    blocked = torch.ones(_NUM_TOKENS, _NUM_TOKENS, dtype=torch.bool).triu(diagonal=1)
    with torch.no_grad():
        expected, _ = theirs(x, x, x, attn_mask=blocked, need_weights=False)
    expect_close(seen, expected, "the output of the layer with your weights", tolerance=1e-4)


def _some_tokens(width: int) -> Tensor:
    return torch.randn(2, _NUM_TOKENS, width, generator=torch.Generator().manual_seed(width))


def _out_proj_alone(from_torch, state_dict):
    found = from_torch(state_dict)
    return found["out_proj.weight"], found["out_proj.bias"]


def _stacked_again(from_torch, state_dict):
    found = from_torch(state_dict)
    names = ("W_query", "W_key", "W_value")
    return {k: torch.cat([found[f"{name}.{k}"] for name in names]) for k in ("weight", "bias")}


def _is_theirs(seen, state_dict):
    for kind in ("weight", "bias"):
        expect_close(seen[kind], state_dict[f"in_proj_{kind}"], f"yours stacked and in_proj_{kind}")


# 03.wrong_view


def repaired_heads(queries: Tensor, keys: Tensor, values: Tensor, num_heads: int) -> Tensor:
    """Multi-head causal attention on projected (B, T, D) tensors, without out_proj."""
    return _heads(queries, keys, values, num_heads, split_heads, merge_heads, per_head=True)


def _heads(queries, keys, values, num_heads, split, merge, per_head):
    q, k, v = (split(tensor, num_heads) for tensor in (queries, keys, values))
    T = queries.shape[1]
    scale = math.sqrt(q.shape[-1] if per_head else queries.shape[-1])
    scores = q @ k.transpose(-2, -1) / scale
    blocked = torch.ones(T, T, dtype=torch.bool).triu(diagonal=1)
    weights = torch.softmax(scores.masked_fill(blocked, -torch.inf), dim=-1)
    return merge(weights @ v)


def _faulty(split, merge, per_head):
    def faulty_heads(queries: Tensor, keys: Tensor, values: Tensor, num_heads: int) -> Tensor:
        return _heads(queries, keys, values, num_heads, split, merge, per_head)

    return faulty_heads


def _projected(generator: torch.Generator) -> list[tuple]:
    def inputs(*shape):
        return tuple(_randn(generator, *shape) for _ in range(3))

    return [(*inputs(2, 5, 12), 4), (*inputs(1, 6, 10), 2)]


def _projected_one_head(generator: torch.Generator) -> list[tuple]:
    return [(*(_randn(generator, 2, 5, 6) for _ in range(3)), 1)]


def _projected_extremes(generator: torch.Generator) -> list[tuple]:
    sizes = [((2, 5, 6), 6), ((1, 4, 6), 2), ((3, 1, 6), 2)]
    return [
        (*(_randn(generator, *shape) for _ in range(3)), num_heads) for shape, num_heads in sizes
    ]


def _projected_doubles_apart(generator: torch.Generator) -> list[tuple]:
    def inputs():
        return _randn(generator, 2, 12, 5, dtype=torch.float64).transpose(1, 2)

    return [(inputs(), inputs(), inputs(), 4)]


def _heads_axes(queries: Tensor, keys: Tensor, values: Tensor, num_heads: int) -> dict[str, int]:
    return _split_axes(queries, num_heads)


def _same_values(repaired_heads, queries, keys, values, num_heads):
    return repaired_heads(queries, keys, values[:, :1].expand_as(values).clone(), num_heads)


def _give_those_values(seen, queries, keys, values, num_heads):
    expect_close(
        seen, values[:, :1].expand_as(values), "where all tokens have the values of token 0"
    )


def _sensitivity_of_heads(repaired_heads, queries, keys, values, num_heads):
    return sensitivity(lambda v: repaired_heads(queries, keys, v, num_heads), values)


def _past_has_gradient(seen, queries, keys, values, num_heads):
    sees_its_past_alone(seen)


def _change_each(repaired_heads, queries, keys, values, num_heads):
    """The output (T, D) of the first text, and the one after each of its tokens was changed."""
    outputs = [repaired_heads(queries, keys, values, num_heads)[0]]
    for j in range(queries.shape[1]):
        changed = [tensor.clone() for tensor in (queries, keys, values)]
        for tensor in changed:
            tensor[:, j] += 1.0
        outputs.append(repaired_heads(*changed, num_heads)[0])
    return torch.stack(outputs)  # (T + 1, T, D)


def _moves(outputs):
    """Pairs (i, j): output i moved when token j was changed."""
    same = torch.isclose(outputs[1:], outputs[:1], rtol=0.0, atol=1e-6).all(dim=-1)
    return {(i, j) for j, i in (~same).nonzero().tolist()}


def _no_future(outputs, queries, keys, values, num_heads):
    future = sorted((i, j) for i, j in _moves(outputs) if j > i)
    expect(not future, "outputs that move when a later token is changed: " + pairs(future))


def _whole_past(outputs, queries, keys, values, num_heads):
    size = queries.shape[1]
    missing = sorted({(i, j) for i in range(size) for j in range(i + 1)} - _moves(outputs))
    expect(not missing, "outputs that ignore a token of their past: " + pairs(missing))


def _move_first_values(repaired_heads, queries, keys, values, num_heads):
    moved = values.clone()
    moved[..., : values.shape[-1] // num_heads] += 1.0
    return repaired_heads(queries, keys, values, num_heads), repaired_heads(
        queries, keys, moved, num_heads
    )


def _only_first_features_move(seen, queries, keys, values, num_heads):
    before, after = seen
    head_dim = values.shape[-1] // num_heads
    moved = (~torch.isclose(before, after, rtol=0.0, atol=1e-6)).any(dim=1).any(dim=0)
    features = moved.nonzero().flatten().tolist()
    expect(
        features == list(range(head_dim)),
        f"the values of head 0 were changed; features of the output that moved: {features}",
    )


# 03.heads


def weight_on_previous(weights: Tensor) -> Tensor:
    """(B, H, T, T) -> (H,): mean weight of a token on the one before, without the first token."""
    return weights.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, 2))


def _weight_on_itself(weights: Tensor) -> Tensor:
    return weights.diagonal(dim1=-2, dim2=-1).mean(dim=(0, 2))


def _weight_on_next(weights: Tensor) -> Tensor:
    return weights.diagonal(offset=1, dim1=-2, dim2=-1).mean(dim=(0, 2))


def _divided_by_all_tokens(weights: Tensor) -> Tensor:
    return weights.diagonal(offset=-1, dim1=-2, dim2=-1).sum(dim=2).mean(dim=0) / weights.shape[-1]


def _heads_mixed(weights: Tensor) -> Tensor:
    return weights.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(1, 2))


def _weight_on_first(weights: Tensor) -> Tensor:
    return weights[:, :, 1:, 0].mean(dim=(0, 2))


def _summed_over_texts(weights: Tensor) -> Tensor:
    return weights.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=2).sum(dim=0)


def _causal_tables(generator: torch.Generator) -> list[tuple]:
    def weights(*shape):
        blocked = torch.ones(shape[-1], shape[-1], dtype=torch.bool).triu(diagonal=1)
        scores = 2 * _randn(generator, *shape).masked_fill(blocked, -torch.inf)
        return torch.softmax(scores, dim=-1)

    return [(weights(2, 3, 5, 5),), (weights(3, 4, 6, 6),)]


def _previous_only(generator: torch.Generator) -> list[tuple]:
    table = torch.eye(5).roll(-1, dims=1)  # row i: all weight on token i - 1
    table[0] = torch.eye(5)[0]
    return [(torch.stack([table, torch.eye(5)]).expand(3, 2, 5, 5).clone(),)]


def _even(generator: torch.Generator) -> list[tuple]:
    past = torch.ones(6, 6).tril()
    return [((past / past.sum(dim=1, keepdim=True)).expand(2, 3, 6, 6).clone(),)]


def _one_and_zero(seen, weights):
    expect_close(
        seen,
        torch.tensor([1.0, 0.0]),
        "a head that looks only at the token before, and one that looks only at itself",
    )


def _harmonic(seen, weights):
    T = weights.shape[-1]
    mean = sum(1 / (i + 1) for i in range(1, T)) / (T - 1)
    expect_close(seen, torch.full((weights.shape[1],), mean), "heads that average their past")


def _two_tokens(generator: torch.Generator) -> list[tuple]:
    shares = torch.rand(3, 4, generator=generator, dtype=torch.float64)  # (B, H)
    weights = torch.zeros(3, 4, 2, 2, dtype=torch.float64)
    weights[:, :, 0, 0] = 1.0
    weights[:, :, 1, 0], weights[:, :, 1, 1] = shares, 1 - shares
    return [(weights,)]


def _mean_share(seen, weights):
    expect_close(seen, weights[:, :, 1, 0].mean(dim=0), "texts of two tokens")


def _weights_axes(weights: Tensor) -> dict[str, int]:
    B, H, T, _ = weights.shape
    return {"B": B, "H": H, "T": T}


def _each_alone(weight_on_previous, weights):
    return [weight_on_previous(weights[:, h : h + 1]) for h in range(weights.shape[1])]


_SHAPES = _shapes()

EXERCISES = (
    Exercise(
        id="03.shapes",
        title="Shapes on the way through the heads",
        kind="predict",
        points=1,
        difficulty=1,
        section="3.5",
        reference=_SHAPES,
        properties=tuple(
            Property(name, statement, judge=shape_is(name, _SHAPES))
            for name, statement in {
                "W_query.weight": "One matrix makes the queries of all heads.",
                "queries": "Each head has its own queries, one for each token.",
                "scores": "Each head has a score for each pair of tokens.",
                "allowed": "One mask serves all texts and all heads.",
                "merged": "Side by side, the heads fill d_out features of each token.",
            }.items()
        ),
        hints=(
            "How many features has one head? They add up to d_out over the heads.",
            "After the split, a head is one more axis in front, as the batch is.",
        ),
        misconceptions=(
            Misconception(
                "A head as wide as the whole",
                "The heads share the d_out features: each has d_out / num_heads of them.",
                {**_SHAPES, "queries": (3, 4, 7, 24)},
                "3.2",
            ),
            Misconception(
                "The head after the token",
                "This is the shape after the view. The transpose puts the head in front of the "
                "token.",
                {**_SHAPES, "queries": (3, 7, 4, 6)},
                "3.4",
            ),
            Misconception(
                "One table of scores for all heads",
                "Each head compares its own queries and keys, so the heads are an axis of the "
                "scores.",
                {**_SHAPES, "scores": (3, 7, 7)},
            ),
            Misconception(
                "A mask for each head",
                "The mask depends on positions alone and is broadcast over texts and heads.",
                {**_SHAPES, "allowed": (3, 4, 7, 7)},
            ),
            Misconception(
                "The matrix the other way round",
                "nn.Linear(d_in, d_out) stores its matrix as (d_out, d_in).",
                {**_SHAPES, "W_query.weight": (16, 24)},
                "3.3",
            ),
        ),
    ),
    Exercise(
        id="03.split_heads",
        title="Split the features into heads",
        kind="implement",
        points=2,
        difficulty=1,
        section="3.4",
        reference=split_heads,
        cases=_wide_inputs,
        axes=_split_axes,
        builds_on=("03.shapes",),
        properties=(
            Property("values", "Each head gets its own slice of every token's features."),
            Property(
                "tokens",
                "Row 0 of every head is token 0, and no other row.",
                _move_token_0,
                _only_row_0_moves,
            ),
            Property(
                "features",
                "Head 0 has the first features of every token.",
                _move_first_features,
                _only_head_0_moves,
            ),
            Property(
                "extremes",
                "One head, a head for each feature, one text and one token are split too.",
                cases=_extreme_splits,
            ),
            Property(
                "memory",
                "It does not matter in which order the numbers stand in memory.",
                cases=_not_contiguous,
            ),
            Property("64 bits", "Numbers of 64 bits keep all their digits.", cases=_wide_doubles),
            Property(
                "gradient", "The gradient finds its way back to each feature.", _split_gradient
            ),
        ),
        hints=(
            "Write down the shape that you have and the one that you want. Two steps lie between.",
            "First cut the last axis in two, then swap two axes.",
        ),
        misconceptions=(
            Misconception(
                "A view without a transpose",
                "A view fills the new shape in memory order, and memory holds token after token. "
                "So head 0 gets the first part of the text, not the first features of every token.",
                _view_alone,
            ),
            Misconception(
                "The axes are not swapped",
                "(B, T, H, Dh) has the heads inside each token. Attention needs them in front.",
                _not_transposed,
            ),
            Misconception(
                "The last two axes are swapped",
                "(B, H, Dh, T) is the form that keys have in the product of scores, not that of a "
                "split.",
                _last_axes_swapped,
            ),
            Misconception(
                "Every H-th feature to a head",
                "Cut into (Dh, H), the features of a head lie H places apart. The projections of "
                "the heads stand one after the other: cut into (H, Dh).",
                _strided_heads,
                "3.3",
            ),
            Misconception(
                "Heads and features confused",
                "The last axis was cut into (D / H, H): that makes D / H heads of H features.",
                _head_dim_for_heads,
            ),
        ),
    ),
    Exercise(
        id="03.merge_heads",
        title="Put the heads side by side again",
        kind="implement",
        points=2,
        difficulty=2,
        section="3.6",
        reference=merge_heads,
        cases=_split_inputs,
        axes=_merge_axes,
        builds_on=("03.split_heads",),
        properties=(
            Property("values", "A token's features are those of its heads, one after the other."),
            Property(
                "there and back",
                "Splitting what was merged gives the heads back.",
                _seen_through_split,
                _comes_back,
            ),
            Property(
                "tokens",
                "A token's heads end up in the row of that token and in no other.",
                _move_last_token,
                _only_last_token_moves,
            ),
            Property(
                "extremes",
                "One head, heads of one feature, one text and one token are merged too.",
                cases=_extreme_merges,
            ),
            Property(
                "memory",
                "It does not matter in which order the numbers stand in memory.",
                cases=_tokens_first_in_memory,
            ),
            Property("64 bits", "Numbers of 64 bits keep all their digits.", cases=_split_doubles),
            Property("gradient", "The gradient finds its way back to each head.", _merge_gradient),
        ),
        hints=(
            "Undo the two steps of the split, the last one first.",
            "After a transpose, view refuses. Which function copies where it must?",
        ),
        misconceptions=(
            Misconception(
                "Merged without the transpose",
                "The numbers stand head by head in memory. Read in this order, a row of the result "
                "holds one head of several tokens, later ones too: a leak.",
                _merged_by_view,
            ),
            Misconception(
                "A view of a transposed tensor",
                "After the transpose a token's features lie apart in memory, and no view can join "
                "them. Use reshape, flatten, or contiguous() first.",
                _view_of_transposed,
            ),
            Misconception(
                "The features of the heads are interleaved",
                "Feature 0 of all heads, then feature 1 of all heads. out_proj expects head after "
                "head: the axes must be (B, T, H, Dh) before they are joined.",
                _features_before_heads,
            ),
            Misconception(
                "The heads are averaged",
                "Concatenate them. Mixing is the task of out_proj, which has learned how.",
                _heads_averaged,
            ),
            Misconception(
                "The last two axes are not joined",
                "(B, T, H, Dh) is one step before the end.",
                _not_joined,
            ),
        ),
    ),
    Exercise(
        id="03.one_projection",
        title="Queries, keys and values from one matrix",
        kind="implement",
        points=3,
        difficulty=2,
        section="3.11",
        reference=project_heads,
        cases=_projection_inputs,
        axes=_projection_axes,
        builds_on=("03.split_heads",),
        properties=(
            Property("values", "Queries, keys and values of all heads are right.", _three),
            Property(
                "shapes",
                "All three have the shape (B, H, T, Dh).",
                _projected_shapes,
                _three_equal_shapes,
            ),
            Property(
                "queries",
                "The first third of the weight makes the queries.",
                _third_zeroed(0),
                _only_this_is_zero(0),
            ),
            Property(
                "keys",
                "The second third makes the keys.",
                _third_zeroed(1),
                _only_this_is_zero(1),
            ),
            Property(
                "values third",
                "The last third makes the values.",
                _third_zeroed(2),
                _only_this_is_zero(2),
            ),
            Property(
                "square weight",
                "The weight is (3D, d_in), also where that is a square.",
                _three,
                cases=_square_inputs,
            ),
            Property(
                "extremes",
                "One head, one text, one token and heads of one feature work too.",
                _three,
                cases=_extreme_projections,
            ),
            Property(
                "64 bits",
                "Numbers of 64 bits keep all their digits, in whatever order they are in memory.",
                _three,
                cases=_projected_doubles,
            ),
            Property(
                "gradient", "The gradient reaches x and all of weight.", _projection_gradients
            ),
        ),
        hints=(
            "One product gives (B, T, 3D). Cut the last axis in three before you think of heads.",
            "chunk(3, dim=-1) gives three tensors (B, T, D). Split each into heads.",
        ),
        misconceptions=(
            Misconception(
                "The heads are cut before queries, keys and values",
                "The rows of the weight are all queries, then all keys, then all values. Cutting "
                "into heads first mixes the three.",
                _head_by_head,
            ),
            Misconception(
                "Queries and keys are swapped", "The order is queries, keys, values.", _keys_first
            ),
            Misconception(
                "Values come first", "The order is queries, keys, values.", _values_first
            ),
            Misconception(
                "Every third row",
                "Each of the three is a block of D rows, not every third row.",
                _interleaved,
            ),
            Misconception(
                "A view without a transpose",
                "The three thirds are right, but the split reads them in memory order, so the "
                "heads get parts of the text.",
                _views_alone,
                "3.4",
            ),
            Misconception(
                "The weight is not transposed",
                "The rows of the weight belong to the features that come out: x @ weight.T.",
                _weight_not_transposed,
                "3.3",
            ),
        ),
    ),
    Exercise(
        id="03.multi_head_attention",
        title="The layer, with heads that share keys and values",
        kind="implement",
        points=4,
        difficulty=3,
        section="3.7",
        reference=MultiHeadAttention,
        cases=_layer_inputs,
        axes=_layer_axes,
        builds_on=("03.split_heads", "03.merge_heads", "02.causal_weights"),
        properties=(
            Property("values", "Without num_kv_heads it is the chapter's layer.", _layer_values),
            Property(
                "shared",
                "With num_kv_heads, neighbouring heads share a head of keys and values.",
                _shared_values,
                cases=_shared_inputs,
            ),
            Property("parameters", "The parameters have their names and sizes.", _layer_parameters),
            Property(
                "PyTorch",
                "With the same weights, nn.MultiheadAttention gives the same.",
                _our_layer_as_theirs,
                _is_torchs,
                cases=_square_layer_inputs,
            ),
            Property(
                "lengths",
                "It takes texts from one token to context_length.",
                _layer_at_lengths,
                cases=_full_context,
            ),
            Property(
                "causality",
                "Changing a token moves its own output and all later ones.",
                _layer_of_changed_token,
                _token_2_and_later_move,
                cases=_full_context,
            ),
            Property(
                "gradient from the past",
                "An output has a gradient from its own and earlier tokens, and from no later one.",
                _layer_sensitivity,
                _layer_sees_its_past,
            ),
            Property(
                "gradients",
                "The right gradient reaches every parameter.",
                _layer_gradients,
                cases=_one_shared_input,
            ),
            Property(
                "state dict",
                "A new layer with the state dict of another one computes the same.",
                _layer_copied,
                same_both_times,
            ),
            Property(
                "batch",
                "A text's output does not depend on the other texts.",
                _layer_on_first_text,
                same_both_times,
                cases=_full_context,
            ),
            Property(
                "64 bits",
                "Numbers of 64 bits keep all their digits, in whatever order they are in memory.",
                _shared_values,
                cases=_layer_doubles,
            ),
            Property("in use", "In use, nothing is dropped.", _layer_in_use, _nothing_is_dropped),
            Property(
                "dropout",
                "In training, dropout falls on the attention weights.",
                _dropped_heads,
                _whole_heads_are_dropped,
            ),
        ),
        hints=(
            "W_key and W_value have num_kv_heads * head_dim outputs; head_dim follows from "
            "num_heads.",
            "Split queries into num_heads, keys and values into num_kv_heads. Then repeat each "
            "head of keys and values for the heads that share it.",
            "repeat_interleave(2, dim=1) turns heads 0, 1 into 0, 0, 1, 1; repeat makes 0, 1, 0, "
            "1 of them.",
        ),
        misconceptions=(
            Misconception(
                "The shared heads in turn",
                "repeat gives heads 0, 1, 0, 1. Neighbouring heads share, 0, 0, 1, 1, which is "
                "repeat_interleave.",
                _RepeatedInTurn,
                "3.11",
            ),
            Misconception(
                "No mask",
                "Nothing blocks the scores of later tokens.",
                _NoMask,
            ),
            Misconception(
                "A token does not see itself",
                "The diagonal is blocked too. The first token then sees nothing, and its softmax "
                "is 0 / 0.",
                _BlindToItself,
            ),
            Misconception(
                "Scaled by the whole width",
                "The dot product of a head adds up head_dim products: divide by √head_dim.",
                _WholeWidthScale,
                "3.5",
            ),
            Misconception(
                "Not scaled",
                "The scores are not divided by √head_dim.",
                _NoScale,
                "3.5",
            ),
            Misconception(
                "Split by a view alone",
                "The view reads the numbers in memory order, so a head holds a part of the text.",
                _SplitByView,
                "3.4",
            ),
            Misconception(
                "Merged by a view alone",
                "Without the transpose, a row of the result holds one head of several tokens.",
                _MergedByView,
                "3.6",
            ),
            Misconception(
                "No output projection",
                "The merged heads are returned as they are: out_proj is not called.",
                _NotMixed,
                "3.6",
            ),
            Misconception(
                "Dropout in use too",
                "A function does not know whether the layer is in training: hand it "
                "self.training, or call an nn.Dropout.",
                _AlwaysDropping,
                "3.8",
            ),
            Misconception(
                "No dropout",
                "The rate is kept and never used.",
                _NeverDropping,
            ),
            Misconception(
                "Dropout on the output",
                "What is dropped is the layer's output. It belongs to the weights, between "
                "softmax and values.",
                _OutputDropped,
            ),
            Misconception(
                "Nothing is shared",
                "num_kv_heads changes nothing: every head still has keys and values of its own.",
                _NeverSharing,
                "3.11",
            ),
        ),
    ),
    Exercise(
        id="03.from_torch",
        title="Weights from PyTorch's layer",
        kind="implement",
        points=3,
        difficulty=2,
        section="3.9",
        reference=from_torch,
        cases=_torch_state_dicts,
        builds_on=("03.one_projection", "03.multi_head_attention"),
        properties=(
            Property("values", "Every tensor is the right part of PyTorch's."),
            Property(
                "names",
                "The names and shapes are those of MultiHeadAttention.",
                _names_and_shapes,
                _fit_the_layer,
            ),
            Property(
                "same function",
                "The layer with your weights computes what PyTorch's layer computes.",
                _output_of_ours,
                _output_is_theirs,
            ),
            Property("output projection", "out_proj is taken over as it is.", _out_proj_alone),
            Property(
                "there and back",
                "Queries, keys and values stacked again are PyTorch's matrix and bias.",
                _stacked_again,
                _is_theirs,
            ),
            Property(
                "64 bits", "Numbers of 64 bits keep all their digits.", cases=_double_state_dicts
            ),
        ),
        hints=(
            "Print the names and shapes of both state dicts side by side.",
            "in_proj_weight.chunk(3) cuts along the rows: queries, keys, values.",
        ),
        misconceptions=(
            Misconception(
                "The biases are missing",
                "in_proj_bias holds the biases of the three projections, stacked like the weights.",
                _without_biases,
            ),
            Misconception(
                "The matrices are transposed",
                "nn.Linear and in_proj_weight both have one row for each feature that comes out, "
                "so nothing is to be transposed. (The files of GPT-2 are another matter.)",
                _transposed,
                "3.11",
            ),
            Misconception(
                "Queries and keys are swapped",
                "The order of the rows is queries, keys, values.",
                _keys_before_queries,
            ),
            Misconception(
                "Queries and values are swapped",
                "The order of the rows is queries, keys, values.",
                _values_before_queries,
            ),
            Misconception(
                "Every third row",
                "Each projection is a block of D rows, not every third row.",
                _every_third_row,
            ),
            Misconception(
                "Cut along the columns",
                "The three projections stand below each other: cut along the rows, dim=0.",
                _columns_cut,
            ),
        ),
    ),
    Exercise(
        id="03.wrong_view",
        title="No error, no leak, and wrong",
        kind="debug",
        points=3,
        difficulty=3,
        section="3.6",
        reference=repaired_heads,
        cases=_projected,
        axes=_heads_axes,
        builds_on=("03.split_heads", "03.merge_heads"),
        properties=(
            Property("values", "The output is that of multi-head causal attention."),
            Property(
                "no future",
                "Changing a token leaves all earlier outputs as they were.",
                _change_each,
                _no_future,
            ),
            Property(
                "whole past",
                "Changing a token moves its own output and all later ones.",
                _change_each,
                _whole_past,
            ),
            Property(
                "heads apart",
                "The values of head 0 reach the features of head 0 and no others.",
                _move_first_values,
                _only_first_features_move,
            ),
            Property("one head", "One head is causal attention.", cases=_projected_one_head),
            Property(
                "extremes",
                "A head for each feature, one text and one token work too.",
                cases=_projected_extremes,
            ),
            Property(
                "gradient",
                "An output has a gradient from its own and earlier values, and from no later one.",
                _sensitivity_of_heads,
                _past_has_gradient,
            ),
            Property(
                "average",
                "Where all tokens have the same values, these come out: each row sums to 1.",
                _same_values,
                _give_those_values,
            ),
            Property(
                "64 bits",
                "Numbers of 64 bits keep all their digits, in whatever order they are in memory.",
                cases=_projected_doubles_apart,
            ),
        ),
        hints=(
            "Call it with one head and with two, and change the first token. Who notices?",
            "Put numbers that tell where they come from through the split and through the merge.",
            "There is a third fault. It has nothing to do with the order of axes; print the spread "
            "of the scores.",
        ),
        misconceptions=(
            Misconception(
                "The scale is still that of the whole width",
                "Split and merge are right. The dot product of a head adds up head_dim products, "
                "so its scores are divided by the square root of head_dim.",
                _faulty(split_heads, merge_heads, per_head=False),
                "3.5",
            ),
            Misconception(
                "Only the split is repaired",
                "The merge still reads the heads in memory order, so a row of the result holds "
                "other tokens, later ones too.",
                _faulty(split_heads, _merged_by_view, per_head=False),
            ),
            Misconception(
                "Only the merge is repaired",
                "The split still hands each head a part of the text instead of a part of every "
                "token's features.",
                _faulty(_view_alone, merge_heads, per_head=False),
                "3.4",
            ),
            Misconception(
                "Only the scale is repaired",
                "The heads still divide the text among themselves: change the first token and look "
                "at the last output.",
                _faulty(_view_alone, _merged_by_view, per_head=True),
                "3.4",
            ),
            Misconception(
                "The split is still a view",
                "Each head gets a part of the text instead of a part of every token's features.",
                _faulty(_view_alone, merge_heads, per_head=True),
                "3.4",
            ),
            Misconception(
                "The merge is still a view",
                "A row of the result holds other tokens' heads, later ones too.",
                _faulty(split_heads, _merged_by_view, per_head=True),
            ),
            Misconception(
                "Nothing is repaired yet",
                "This is the code as it was given.",
                _faulty(_view_alone, _merged_by_view, per_head=False),
            ),
        ),
    ),
    Exercise(
        id="03.cost",
        title="What a layer costs",
        kind="measure",
        points=2,
        difficulty=2,
        section="3.8",
        reference=_COST,
        properties=(
            Property(
                "flops_tokens",
                "More operations for twice the tokens: how many times.",
                _entry("flops_tokens"),
                tolerance=0.003,
            ),
            Property(
                "flops_heads",
                "More operations for four times the heads: how many times.",
                _entry("flops_heads"),
                tolerance=0.003,
            ),
            Property(
                "kept_heads",
                "More numbers kept for four times the heads: how many times.",
                _entry("kept_heads"),
                tolerance=0.003,
            ),
            Property(
                "crossover",
                "From here on the attention costs more than the projections.",
                _entry("crossover"),
                tolerance=0.011,
            ),
        ),
        hints=(
            "Write a function that counts for given T and H, and call it at the two ends.",
            "With one token there are nearly only projections. Their cost grows with T, so you "
            "know it for every T, and the rest is attention.",
        ),
        misconceptions=(
            Misconception(
                "The attention was not counted",
                "The operations grow with T and not with T²: only the projections are in the "
                "count. The counter does not look into a fused kernel on the CPU.",
                {**_COST, "flops_tokens": 2.0},
            ),
            Misconception(
                "The projections were not counted",
                "Four times would be the attention alone. The layer has four projections too, and "
                "their cost doubles.",
                {**_COST, "flops_tokens": 4.0},
            ),
            Misconception(
                "More heads, more operations",
                "Each head is a quarter as wide when there are four times as many, so scores and "
                "sums cost what they did.",
                {**_COST, "flops_heads": 4.0},
                "3.2",
            ),
            Misconception(
                "The heads share out the table",
                "The features are dealt out to the heads, the table is not: each head has a (T, T) "
                "table of its own.",
                {**_COST, "kept_heads": 1.0},
            ),
            Misconception(
                "The table alone",
                "The table has four times the numbers. What else is kept, queries, keys and "
                "values, does not grow with the heads.",
                {**_COST, "kept_heads": 4.0},
            ),
            Misconception(
                "The scores alone",
                "The weighted sum of the values costs as much as the scores: attention is both.",
                {**_COST, "crossover": 4 * _WIDTH},
            ),
            Misconception(
                "Three projections",
                "There is a fourth: out_proj.",
                {**_COST, "crossover": 1.5 * _WIDTH},
                "3.6",
            ),
        ),
    ),
    Exercise(
        id="03.heads",
        title="Which head looks back?",
        kind="explore",
        points=2,
        difficulty=2,
        section="3.10",
        reference=weight_on_previous,
        cases=_causal_tables,
        axes=_weights_axes,
        properties=(
            Property("values", "The mean weight on the token before, for each head."),
            Property(
                "extremes",
                "A head that looks only at the token before has 1, one that looks at itself 0.",
                call,
                _one_and_zero,
                cases=_previous_only,
            ),
            Property(
                "even weights",
                "For heads that average their past it is the mean of 1/2, 1/3, and so on.",
                call,
                _harmonic,
                cases=_even,
            ),
            Property("heads apart", "A head's number does not depend on the others.", _each_alone),
            Property(
                "two tokens",
                "Of two tokens only the second counts, with the mean over the texts.",
                call,
                _mean_share,
                cases=_two_tokens,
            ),
        ),
        hints=(
            "Row i holds the weights of token i. In which column is the token before it?",
            "diagonal(offset=-1, dim1=-2, dim2=-1) gives (B, H, T - 1).",
        ),
        misconceptions=(
            Misconception(
                "The weight on itself",
                "The main diagonal holds each token's weight on itself; the one below it holds the "
                "weight on the token before.",
                _weight_on_itself,
            ),
            Misconception(
                "The diagonal above",
                "offset=1 is the future, where the mask leaves nothing but zeros.",
                _weight_on_next,
            ),
            Misconception(
                "Divided by T instead of T - 1",
                "The first token has no token before it, so there are T - 1 weights.",
                _divided_by_all_tokens,
            ),
            Misconception(
                "The mean over heads instead of texts",
                "The heads are axis 1. Take the mean over axis 0, the texts, and over the tokens.",
                _heads_mixed,
            ),
            Misconception(
                "The weight on the first token",
                "Column 0 is the first token of the text, not the one before.",
                _weight_on_first,
            ),
            Misconception(
                "Summed over the texts",
                "Take the mean over the texts, too: a weight cannot exceed 1.",
                _summed_over_texts,
            ),
        ),
    ),
)
