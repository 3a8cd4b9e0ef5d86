"""Exercises of chapter 2, causal attention."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from course_pkg.checks.compare import expect, expect_close, shape_is
from course_pkg.checks.engine import Exercise, Misconception, Property, call


def _randn(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


def _tril(size: int) -> Tensor:
    return torch.ones(size, size, dtype=torch.bool).tril()


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


# 02.initial_spread


def _initial_spread() -> dict[str, float]:
    # A row of W has d_in numbers, uniform within ±1/√d_in: variance 1 / (3 d_in), so a query's
    # numbers have variance 1/3, and so have a key's. Over √d the scores then have spread 1/3.
    spread = math.sqrt(1 / 3 * 1 / 3)
    generator = torch.Generator().manual_seed(0)
    weights = torch.softmax(spread * torch.randn(100_000, 16, generator=generator), dim=-1)
    return {"spread": spread, "largest": weights.max(dim=-1).values.mean().item()}


def _largest_for(spread: float) -> float:
    generator = torch.Generator().manual_seed(0)
    weights = torch.softmax(spread * torch.randn(100_000, 16, generator=generator), dim=-1)
    return weights.max(dim=-1).values.mean().item()


_SPREAD = _initial_spread()


def _number_near(name, tolerance):
    def judge(seen):
        expect(isinstance(seen, dict) and name in seen, f"there is no entry {name!r}")
        got = float(seen[name])
        expect(
            abs(got - _SPREAD[name]) <= tolerance * _SPREAD[name],
            f"your {name} is {got:.3g}, more than {tolerance:.0%} off",
        )

    return judge


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
        id="02.causal_weights",
        title="The weights of causal attention",
        kind="implement",
        points=3,
        difficulty=2,
        section="2.8",
        reference=causal_weights,
        cases=_queries_and_keys,
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
        id="02.leak",
        title="Two faults that leak",
        kind="debug",
        points=3,
        difficulty=3,
        section="2.9",
        reference=repaired_attention,
        cases=_qkv,
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
        id="02.attention_dropout",
        title="Dropout in the right place",
        kind="implement",
        points=3,
        difficulty=2,
        section="2.12",
        reference=attention_dropout,
        cases=_dropout_inputs,
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
        reference=_SPREAD,
        properties=(
            Property(
                "spread",
                "The spread of the scores, divided by √d, of a layer that was just made.",
                judge=_number_near("spread", 0.1),
            ),
            Property(
                "largest",
                "The largest of 16 weights in that layer, on average.",
                judge=_number_near("largest", 0.1),
            ),
        ),
        hints=(
            "Queries are W_query(x) and keys W_key(x) with x = torch.randn(...).",
            "The spread is the standard deviation of all scores, not their variance.",
        ),
        misconceptions=(
            Misconception(
                "Queries and keys of variance 1",
                "These are random vectors, not the output of nn.Linear, whose first weights are "
                "smaller.",
                {"spread": 1.0, "largest": _largest_for(1.0)},
            ),
            Misconception(
                "The variance instead of its root",
                "The spread is the standard deviation: take std, not var.",
                {"spread": 1 / 9, "largest": _SPREAD["largest"]},
            ),
            Misconception(
                "Weights from scores that were not divided by √d",
                "The largest weight is asked for as the layer computes it: after the division.",
                {"spread": 1 / 3, "largest": _largest_for(math.sqrt(256) / 3)},
            ),
        ),
    ),
)
