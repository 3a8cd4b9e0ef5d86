"""Exercises of chapter 2, causal attention."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from course_pkg.checks.compare import expect, expect_close, shape_is
from course_pkg.checks.engine import Exercise, Misconception, Property, call
from course_pkg.checks.entries import entry_is
from course_pkg.checks.probes import input_gradients, sees_its_past_alone, sensitivity


def _randn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


def _tril(size: int) -> Tensor:
    return torch.ones(size, size, dtype=torch.bool).tril()


def _text_axes(x: Tensor, *others: Tensor) -> dict[str, int]:
    return dict(zip("BTd", x.shape, strict=True))


def _texts_one_by_one(function, *tensors):
    """What a batch gives, and what its texts give by themselves."""
    alone = [function(*(x[i : i + 1] for x in tensors)) for i in range(len(tensors[0]))]
    return function(*tensors), torch.cat(alone)


def _same_one_by_one(seen, *tensors):
    expect_close(seen[1], seen[0], "each text by itself, compared with the batch")


# 02.past_average


def past_average(x: Tensor) -> Tensor:
    """(B, T, d) -> (B, T, d): each token becomes the mean of itself and the tokens before it."""
    counts = torch.arange(1, x.shape[1] + 1, dtype=x.dtype)
    return x.cumsum(dim=1) / counts[:, None]


def _mean_of_all(x: Tensor) -> Tensor:
    return x.mean(dim=1, keepdim=True).expand_as(x)


def _running_sum(x: Tensor) -> Tensor:
    return x.cumsum(dim=1)


def _divided_by_length(x: Tensor) -> Tensor:
    return x.cumsum(dim=1) / x.shape[1]


def _without_itself(x: Tensor) -> Tensor:
    past = torch.ones(x.shape[1], x.shape[1]).tril(diagonal=-1)
    return past / past.sum(dim=1, keepdim=True) @ x


def _mean_of_future(x: Tensor) -> Tensor:
    future = torch.ones(x.shape[1], x.shape[1]).triu()
    return future / future.sum(dim=1, keepdim=True) @ x


def _past_average_inputs(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 5, 3),), (_randn(generator, 1, 4, 6),)]


def _change_last(past_average, x):
    changed = x.clone()
    changed[:, -1] += 1.0
    return past_average(x), past_average(changed)


def _only_last_moves(seen, x):
    before, after = seen
    moved = [i for i in range(x.shape[1]) if not torch.equal(before[:, i], after[:, i])]
    expect(
        moved == [x.shape[1] - 1],
        f"token {x.shape[1] - 1}, the last, was changed; outputs that moved: {moved}",
    )


def _first_token_stays(y, x):
    expect_close(y[:, 0], x[:, 0], "the first output")


def _equal_rows(past_average, x):
    return past_average(x[:, :1].expand_as(x).clone())


def _equal_rows_stay(y, x):
    expect_close(y, x[:, :1].expand_as(x), "a text whose vectors are all equal")


def _texts_of_one_token(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 3, 1, 4),)]


# 02.softmax


def softmax(scores: Tensor) -> Tensor:
    """Weights along the last dimension: positive, sum 1, for scores of any size."""
    powers = (scores - scores.max(dim=-1, keepdim=True).values).exp()
    return powers / powers.sum(dim=-1, keepdim=True)


def _naive_softmax(scores: Tensor) -> Tensor:
    powers = scores.exp()
    return powers / powers.sum(dim=-1, keepdim=True)


def _softmax_of_columns(scores: Tensor) -> Tensor:
    return torch.softmax(scores, dim=-2)


def _one_softmax_for_all(scores: Tensor) -> Tensor:
    powers = (scores - scores.max()).exp()
    return powers / powers.sum()


def _one_maximum_for_all(scores: Tensor) -> Tensor:
    powers = (scores - scores.max()).exp()
    return powers / powers.sum(dim=-1, keepdim=True)


def _no_exponential(scores: Tensor) -> Tensor:
    return scores / scores.sum(dim=-1, keepdim=True)


def _softmax_inputs(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 4, 5),), (3 * _randn(generator, 2, 3, 6),)]


def _large_scores(generator: torch.Generator) -> list[tuple]:
    levels = torch.tensor([[1000.0], [-1000.0], [0.0]])  # each row at a level of its own
    return [(levels + _randn(generator, 3, 4),)]


def _masked_scores(generator: torch.Generator) -> list[tuple]:
    scores = _randn(generator, 4, 4)
    return [(scores.masked_fill(~_tril(4), -torch.inf),)]


def _weights_sum_to_one(weights, scores):
    expect(bool((weights >= 0).all()), f"the smallest weight is {weights.min().item():.4g}")
    expect_close(
        weights.sum(dim=-1), torch.ones(scores.shape[:-1]), "sums along the last dimension"
    )


def _shifted(softmax, scores):
    return softmax(scores), softmax(scores + 3.0)


def _shift_does_nothing(seen, scores):
    # the sum of a score and 3 is rounded, so the last digits may move
    expect_close(seen[1], seen[0], "weights after 3 was added to every score", tolerance=1e-4)


# 02.shapes: a batch of 3 texts of 7 tokens, d_in = 16, d_out = 5


def _shapes() -> dict[str, tuple[int, ...]]:
    x = torch.zeros(3, 7, 16)
    w_query = torch.nn.Linear(16, 5)
    queries = keys = values = w_query(x)
    scores = queries @ keys.transpose(-2, -1)
    tensors = {
        "W_query.weight": w_query.weight,
        "queries": queries,
        "scores": scores,
        "allowed": _tril(7),
        "output": scores @ values,
    }
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


_SHAPES = _shapes()


# 02.scaled_dot_product


def scaled_dot_product(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """(..., N, d), (..., M, d), (..., M, dv) -> (..., N, dv)"""
    return _mixture(queries, keys, values, scale=math.sqrt(queries.shape[-1]))


def _mixture(queries, keys, values, scale=1.0, dim=-1):
    weights = torch.softmax(_raw_scores(queries, keys) / scale, dim=dim)
    return weights @ values


def _mixed_unscaled(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return _mixture(queries, keys, values)


def _mixed_over_d(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return _mixture(queries, keys, values, queries.shape[-1])


def _mixed_over_root_of_keys(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return _mixture(queries, keys, values, math.sqrt(keys.shape[-2]))


def _mixed_over_root_of_values(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return _mixture(queries, keys, values, math.sqrt(values.shape[-1]))


def _mixed_over_queries(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return _mixture(queries, keys, values, math.sqrt(queries.shape[-1]), dim=-2)


def _scaled_after_softmax(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return _mixture(queries, keys, values) / math.sqrt(queries.shape[-1])


def _axes_from_the_front(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    scores = queries @ keys.transpose(1, 2) / math.sqrt(queries.shape[-1])
    return torch.softmax(scores, dim=-1) @ values


def _causal_anyway(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(queries, keys, values, is_causal=True)


def _queries_keys_values(generator: torch.Generator) -> list[tuple]:
    def inputs(leading, num_queries, num_keys, d, d_values):
        shapes = (num_queries, d), (num_keys, d), (num_keys, d_values)
        return tuple(_randn(generator, *leading, *shape) for shape in shapes)

    return [inputs((2,), 6, 4, 7, 3), inputs((2, 3), 5, 7, 8, 4), inputs((), 6, 4, 3, 5)]


def _one_key(generator: torch.Generator) -> list[tuple]:
    return [tuple(_randn(generator, 2, *shape) for shape in ((3, 5), (1, 5), (1, 4)))]


def _in_float64(generator: torch.Generator) -> list[tuple]:
    return [tuple(x.double() for x in inputs) for inputs in _queries_keys_values(generator)[:1]]


def _transposed_views(generator: torch.Generator) -> list[tuple]:
    # heads cut out of the features, as in chapter 3: (B, T, H, d) -> (B, H, T, d)
    shapes = (2, 5, 3, 8), (2, 7, 3, 8), (2, 7, 3, 4)
    return [tuple(_randn(generator, *shape).transpose(1, 2) for shape in shapes)]


def _mixture_axes(queries: Tensor, keys: Tensor, values: Tensor) -> dict[str, int]:
    leading = dict(zip("BH", queries.shape[:-2], strict=False))
    sizes = {"N": queries, "M": keys, "d": queries, "dv": values}
    last = {letter: x.shape[-2 if letter in "NM" else -1] for letter, x in sizes.items()}
    return {**leading, **last}


def _change_first_query(scaled_dot_product, queries, keys, values):
    changed = queries.clone()
    changed[..., 0, :] += 1.0
    return scaled_dot_product(queries, keys, values), scaled_dot_product(changed, keys, values)


def _only_first_moves(seen, queries, keys, values):
    before, after = seen
    rows = (before != after).any(dim=-1).reshape(-1, queries.shape[-2]).any(dim=0)
    moved = rows.nonzero().flatten().tolist()
    expect(moved == [0], f"query 0 was changed; outputs that moved: {moved}")


def _keys_in_another_order(scaled_dot_product, queries, keys, values):
    turned = scaled_dot_product(queries, keys.flip(-2), values.flip(-2))
    return scaled_dot_product(queries, keys, values), turned


def _order_does_nothing(seen, queries, keys, values):
    expect_close(seen[1], seen[0], "with keys and values in reverse order")


def _two_mixtures(scaled_dot_product, queries, keys, values):
    other = values.flip(-1) + 1.0
    outputs = [scaled_dot_product(queries, keys, v) for v in (values, other, 2 * values - other)]
    return tuple(outputs)


def _mixtures_add(seen, queries, keys, values):
    one, other, both = seen
    expect_close(both, 2 * one - other, "the output for values 2v - w", tolerance=1e-4)


def _gradients_of_all(scaled_dot_product, queries, keys, values):
    return input_gradients(scaled_dot_product, queries, keys, values)


def _gradients_arrive(seen, queries, keys, values):
    for name, gradient in zip(("queries", "keys", "values"), seen, strict=True):
        arrives = gradient is not None and bool((gradient != 0).any())
        expect(arrives, f"no gradient arrives at the {name}")
        expect(bool(gradient.isfinite().all()), f"a gradient of the {name} is no number")


# 02.causal_weights


def causal_weights(queries: Tensor, keys: Tensor) -> Tensor:
    """(B, T, d), (B, T, d) -> (B, T, T): scaled, masked before the softmax."""
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.shape[-1])
    return torch.softmax(scores.masked_fill(~_tril(queries.shape[1]), -torch.inf), dim=-1)


def _raw_scores(queries: Tensor, keys: Tensor) -> Tensor:
    return queries @ keys.transpose(-2, -1)


def _scaled_scores(queries: Tensor, keys: Tensor) -> Tensor:
    return _raw_scores(queries, keys) / math.sqrt(queries.shape[-1])


def _masked_softmax(scores: Tensor, allowed: Tensor, dim: int = -1) -> Tensor:
    return torch.softmax(scores.masked_fill(~allowed, -torch.inf), dim=dim)


def _unscaled(queries: Tensor, keys: Tensor) -> Tensor:
    return _masked_softmax(_raw_scores(queries, keys), _tril(queries.shape[1]))


def _divided_by_d(queries: Tensor, keys: Tensor) -> Tensor:
    return _masked_softmax(_raw_scores(queries, keys) / queries.shape[-1], _tril(queries.shape[1]))


def _divided_by_root_of_tokens(queries: Tensor, keys: Tensor) -> Tensor:
    scores = _raw_scores(queries, keys) / math.sqrt(queries.shape[1])
    return _masked_softmax(scores, _tril(queries.shape[1]))


def _zeroed_after(queries: Tensor, keys: Tensor) -> Tensor:
    return torch.softmax(_scaled_scores(queries, keys), dim=-1) * _tril(queries.shape[1])


def _score_zero(queries: Tensor, keys: Tensor) -> Tensor:
    scores = _scaled_scores(queries, keys) * _tril(queries.shape[1])
    return torch.softmax(scores, dim=-1)


def _inverted(queries: Tensor, keys: Tensor) -> Tensor:
    scores = _scaled_scores(queries, keys)
    return torch.softmax(scores.masked_fill(_tril(queries.shape[1]), -torch.inf), dim=-1)


def _upper_triangle(queries: Tensor, keys: Tensor) -> Tensor:
    size = queries.shape[1]
    allowed = torch.ones(size, size, dtype=torch.bool).triu()
    return _masked_softmax(_scaled_scores(queries, keys), allowed)


def _columns(queries: Tensor, keys: Tensor) -> Tensor:
    return _masked_softmax(_scaled_scores(queries, keys), _tril(queries.shape[1]), dim=-2)


def _no_mask(queries: Tensor, keys: Tensor) -> Tensor:
    return torch.softmax(_scaled_scores(queries, keys), dim=-1)


def _queries_and_keys(generator: torch.Generator) -> list[tuple]:
    return [
        (_randn(generator, 2, 5, 8), _randn(generator, 2, 5, 8)),
        (_randn(generator, 1, 6, 3), _randn(generator, 1, 6, 3)),
    ]


def _one_token(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 2, 1, 4), _randn(generator, 2, 1, 4))]


def _future_is_zero(weights, queries, keys):
    later = weights[:, ~_tril(queries.shape[1])]
    expect(
        bool((later == 0).all()),
        f"the largest weight right of the diagonal is {later.max().item():.4g}",
    )


def _rows_sum_to_one(weights, queries, keys):
    sums = weights.sum(dim=-1)
    expect_close(sums, torch.ones(queries.shape[:2]), "sums of the rows")


def _change_last_token(causal_weights, queries, keys):
    changed = queries.clone(), keys.clone()
    for tensor in changed:
        tensor[:, -1] += 2.0
    return causal_weights(queries, keys), causal_weights(*changed)


def _earlier_rows_stay(seen, queries, keys):
    before, after = seen
    rows = range(queries.shape[1] - 1)
    moved = [i for i in rows if not torch.allclose(before[:, i], after[:, i], equal_nan=True)]
    expect(not moved, f"the last token was changed; earlier rows that moved: {moved}")


def _weights_of_one_input(causal_weights, queries, keys):
    """How much row i of the weights moves with key j: (T, T), from gradients."""
    size = queries.shape[1]
    factors = torch.arange(1.0, size + 1)  # else the gradients of a row's weights add up to 0
    gradients = []
    for i in range(size):
        tracked = keys.clone().requires_grad_()
        row = causal_weights(queries, tracked)[:, i]  # (B, T)
        (gradient,) = torch.autograd.grad((row * factors).sum(), tracked)
        gradients.append(gradient.norm(dim=(0, 2)))
    return torch.stack(gradients)


def _no_gradient_of_the_future(seen, queries, keys):
    small = 1e-5 * seen.max()  # weights that are divided by their sum again leave a rounding error
    future = [(i, j) for i, j in (~(seen <= small)).nonzero().tolist() if j > i]
    expect(not future, "rows with a gradient from a later key: " + _pairs(future))


# 02.mask


def masked_weights(scores: Tensor, is_real: Tensor) -> Tensor:
    """(B, T, T) scores, (B, T) booleans -> (B, T, T) weights, causal and without padding."""
    allowed = _allowed(is_real)
    nothing = ~allowed.any(dim=-1, keepdim=True)  # (B, T, 1), True: the row sees no token
    scores = scores.masked_fill(~allowed, -torch.inf).masked_fill(nothing, 0.0)
    return torch.softmax(scores, dim=-1).masked_fill(~allowed, 0.0)


def _allowed(is_real: Tensor) -> Tensor:
    return _tril(is_real.shape[1]) & is_real[:, None, :]


def _zero_rows(scores: Tensor, allowed: Tensor) -> Tensor:
    """The weights for any mask, right also for rows that see nothing."""
    nothing = ~allowed.any(dim=-1, keepdim=True)
    scores = scores.masked_fill(~allowed, -torch.inf).masked_fill(nothing, 0.0)
    return torch.softmax(scores, dim=-1).masked_fill(~allowed, 0.0)


def _causal_only(scores: Tensor, is_real: Tensor) -> Tensor:
    return _zero_rows(scores, _tril(is_real.shape[1]).expand_as(scores))


def _neither_mask(scores: Tensor, is_real: Tensor) -> Tensor:
    return torch.softmax(scores, dim=-1)


def _padding_only(scores: Tensor, is_real: Tensor) -> Tensor:
    return _zero_rows(scores, is_real[:, None, :].expand_as(scores))


def _padding_rows(scores: Tensor, is_real: Tensor) -> Tensor:
    return _zero_rows(scores, _tril(is_real.shape[1]) & is_real[:, :, None])


def _padding_rows_too(scores: Tensor, is_real: Tensor) -> Tensor:
    return _zero_rows(scores, _allowed(is_real) & is_real[:, :, None])


def _padding_inverted(scores: Tensor, is_real: Tensor) -> Tensor:
    return _zero_rows(scores, _allowed(~is_real))


def _one_or_the_other(scores: Tensor, is_real: Tensor) -> Tensor:
    return _zero_rows(scores, _tril(is_real.shape[1]) | is_real[:, None, :])


def _rows_of_nan(scores: Tensor, is_real: Tensor) -> Tensor:
    return _masked_softmax(scores, _allowed(is_real))


def _nan_replaced(scores: Tensor, is_real: Tensor) -> Tensor:
    added = torch.zeros_like(scores).masked_fill(~_allowed(is_real), -torch.inf)
    return torch.softmax(scores + added, dim=-1).nan_to_num(0.0)


def _masked_after(scores: Tensor, is_real: Tensor) -> Tensor:
    return torch.softmax(scores, dim=-1) * _allowed(is_real)


def _large_negative(scores: Tensor, is_real: Tensor) -> Tensor:
    return torch.softmax(scores.masked_fill(~_allowed(is_real), -1e9), dim=-1)


def _padded_scores(generator: torch.Generator) -> list[tuple]:
    # padding behind, in front, on both sides and nowhere
    real = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 1], [0, 1, 1, 1, 0], [1] * 5]).bool()
    any_real = torch.rand(2, 6, generator=generator) < 0.6
    return [
        (_randn(generator, 4, 5, 5), real),
        (_randn(generator, 2, 6, 6), any_real),
    ]


def _nothing_but_padding(generator: torch.Generator) -> list[tuple]:
    real = torch.zeros(2, 4, dtype=torch.bool)
    real[0, 1] = True
    return [(_randn(generator, 2, 4, 4), real)]


def _future_has_no_weight(weights, scores, is_real):
    _have_no_weight(weights, ~_tril(scores.shape[1]), "a later token")


def _padding_has_no_weight(weights, scores, is_real):
    _have_no_weight(weights, ~is_real[:, None, :], "padding")


def _have_no_weight(weights, forbidden, what):
    for text, i, j in ((weights != 0) & forbidden).nonzero().tolist():
        weight = weights[text, i, j].item()
        expect(False, f"in text {text}, row {i} gives token {j}, {what}, the weight {weight:.4g}")


def _sums_are_one_or_zero(weights, scores, is_real):
    sees = _allowed(is_real).any(dim=-1)
    expect_close(weights.sum(dim=-1), sees.float(), "sums of the rows")


def _without_its_padding(masked_weights, scores, is_real):
    """The weights among the real tokens: with the padding, and without."""
    seen = []
    for text, real in zip(scores, is_real, strict=True):
        kept = text[real][:, real]
        all_real = torch.ones(1, len(kept), dtype=torch.bool)
        seen.append(masked_weights(text[None], real[None])[0][real][:, real])
        seen.append(masked_weights(kept[None], all_real)[0])
    return seen


def _padding_does_nothing(seen, scores, is_real):
    for number, (padded, bare) in enumerate(zip(seen[::2], seen[1::2], strict=True)):
        expect_close(padded, bare, f"text {number} with its padding, compared with it alone")


def _some_padding(generator: torch.Generator) -> list[tuple]:
    return _padded_scores(generator)[:1]


def _gradient_of_scores(masked_weights, scores, is_real):
    return input_gradients(masked_weights, scores, is_real)[0]


def _gradients_are_numbers(seen, scores, is_real):
    expect(seen is not None, "no gradient arrives at the scores")
    rows = seen.isnan().any(dim=-1).nonzero().tolist()
    expect(not rows, f"the gradient of the scores is nan; rows [text, i]: {rows[:4]}")
    masked = seen[~_allowed(is_real)]
    expect(bool((masked == 0).all()), "a score that is masked has a gradient")


def _mask_axes(scores: Tensor, is_real: Tensor) -> dict[str, int]:
    return {"B": scores.shape[0], "T": scores.shape[1]}


# 02.leak


def repaired_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Causal attention, (B, T, d) three times -> (B, T, d)."""
    return causal_weights(queries, keys) @ values


def _leaky(queries: Tensor, keys: Tensor, values: Tensor, diagonal: int, dim: int) -> Tensor:
    size = queries.shape[1]
    blocked = torch.ones(size, size, dtype=torch.bool).triu(diagonal=diagonal)
    scores = _scaled_scores(queries, keys).masked_fill(blocked, -torch.inf)
    return torch.softmax(scores, dim=dim) @ values


def _as_given(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return _leaky(queries, keys, values, diagonal=2, dim=1)


def _only_mask_repaired(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return _leaky(queries, keys, values, diagonal=1, dim=1)


def _only_softmax_repaired(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return _leaky(queries, keys, values, diagonal=2, dim=-1)


def _mask_too_large(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    return _leaky(queries, keys, values, diagonal=0, dim=-1)


def _qkv(generator: torch.Generator) -> list[tuple]:
    def inputs(*shape):
        return tuple(_randn(generator, *shape) for _ in range(3))

    return [inputs(2, 5, 8), inputs(1, 6, 3)]


def _change_each(repaired_attention, queries, keys, values):
    """The output (T, d) of the first text, and the one after each of its tokens was changed."""
    first = [tensor[:1] for tensor in (queries, keys, values)]
    outputs = [repaired_attention(*first)[0]]
    for j in range(queries.shape[1]):
        changed = [tensor.clone() for tensor in first]
        for tensor in changed:
            tensor[:, j] += 1.0
        outputs.append(repaired_attention(*changed)[0])
    return torch.stack(outputs)


def _moves(outputs):
    """Pairs (i, j): output i is another one, or nan, after a change of token j."""
    same = torch.isclose(outputs[1:], outputs[:1], rtol=1e-4, atol=1e-6).all(dim=-1)  # (j, i)
    return {(i, j) for j, i in (~same).nonzero().tolist()}


def _no_future(outputs, queries, keys, values):
    future = sorted((i, j) for i, j in _moves(outputs) if j > i)
    expect(not future, "outputs that move when a later token is changed: " + _pairs(future))


def _whole_past(outputs, queries, keys, values):
    size = queries.shape[1]
    missing = sorted({(i, j) for i in range(size) for j in range(i + 1)} - _moves(outputs))
    expect(not missing, "outputs that ignore a token of their past: " + _pairs(missing))


def _pairs(pairs):
    shown = ", ".join(f"{i} (token {j})" for i, j in pairs[:4])
    return shown + (", ..." if len(pairs) > 4 else "")


def _values_of_ones(repaired_attention, queries, keys, values):
    return repaired_attention(queries, keys, torch.ones_like(values))


def _mean_of_ones(output, queries, keys, values):
    expect_close(output, torch.ones_like(values), "the output for values that are all 1")


def _first_is_own_value(output, queries, keys, values):
    expect_close(output[:, 0], values[:, 0], "the first output")


def _self_attention_sensitivity(repaired_attention, queries, keys, values):
    return sensitivity(lambda x: repaired_attention(x, x, x), queries)


def _past_gradients_alone(seen, queries, keys, values):
    sees_its_past_alone(seen)


# 02.read_maps: one head over five tokens, d = 64

FAULTS = {  # and what each of them shows
    "no fault": "nothing right of the diagonal, rows that add up to one, weights that differ",
    "no mask": "weights everywhere right of the diagonal",
    "mask one place too far": "weights right beside the diagonal, and none further to the right",
    "own token masked": "an empty diagonal, and a first row with nothing in it",
    "zeroed after the softmax": "rows that add up to less than one, the first ones least",
    "softmax over the queries": "columns that add up to one, where rows should",
    "scores not scaled": "nearly all weight on one token, in most rows",
    "scores divided by d": "rows in which all weights are nearly equal",
    "dropout left on": "zeros left of the diagonal, and other weights too large for their row",
}
_MAPS = {
    "A": "zeroed after the softmax",
    "B": "scores not scaled",
    "C": "mask one place too far",
    "D": "dropout left on",
    "E": "no fault",
    "F": "softmax over the queries",
}


def attention_maps() -> dict[str, Tensor]:
    """The maps of 02.read_maps by their letters, each (5, 5)."""
    return {letter: _map_with(fault) for letter, fault in _MAPS.items()}


def _map_with(fault: str) -> Tensor:
    size, d = 5, 64
    generator = torch.Generator().manual_seed(sum(map(ord, fault)))
    scores = _randn(generator, size, d) @ _randn(generator, size, d).T
    scores = scores / {"scores not scaled": 1, "scores divided by d": d}.get(fault, math.sqrt(d))
    diagonal = {"mask one place too far": 1, "own token masked": -1, "no mask": size}.get(fault, 0)
    allowed = torch.ones(size, size, dtype=torch.bool).tril(diagonal)
    if fault == "zeroed after the softmax":
        return torch.softmax(scores, dim=-1) * allowed
    dim = -2 if fault == "softmax over the queries" else -1
    weights = _masked_softmax(scores, allowed, dim)
    if fault == "dropout left on":
        weights = weights * (torch.rand(size, size, generator=generator) >= 0.3) / 0.7
    return weights


def _map_shows(letter: str, fault: str) -> Property:
    def judge(seen):
        expect(isinstance(seen, dict) and letter in seen, f"there is no entry {letter!r}")
        named = seen[letter]
        expect(named in FAULTS, f"{named!r} is none of the names: {', '.join(FAULTS)}")
        expect(named == fault, f"{named!r} would show {FAULTS[named]}: look at map {letter} again")

    return Property(f"map {letter}", f"What map {letter} shows is named.", judge=judge)


def _taken_for(**changes: str) -> dict[str, str]:
    return {**_MAPS, **changes}


# 02.attention_dropout


def attention_dropout(scores: Tensor, values: Tensor, p: float, training: bool) -> Tensor:
    """(B, T, T) scores, (B, T, d) values -> (B, T, d), with dropout on the weights."""
    weights = torch.softmax(scores, dim=-1)
    if training:
        weights = weights * (torch.rand(weights.shape) >= p) / (1 - p)
    return weights @ values


def _no_scale(scores: Tensor, values: Tensor, p: float, training: bool) -> Tensor:
    weights = torch.softmax(scores, dim=-1)
    if training:
        weights = weights * (torch.rand(weights.shape) >= p)
    return weights @ values


def _keeps_p(scores: Tensor, values: Tensor, p: float, training: bool) -> Tensor:
    weights = torch.softmax(scores, dim=-1)
    if training:
        weights = weights * (torch.rand(weights.shape) < p) / p
    return weights @ values


def _always_on(scores: Tensor, values: Tensor, p: float, training: bool) -> Tensor:
    return F.dropout(torch.softmax(scores, dim=-1), p) @ values


def _on_scores(scores: Tensor, values: Tensor, p: float, training: bool) -> Tensor:
    return torch.softmax(F.dropout(scores, p, training), dim=-1) @ values


def _on_output(scores: Tensor, values: Tensor, p: float, training: bool) -> Tensor:
    return F.dropout(torch.softmax(scores, dim=-1) @ values, p, training)


def _renormalised(scores: Tensor, values: Tensor, p: float, training: bool) -> Tensor:
    weights = F.dropout(torch.softmax(scores, dim=-1), p, training)
    return weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-9) @ values


_DROPOUT = 0.3  # far from 1/2, where "drop p" and "keep p" look the same


def _dropout_inputs(generator: torch.Generator) -> list[tuple]:
    def inputs(texts: int, tokens: int, width: int) -> tuple:
        scores = _randn(generator, texts, tokens, tokens).masked_fill(~_tril(tokens), -torch.inf)
        return scores, _randn(generator, texts, tokens, width)

    return [inputs(2, 5, 3), inputs(1, 4, 6)]


def _one_row_of_scores(generator: torch.Generator) -> list[tuple]:
    return [(_randn(generator, 6).mul(0.3),)]


def _in_use(attention_dropout, scores, values):
    return attention_dropout(scores, values, _DROPOUT, False)


def _rate_zero(attention_dropout, scores, values):
    return attention_dropout(scores, values, 0.0, True)


def _dropped_weights(attention_dropout, row):
    """Weights of one row in 4,000 draws, read off by values that are unit vectors, and their sum.

    (4000, T + 1): the last column belongs to a feature that is 1 in every value.
    """
    size = len(row)
    scores = row.expand(4000, size, size).clone()
    values = torch.cat([torch.eye(size), torch.ones(size, 1)], dim=1).expand(4000, -1, -1).clone()
    return attention_dropout(scores, values, _DROPOUT, True)[:, 0]


def _survivors_scaled(seen, row):
    weights = torch.softmax(row, dim=-1)
    factors = seen[:, :-1] / weights  # 0 or 1 / (1 - p)
    kept = factors[factors > 1e-6]
    expect(len(kept) > 0, "no weight is left")
    low, high = kept.min().item(), kept.max().item()
    expect(
        abs(low - 1 / (1 - _DROPOUT)) < 1e-3 and abs(high - 1 / (1 - _DROPOUT)) < 1e-3,
        f"with p={_DROPOUT} the kept weights are multiplied by {_range(low, high)}",
    )


def _range(low, high):
    return f"{low:.3f}" if high - low < 1e-3 else f"factors between {low:.3f} and {high:.3f}"


def _rate_is_p(seen, row):
    rate = (seen[:, :-1] == 0).float().mean().item()
    expect(abs(rate - _DROPOUT) < 0.02, f"with p={_DROPOUT}, {rate:.1%} of the weights are zero")


def _mean_is_weight(seen, row):
    weights = torch.softmax(row, dim=-1)
    factor = (seen[:, :-1].mean(dim=0) / weights).mean().item()
    expect(
        abs(factor - 1) < 0.03,
        f"with p={_DROPOUT} the mean of 4,000 draws is {factor:.2f} times the weight",
    )


def _one_draw_each(seen, row):
    kept = (seen[:, :-1] != 0).sum(dim=1).float()
    expected = len(row) * _DROPOUT * (1 - _DROPOUT)  # variance of a sum of independent draws
    expect(
        abs(kept.var().item() / expected - 1) < 0.25,
        f"the number of weights kept in a row of {len(row)} has the variance "
        f"{kept.var().item():.2f}; with one draw for each weight it is {expected:.2f}",
    )


def _features_share(seen, row):
    expect_close(
        seen[:, -1], seen[:, :-1].sum(dim=1), "the output for a feature that is 1 in every value"
    )


# 02.initial_spread: queries and keys of a new layer, d_in = d_out = 256


def _initial_spread() -> dict[str, float]:
    # A row of W has d_in numbers, uniform within ±1/√d_in: variance 1 / (3 d_in), so a query's
    # numbers have variance 1/3, and so have a key's. Over √d the scores then have spread 1/3.
    spread = math.sqrt(1 / 3 * 1 / 3)
    return {
        "queries": math.sqrt(1 / 3),
        "scores": spread * math.sqrt(256),
        "spread": spread,
        "largest": _largest_for(spread),
    }


def _largest_for(spread: float) -> float:
    generator = torch.Generator().manual_seed(0)
    weights = torch.softmax(spread * torch.randn(100_000, 16, generator=generator), dim=-1)
    return weights.max(dim=-1).values.mean().item()


_SPREAD = _initial_spread()


def _measured(name: str, statement: str) -> Property:
    judge = entry_is(name, _SPREAD[name], "more than 10 % off", tolerance=0.1)
    return Property(name, statement, judge=judge)


EXERCISES = (
    Exercise(
        id="02.past_average",
        title="Average the past without a loop",
        kind="implement",
        points=1,
        difficulty=1,
        section="2.2",
        reference=past_average,
        cases=_past_average_inputs,
        axes=_text_axes,
        properties=(
            Property("values", "Each token becomes the mean of its past."),
            Property("first token", "The first token has only itself.", call, _first_token_stays),
            Property(
                "causality",
                "Changing the last token moves the last output and no other.",
                _change_last,
                _only_last_moves,
            ),
            Property(
                "weights",
                "The weights of a token add up to one.",
                _equal_rows,
                _equal_rows_stay,
            ),
            Property(
                "batch",
                "Each text of a batch is averaged by itself.",
                _texts_one_by_one,
                _same_one_by_one,
            ),
            Property("one token", "A text of one token stays as it is.", cases=_texts_of_one_token),
        ),
        hints=(
            "How many tokens does the past of token i have, counted from 0?",
            "Use a lower triangle whose rows add up to one, or a running sum divided by 1, 2, 3...",
        ),
        misconceptions=(
            Misconception(
                "The sum was never divided",
                "A running sum grows along the text; the mean divides it by the number of tokens.",
                _running_sum,
            ),
            Misconception(
                "Every token was divided by the length of the text",
                "The past of token i (from 0) has i + 1 tokens, not T.",
                _divided_by_length,
            ),
            Misconception(
                "The mean of the whole text",
                "Every token got the same vector, made of later tokens too.",
                _mean_of_all,
            ),
            Misconception(
                "A token's past without the token",
                "The past includes the token itself; without it the first token has nothing to "
                "average and becomes nan.",
                _without_itself,
            ),
            Misconception(
                "The future instead of the past",
                "Row i uses the tokens from i on: triu keeps the upper triangle, tril the lower.",
                _mean_of_future,
            ),
        ),
    ),
    Exercise(
        id="02.softmax",
        title="A softmax for scores of any size",
        kind="implement",
        points=2,
        difficulty=1,
        section="2.3",
        reference=softmax,
        cases=_softmax_inputs,
        axes=lambda scores: dict(zip("BNK"[-scores.ndim :], scores.shape, strict=True)),
        properties=(
            Property("values", "The weights are those of the softmax formula."),
            Property(
                "sums",
                "Weights are not negative and add up to one along the last dimension.",
                call,
                _weights_sum_to_one,
            ),
            Property(
                "large scores",
                "Rows of scores near 1000 and near -1000 give numbers, not nan.",
                cases=_large_scores,
                tolerance=1e-3,  # near 1000 a float32 has four digits after the point
            ),
            Property("masked scores", "A score of -inf gets the weight 0.", cases=_masked_scores),
            Property(
                "shift",
                "Adding a number to all scores changes nothing.",
                _shifted,
                _shift_does_nothing,
            ),
        ),
        hints=(
            "What is exp(1000), and what is inf / inf?",
            "Subtract something from all scores of a row; the weights do not change.",
        ),
        misconceptions=(
            Misconception(
                "The powers overflow",
                "exp(1000) is inf and inf / inf is nan. Subtract the row's largest score first.",
                _naive_softmax,
            ),
            Misconception(
                "One maximum for all rows",
                "A row far below the largest score of the tensor has only powers that are 0, and "
                "0 / 0 is nan. Each row needs its own maximum: dim=-1, keepdim=True.",
                _one_maximum_for_all,
            ),
            Misconception(
                "One sum for all rows",
                "All weights together add up to one. Each row is a softmax of its own: "
                "dim=-1, keepdim=True.",
                _one_softmax_for_all,
            ),
            Misconception(
                "Columns instead of rows",
                "The weights add up to one along the dimension before the last.",
                _softmax_of_columns,
            ),
            Misconception(
                "No exponential",
                "Scores divided by their sum can be negative. The exponential makes them positive.",
                _no_exponential,
            ),
        ),
    ),
    Exercise(
        id="02.shapes",
        title="Shapes inside an attention layer",
        kind="predict",
        points=1,
        difficulty=1,
        section="2.5",
        builds_on=("02.softmax",),
        reference=_SHAPES,
        properties=tuple(
            Property(name, statement, judge=shape_is(name, _SHAPES))
            for name, statement in {
                "W_query.weight": "The matrix of a linear layer maps d_in to d_out numbers.",
                "queries": "There is one query for each token.",
                "scores": "There is one score for each pair of tokens.",
                "allowed": "One mask serves the whole batch.",
                "output": "There is one output vector for each token.",
            }.items()
        ),
        hints=(
            "The product of an (n, k) and a (k, m) matrix is (n, m); a batch stays in front.",
            "nn.Linear stores its matrix with one row for each number that comes out.",
        ),
        misconceptions=(
            Misconception(
                "The matrix the other way round",
                "nn.Linear(d_in, d_out) stores its matrix as (d_out, d_in) and multiplies by its "
                "transpose.",
                {**_SHAPES, "W_query.weight": (16, 5)},
                "2.4",
            ),
            Misconception(
                "Queries as wide as the input",
                "W_query makes d_out numbers of the d_in numbers of a token.",
                {**_SHAPES, "queries": (3, 7, 16)},
                "2.4",
            ),
            Misconception(
                "Scores between features",
                "(T, d) transposed times (T, d) compares features. Queries times keys transposed, "
                "(T, d) @ (d, T), compares tokens.",
                {**_SHAPES, "scores": (3, 5, 5)},
                "2.4",
            ),
            Misconception(
                "A mask for each text",
                "The mask depends on positions alone, so one (T, T) table is used for all texts.",
                {**_SHAPES, "allowed": (3, 7, 7)},
                "2.11",
            ),
            Misconception(
                "The output as wide as the input",
                "The output is a mixture of values, and those have d_out numbers.",
                {**_SHAPES, "output": (3, 7, 16)},
                "2.4",
            ),
        ),
    ),
    Exercise(
        id="02.scaled_dot_product",
        title="Attention for any number of queries and keys",
        kind="implement",
        points=2,
        difficulty=2,
        section="2.5",
        builds_on=("02.softmax", "02.shapes"),
        reference=scaled_dot_product,
        cases=_queries_keys_values,
        axes=_mixture_axes,
        properties=(
            Property("values", "The outputs are those of the formula, for any leading axes."),
            Property(
                "own query",
                "Changing a query moves its own output and no other.",
                _change_first_query,
                _only_first_moves,
            ),
            Property(
                "order",
                "The order of the keys, with their values, does not matter.",
                _keys_in_another_order,
                _order_does_nothing,
            ),
            Property(
                "average",
                "Values that are all 1 give outputs that are all 1.",
                lambda attention, queries, keys, values: attention(
                    queries, keys, torch.ones_like(values)
                ),
                lambda seen, queries, keys, values: expect_close(
                    seen, torch.ones_like(seen), "the output for values that are all 1"
                ),
            ),
            Property(
                "linear",
                "The output is linear in the values.",
                _two_mixtures,
                _mixtures_add,
            ),
            Property("one key", "A single key has all the weight.", cases=_one_key),
            Property(
                "float64",
                "Inputs in float64 give results as exact as that.",
                cases=_in_float64,
                tolerance=1e-6,
            ),
            Property(
                "views", "Inputs that are transposed views work too.", cases=_transposed_views
            ),
            Property(
                "gradients",
                "A gradient arrives at queries, keys and values.",
                _gradients_of_all,
                _gradients_arrive,
            ),
        ),
        hints=(
            "Count the axes from the end: -1 is the width, -2 the tokens.",
            "(..., N, d) @ (..., d, M) is (..., N, M). Which of its axes are the keys?",
        ),
        misconceptions=(
            Misconception(
                "The scores are not scaled",
                "Divide them by the square root of the width of the queries.",
                _mixed_unscaled,
            ),
            Misconception(
                "Divided by d instead of √d",
                "The spread of a dot product grows like √d; dividing by d makes the weights more "
                "and more equal.",
                _mixed_over_d,
            ),
            Misconception(
                "Divided by the root of the number of keys",
                "The sum in a dot product runs over the d features, not over the keys.",
                _mixed_over_root_of_keys,
            ),
            Misconception(
                "Divided by the root of the values' width",
                "The values take no part in the scores. What is summed over is the width of "
                "queries and keys.",
                _mixed_over_root_of_values,
            ),
            Misconception(
                "The softmax runs over the queries",
                "The weights of one query add up to one over the keys: dim=-1.",
                _mixed_over_queries,
                "2.3",
            ),
            Misconception(
                "Scaled after the softmax",
                "Dividing the weights makes their sum 1/√d. The division belongs to the scores.",
                _scaled_after_softmax,
            ),
            Misconception(
                "Axes counted from the front",
                "transpose(1, 2) swaps the right axes only of three. Count from the end: "
                "transpose(-2, -1).",
                _axes_from_the_front,
            ),
            Misconception(
                "A mask that nobody asked for",
                "Here every query may see every key; there is no causal mask.",
                _causal_anyway,
            ),
        ),
    ),
    Exercise(
        id="02.causal_weights",
        title="The weights of causal attention",
        kind="implement",
        points=3,
        difficulty=2,
        section="2.8",
        builds_on=("02.softmax", "02.scaled_dot_product"),
        reference=causal_weights,
        cases=_queries_and_keys,
        axes=_text_axes,
        properties=(
            Property("values", "The weights are those of the formula."),
            Property("future", "A later token gets exactly the weight 0.", call, _future_is_zero),
            Property("sums", "Each row adds up to one.", call, _rows_sum_to_one),
            Property(
                "causality",
                "Changing the last token leaves all earlier rows as they were.",
                _change_last_token,
                _earlier_rows_stay,
            ),
            Property(
                "gradients",
                "No row has a gradient from a later key.",
                _weights_of_one_input,
                _no_gradient_of_the_future,
            ),
            Property(
                "batch",
                "Each text of a batch has weights of its own.",
                _texts_one_by_one,
                _same_one_by_one,
            ),
            Property("one token", "A text of one token has the weight 1.", cases=_one_token),
        ),
        hints=(
            "Three steps: scores, mask, softmax. Which of them sees the scores of later tokens?",
            "masked_fill(where, -torch.inf) fills the places where its first argument is True.",
        ),
        misconceptions=(
            Misconception(
                "The scores are not scaled",
                "Divide them by the square root of the width of the queries.",
                _unscaled,
                "2.5",
            ),
            Misconception(
                "Divided by d instead of √d",
                "The spread of a dot product grows like √d; dividing by d makes the weights more "
                "and more equal.",
                _divided_by_d,
                "2.5",
            ),
            Misconception(
                "Divided by the root of the number of tokens",
                "The sum in a dot product runs over the d features: use shape[-1], not shape[1].",
                _divided_by_root_of_tokens,
                "2.5",
            ),
            Misconception(
                "The weights are set to zero after the softmax",
                "The rows no longer add up to one, and the future still took part in the sum that "
                "they were divided by.",
                _zeroed_after,
            ),
            Misconception(
                "A score of zero instead of -inf",
                "exp(0) is 1, so a score of zero gets a weight like any other.",
                _score_zero,
            ),
            Misconception(
                "The mask is inverted",
                "masked_fill fills where its first argument is True. Here it filled the past, and "
                "the last row has nothing left: nan.",
                _inverted,
                "2.10",
            ),
            Misconception(
                "The upper triangle",
                "triu keeps the future and the token itself, tril keeps the past.",
                _upper_triangle,
            ),
            Misconception(
                "The softmax runs over the queries",
                "Row i holds the weights of token i, so each row adds up to one: dim=-1.",
                _columns,
            ),
            Misconception("There is no mask", "Every token sees the later ones.", _no_mask, "2.7"),
        ),
    ),
    Exercise(
        id="02.mask",
        title="A mask for the future and for padding",
        kind="implement",
        points=3,
        difficulty=3,
        section="2.11",
        builds_on=("02.causal_weights",),
        reference=masked_weights,
        cases=_padded_scores,
        axes=_mask_axes,
        properties=(
            Property("values", "The weights are those of the rule."),
            Property(
                "future",
                "A later token has exactly the weight 0.",
                call,
                _future_has_no_weight,
            ),
            Property(
                "padding",
                "Padding has exactly the weight 0.",
                call,
                _padding_has_no_weight,
            ),
            Property(
                "sums",
                "A row adds up to one; one that may look nowhere, to zero.",
                call,
                _sums_are_one_or_zero,
            ),
            Property(
                "all padding",
                "A text of nothing but padding has no weights, and no nan.",
                cases=_nothing_but_padding,
            ),
            Property(
                "without padding",
                "Real tokens have the weights that they have without the padding.",
                _without_its_padding,
                _padding_does_nothing,
                cases=_some_padding,
            ),
            Property(
                "gradients",
                "Gradients are numbers, and zero where a score is masked.",
                _gradient_of_scores,
                _gradients_are_numbers,
            ),
            Property(
                "batch",
                "Each text of a batch has its own padding.",
                _texts_one_by_one,
                _same_one_by_one,
            ),
        ),
        hints=(
            "Two conditions must hold at once. What shape has each, and what shape have both?",
            "is_real[:, None, :] is (B, 1, T): the same for every row, another one for each text.",
            "allowed.any(dim=-1) says which rows see anything. Give the others harmless scores "
            "before the softmax, and zeros after it.",
        ),
        misconceptions=(
            Misconception(
                "Rows that see nothing are nan",
                "A softmax over nothing but -inf is 0 / 0. Such rows need scores that are numbers "
                "before the softmax.",
                _rows_of_nan,
                "2.10",
            ),
            Misconception(
                "The nan is replaced too late",
                "The weights are right, but the gradients of rows that see nothing are nan: where "
                "-inf is added to a score, the nan of the softmax goes back to that score. "
                "masked_fill hands no gradient on where it filled.",
                _nan_replaced,
                "2.10",
            ),
            Misconception(
                "A large negative number alone",
                "In a row that may look nowhere all scores are then equal, so padding and future "
                "get equal weights.",
                _large_negative,
                "2.10",
            ),
            Misconception(
                "Only the causal mask",
                "Padding in front of a text lies in the past of its tokens, and they look at it.",
                _causal_only,
            ),
            Misconception("There is no mask", "Every token sees all others.", _neither_mask, "2.7"),
            Misconception(
                "Only the padding mask", "The future is still visible.", _padding_only, "2.8"
            ),
            Misconception(
                "Rows instead of columns",
                "This takes the padding's rows away, and leaves its columns to the others. "
                "Row i looks, column j is looked at: is_real[:, None, :].",
                _padding_rows,
            ),
            Misconception(
                "Rows and columns",
                "The rows of padding are empty too. The rule says only what may be looked at.",
                _padding_rows_too,
            ),
            Misconception(
                "The padding is inverted",
                "is_real is True for tokens that may be looked at.",
                _padding_inverted,
                "2.10",
            ),
            Misconception(
                "One or the other",
                "A token must be real *and* not later: & instead of |.",
                _one_or_the_other,
            ),
            Misconception(
                "The weights are set to zero after the softmax",
                "The rows no longer add up to one: future and padding took part in their sums.",
                _masked_after,
                "2.8",
            ),
        ),
    ),
    Exercise(
        id="02.leak",
        title="Two faults that leak",
        kind="debug",
        points=3,
        difficulty=3,
        section="2.9",
        builds_on=("02.causal_weights",),
        reference=repaired_attention,
        cases=_qkv,
        axes=_text_axes,
        properties=(
            Property("values", "The output is that of causal attention."),
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
                "average",
                "Values that are all 1 give outputs that are all 1.",
                _values_of_ones,
                _mean_of_ones,
            ),
            Property(
                "first token",
                "The first output is the first token's own value.",
                call,
                _first_is_own_value,
            ),
            Property(
                "gradients",
                "Each output has gradients from its past and from nothing else.",
                _self_attention_sensitivity,
                _past_gradients_alone,
            ),
        ),
        hints=(
            "Print the mask of a text of 4 tokens. Which tokens may the first one see?",
            "Print the sums of the rows of the weights, and the sums of the columns.",
        ),
        misconceptions=(
            Misconception(
                "Only the mask is repaired",
                "A second fault lets the future in although the mask is right: the softmax of row "
                "i is divided by a sum over other tokens' queries. Along which dimension must the "
                "weights add up to one?",
                _only_mask_repaired,
            ),
            Misconception(
                "Only the softmax is repaired",
                "The mask still starts one place too far to the right: token i sees token i + 1, "
                "which is the answer that it is to predict.",
                _only_softmax_repaired,
            ),
            Misconception(
                "The mask blocks the token itself",
                "With diagonal=0 the first token has nothing to look at, and its output is nan.",
                _mask_too_large,
            ),
            Misconception(
                "Nothing is repaired yet", "This is the code as it was given.", _as_given
            ),
        ),
    ),
    Exercise(
        id="02.read_maps",
        title="Six maps and what is wrong with them",
        kind="debug",
        points=3,
        difficulty=2,
        section="2.8",
        builds_on=("02.causal_weights", "02.leak"),
        reference=_MAPS,
        properties=tuple(_map_shows(letter, fault) for letter, fault in _MAPS.items()),
        hints=(
            "For each map: where are the zeros, and what do its rows add up to?",
            "If the rows do not add up to one, add up the columns.",
            "If the zeros are right and the rows add up to one, look at how the weights differ.",
        ),
        misconceptions=(
            Misconception(
                "Weights set to zero taken for dropout",
                "Dropout leaves gaps left of the diagonal, and no row of A has one. Its rows lack "
                "what went to the future.",
                _taken_for(A="dropout left on"),
            ),
            Misconception(
                "Dropout taken for weights set to zero",
                "D has gaps left of the diagonal, where a mask takes nothing away, and most rows "
                "add up to more than one.",
                _taken_for(D="zeroed after the softmax"),
                "2.12",
            ),
            Misconception(
                "Rows that lack something taken for the whole fault",
                "The rows of F do not add up to one, and the last adds up to three: weights set to "
                "zero only take away. Add up the columns.",
                _taken_for(F="zeroed after the softmax"),
            ),
            Misconception(
                "Sharp taken for no fault",
                "Rows of nearly 0 and 1 are what scores give that grow with the width. A layer "
                "that was just made should not look like that.",
                _taken_for(B="no fault"),
                "2.5",
            ),
            Misconception(
                "Mild taken for a fault",
                "Divided by d, the weights of a row would be equal to a few hundredths. Those of "
                "E differ by more.",
                _taken_for(E="scores divided by d"),
                "2.5",
            ),
            Misconception(
                "One place too far taken for no mask",
                "There are zeros right of the diagonal, so there is a mask: it starts too late.",
                _taken_for(C="no mask"),
                "2.9",
            ),
        ),
    ),
    Exercise(
        id="02.attention_dropout",
        title="Dropout in the right place",
        kind="implement",
        points=3,
        difficulty=2,
        section="2.12",
        builds_on=("02.scaled_dot_product",),
        reference=attention_dropout,
        cases=_dropout_inputs,
        axes=lambda scores, values, *rest: _text_axes(values),
        properties=(
            Property("in use", "With training=False nothing is dropped.", _in_use),
            Property("rate zero", "With p=0 nothing is dropped in training either.", _rate_zero),
            Property(
                "scale",
                "The weights that stay are divided by 1 - p.",
                _dropped_weights,
                _survivors_scaled,
                cases=_one_row_of_scores,
            ),
            Property(
                "rate",
                "A share p of the weights becomes zero.",
                _dropped_weights,
                _rate_is_p,
                cases=_one_row_of_scores,
            ),
            Property(
                "draws",
                "Each weight is kept or dropped by a draw of its own.",
                _dropped_weights,
                _one_draw_each,
                cases=_one_row_of_scores,
            ),
            Property(
                "mean",
                "The mean over many draws is the weight without dropout.",
                _dropped_weights,
                _mean_is_weight,
                cases=_one_row_of_scores,
            ),
            Property(
                "place",
                "All features of a value are mixed with the same dropped weights.",
                _dropped_weights,
                _features_share,
                cases=_one_row_of_scores,
            ),
        ),
        hints=(
            "torch.rand(shape) >= p is True with probability 1 - p.",
            "Softmax first, then dropout, then the product with the values.",
        ),
        misconceptions=(
            Misconception(
                "The kept weights are not scaled",
                "Without 1 / (1 - p) the outputs in training are smaller, on average, than in use.",
                _no_scale,
            ),
            Misconception(
                "p is the probability of keeping",
                "Here, as in nn.Dropout, p is the probability of dropping.",
                _keeps_p,
            ),
            Misconception(
                "Dropout is always on",
                "When the model is used (training=False), nothing may be dropped.",
                _always_on,
            ),
            Misconception(
                "Dropout on the scores",
                "A dropped score is 0 and still gets a weight; a dropped -inf is nan.",
                _on_scores,
            ),
            Misconception(
                "Dropout on the output",
                "It removes single features of the output instead of single tokens' weights.",
                _on_output,
            ),
            Misconception(
                "The rows are made to add up to one again",
                "Then what is left is not w / (1 - p), and a weight depends on which others were "
                "dropped.",
                _renormalised,
            ),
        ),
    ),
    Exercise(
        id="02.initial_spread",
        title="How sharp is a new layer?",
        kind="explore",
        points=2,
        difficulty=2,
        section="2.5",
        builds_on=("02.scaled_dot_product",),
        reference=_SPREAD,
        properties=(
            _measured("queries", "The spread of the numbers in the queries of a new layer."),
            _measured("scores", "The spread of its dot products, before they are divided."),
            _measured("spread", "The spread of its scores after the division by √d."),
            _measured("largest", "The largest of 16 weights in it, on average."),
        ),
        hints=(
            "Queries are W_query(x) and keys W_key(x) with x = torch.randn(...).",
            "The spread is the standard deviation of all numbers, not their variance.",
        ),
        misconceptions=(
            Misconception(
                "Queries and keys of variance 1",
                "These are random vectors, not the output of nn.Linear, whose first weights are "
                "smaller.",
                {"queries": 1.0, "scores": 16.0, "spread": 1.0, "largest": _largest_for(1.0)},
            ),
            Misconception(
                "The variance instead of its root",
                "The spread is the standard deviation: take std, not var.",
                {
                    **{name: _SPREAD[name] ** 2 for name in ("queries", "scores", "spread")},
                    "largest": _SPREAD["largest"],
                },
            ),
            Misconception(
                "Weights from scores that were not divided by √d",
                "The largest weight is asked for as the layer computes it: after the division.",
                {**_SPREAD, "largest": _largest_for(_SPREAD["scores"])},
            ),
            Misconception(
                "Divided by d",
                "The scores are divided by the square root of the width.",
                {
                    **_SPREAD,
                    "spread": _SPREAD["scores"] / 256,
                    "largest": _largest_for(_SPREAD["scores"] / 256),
                },
            ),
        ),
    ),
)
