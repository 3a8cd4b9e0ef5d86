"""Exercises of chapter 5, the GPT."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from course_pkg.checks.compare import expect, expect_close
from course_pkg.checks.engine import Exercise, Misconception, Property, fill_parameters
from course_pkg.checks.entries import entry_is
from course_pkg.config import GPTConfig
from course_pkg.gpt import GPT

# 05.embed


def embed(ids: Tensor, token_table: Tensor, position_table: Tensor) -> Tensor:
    """(B, T), (V, D), (context_length, D) -> (B, T, D)."""
    return token_table[ids] + position_table[: ids.shape[1]]


def _tokens_only(ids: Tensor, token_table: Tensor, position_table: Tensor) -> Tensor:
    return token_table[ids]


def _position_of_the_id(ids: Tensor, token_table: Tensor, position_table: Tensor) -> Tensor:
    return token_table[ids] + position_table[ids % len(position_table)]


def _positions_from_one(ids: Tensor, token_table: Tensor, position_table: Tensor) -> Tensor:
    return token_table[ids] + position_table[1 : ids.shape[1] + 1]


def _last_positions(ids: Tensor, token_table: Tensor, position_table: Tensor) -> Tensor:
    return token_table[ids] + position_table[-ids.shape[1] :]


def _scaled_tokens(ids: Tensor, token_table: Tensor, position_table: Tensor) -> Tensor:
    return token_table[ids] * math.sqrt(token_table.shape[1]) + position_table[: ids.shape[1]]


def _ids_and_tables(generator: torch.Generator) -> list[tuple]:
    def inputs(batch, tokens, vocab, context, width):
        return (
            torch.randint(vocab, (batch, tokens), generator=generator),
            torch.randn(vocab, width, generator=generator),
            torch.randn(context, width, generator=generator),
        )

    return [inputs(2, 5, 11, 9, 4), inputs(3, 4, 7, 8, 6)]


def _whole_context(generator: torch.Generator) -> list[tuple]:
    return [
        (
            torch.randint(7, (2, 6), generator=generator),
            torch.randn(7, 4, generator=generator),
            torch.randn(6, 4, generator=generator),
        )
    ]


def _one_token(generator: torch.Generator) -> list[tuple]:
    return [
        (
            torch.randint(1, 7, (3, 1), generator=generator),
            torch.randn(7, 4, generator=generator),
            torch.randn(5, 4, generator=generator),
        )
    ]


def _embed_axes(ids, token_table, position_table):
    B, T = ids.shape
    V, D = token_table.shape
    return {"B": B, "T": T, "V": V, "D": D, "context_length": len(position_table)}


def _table_gradients(embed, ids, token_table, position_table):
    """Of a sum over the result in which every number has a weight of its own."""
    tables = [t.clone().requires_grad_() for t in (token_table, position_table)]
    embedded = embed(ids, *tables)
    if not embedded.requires_grad:
        return "no gradient"
    weights = torch.linspace(0.5, 1.5, embedded.numel()).view(embedded.shape)
    (embedded * weights).sum().backward()
    return [torch.zeros_like(t) if t.grad is None else t.grad for t in tables]


def _embed_one_token_twice(embed, ids, token_table, position_table):
    return embed(ids[:, :1].expand_as(ids).clone(), token_table, position_table)


def _twice_differs_by_position(seen, ids, token_table, position_table):
    expected = (position_table[1 : ids.shape[1]] - position_table[0]).expand(len(ids), -1, -1)
    expect_close(
        seen[:, 1:] - seen[:, :1],
        expected,
        "the same token at every position: what its vector differs by from that at position 0",
        tolerance=1e-4,
    )


def _embed_two_halves(embed, ids, token_table, position_table):
    halves = [embed(row[None], token_table, position_table) for row in ids]
    return torch.cat(halves), embed(ids, token_table, position_table)


def _halves_equal_whole(seen, ids, token_table, position_table):
    expect_close(seen[0], seen[1], "sequences given one at a time, against the whole batch")


# 05.parameter_count


def parameter_count(
    vocab_size: int, context_length: int, d_model: int, num_layers: int, tie_weights: bool
) -> int:
    """V D + T D + L (12 D² + 13 D) + 2 D, and V D for a head of its own."""
    return _count(vocab_size, context_length, d_model, num_layers, tie_weights)


def _count(
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    tie_weights: bool,
    *,
    biases: int = 9,
    norms_a_block: int = 2,
    final_norm: bool = True,
    positions: bool = True,
    tied_head_counts: bool = False,
    free_head_counts: bool = True,
) -> int:
    block = 12 * d_model**2 + (biases + 2 * norms_a_block) * d_model
    total = vocab_size * d_model + num_layers * block + 2 * d_model * final_norm
    total += context_length * d_model * positions
    if (tie_weights and tied_head_counts) or (not tie_weights and free_head_counts):
        total += vocab_size * d_model
    return total


def _counts_without(**changes):
    def count(vocab_size, context_length, d_model, num_layers, tie_weights):
        return _count(vocab_size, context_length, d_model, num_layers, tie_weights, **changes)

    return count


def _sizes(generator: torch.Generator) -> list[tuple]:
    def draw(low, high):
        return int(torch.randint(low, high, (), generator=generator))

    return [
        (draw(50, 90), draw(10, 20), 8 * draw(2, 6), draw(2, 5), tied) for tied in (True, False)
    ]


def _gpt2_sizes(generator: torch.Generator) -> list[tuple]:
    return [(50257, 1024, 768, 12, True), (50257, 1024, 1600, 48, True)]


def _one_more_layer(count, vocab_size, context_length, d_model, num_layers, tie_weights):
    sizes = vocab_size, context_length, d_model
    return count(*sizes, num_layers + 1, tie_weights) - count(*sizes, num_layers, tie_weights)


def _one_more_token(count, vocab_size, context_length, d_model, num_layers, tie_weights):
    sizes = context_length, d_model, num_layers, tie_weights
    return count(vocab_size + 1, *sizes) - count(vocab_size, *sizes)


def _tied_and_not(count, vocab_size, context_length, d_model, num_layers, tie_weights):
    sizes = vocab_size, context_length, d_model, num_layers
    return count(*sizes, False) - count(*sizes, True)


def _differs_by_one_table(seen, vocab_size, context_length, d_model, num_layers, tie_weights):
    expect(
        bool(seen == vocab_size * d_model),  # NumPy has truths of its own
        f"untied minus tied is {seen}; the table has {vocab_size} x {d_model} numbers",
    )


# 05.first_loss

_VOCAB = 50257
_TWO_DECIMALS = 0.001  # of a loss between 5 and 12


def _losses(logarithm: Callable[[float], float]) -> dict[str, float]:
    return {
        "loss": logarithm(_VOCAB),
        "twice": logarithm(2 * _VOCAB),
        "thousand": logarithm(1000),
        "half_known": logarithm(_VOCAB) / 2,
    }


_LOSSES = _losses(math.log)


def _loss_is(name: str) -> Callable[[Any], None]:
    return entry_is(name, _LOSSES[name], "which does not fit", tolerance=_TWO_DECIMALS)


# 05.tie_weights


class _TwoTables(nn.Module):
    def __init__(self, vocab_size: int, d_model: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(vocab_size, d_model)
        self.output_head = nn.Linear(d_model, vocab_size, bias=False)


def tie_weights(model: nn.Module) -> None:
    """Let the head use the token embedding's own parameter."""
    model.output_head.weight = model.token_embedding.weight


def _copy_values(model: nn.Module) -> None:
    model.output_head.weight.data.copy_(model.token_embedding.weight.data)


def _new_parameter(model: nn.Module) -> None:
    model.output_head.weight = nn.Parameter(model.token_embedding.weight.detach())


def _head_wins(model: nn.Module) -> None:
    model.token_embedding.weight = model.output_head.weight


def _swap(model: nn.Module) -> None:
    embedding, head = model.token_embedding.weight, model.output_head.weight
    model.token_embedding.weight, model.output_head.weight = head, embedding


def _two_tables(generator: torch.Generator) -> list[tuple]:
    """The token embedding's table and the head's, (V, D) each."""
    vocab_sizes = torch.randint(8, 14, (2,), generator=generator).tolist()
    widths = torch.randint(3, 8, (2,), generator=generator).tolist()
    return [
        tuple(torch.randn(vocab_size, width, generator=generator) for _ in range(2))
        for vocab_size, width in zip(vocab_sizes, widths, strict=True)
    ]


def _tied(answer, tokens, head_table):
    """What a model computes, and how it learns, after it was tied."""
    model = _TwoTables(*tokens.shape)
    with torch.no_grad():
        model.token_embedding.weight.copy_(tokens)
        model.output_head.weight.copy_(head_table)
    answer(model)
    embedding, head = model.token_embedding, model.output_head
    one_parameter = embedding.weight is head.weight
    count = sum(parameter.numel() for parameter in model.parameters())
    table = embedding.weight.detach().clone()
    ids = torch.arange(len(tokens))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    logits = head(embedding(ids))
    nn.functional.cross_entropy(logits, ids.flip(0)).backward()
    gradient = embedding.weight.grad.clone()
    optimizer.step()
    return {
        "one": one_parameter,
        "count": count,
        "table": table,
        "logits": logits,
        "gradient": gradient,
        "tables after a step": (embedding.weight, head.weight),
    }


def _furthest(one: Tensor, other: Tensor) -> float:
    return (one - other).abs().max().item()


def _is_one_parameter(seen, tokens, head_table):
    expect(seen["one"], "token_embedding.weight and output_head.weight are two objects")


def _keeps_the_tokens(seen, tokens, head_table):
    changed = _furthest(seen["table"], tokens)
    expect(changed == 0, f"the token embedding changed by up to {changed:.4f}")


def _counts_once(seen, tokens, head_table):
    expect(
        seen["count"] == tokens.numel(),
        f"the model has {seen['count']} parameters; one table has {tokens.numel()}",
    )


def _scores_by_the_tokens(seen, tokens, head_table):
    off = _furthest(seen["logits"], tokens @ tokens.T)
    expect(
        off < 1e-5,
        f"the head's scores are off by up to {off:.4f} from dot products with the token table as "
        "it was",
    )


def _gets_both_gradients(seen, tokens, head_table):
    table = seen["table"].clone().requires_grad_()
    ids = torch.arange(len(tokens))
    nn.functional.cross_entropy(table[ids] @ table.T, ids.flip(0)).backward()
    missing = _furthest(seen["gradient"], table.grad)
    expect(
        missing < 1e-6,
        f"the table's gradient lacks up to {missing:.4f} of the sum of both uses",
    )


def _stays_equal(seen, tokens, head_table):
    embedding, head = seen["tables after a step"]
    apart = _furthest(embedding, head)
    expect(apart == 0, f"after one step the two tables differ by up to {apart:.4f}")
    expected = seen["table"] - 0.1 * seen["gradient"]
    expect(
        _furthest(embedding, expected) < 1e-6, "the step is not the one that its gradient asks for"
    )


# 05.initialise

_STD = 0.02
_BRANCH_ENDS = ("attention.out_proj.weight", "feed_forward.layers.2.weight")


def initialise(model: nn.Module) -> None:
    """GPT-2's initialisation, in place."""
    _initialise(model)


def _initialise(
    model: nn.Module,
    *,
    draw: Callable[[Tensor, float], Any] = lambda weight, std: nn.init.normal_(weight, std=std),
    std: float = _STD,
    shrink: float = 2.0,
    norms: bool = False,
    zero_biases: bool = True,
    tables: bool = True,
) -> None:
    residual_std = std / math.sqrt(shrink * model.config.num_layers) if shrink else std
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            if zero_biases:
                nn.init.zeros_(parameter)
        elif name.endswith(_BRANCH_ENDS):
            draw(parameter, residual_std)
        elif (parameter.ndim == 2 or norms) and (tables or "embedding" not in name):
            draw(parameter, std)


def _initialised_with(**changes):
    def initialise(model):
        _initialise(model, **changes)

    return initialise


def _uniform(weight: Tensor, std: float) -> None:
    nn.init.uniform_(weight, -math.sqrt(3) * std, math.sqrt(3) * std)


def _depths(generator: torch.Generator) -> list[tuple]:
    shallow, deep = torch.randint(2, 4, (2,), generator=generator).tolist()
    width, other = torch.randint(11, 15, (2,), generator=generator).tolist()
    return [(shallow, 4 * width, True), (2 + deep, 4 * other, False)]


def _initialised_model(answer, num_layers, d_model, tie_weights):
    config = GPTConfig(
        vocab_size=97,
        context_length=48,
        d_model=d_model,
        num_heads=4,
        num_layers=num_layers,
        dropout=0.0,
        tie_weights=tie_weights,
    )
    model = GPT(config)
    for name, parameter in model.named_parameters():
        if not name.endswith(("scale", "shift")):
            nn.init.constant_(parameter, 0.5)  # nothing can be right by being left alone
    answer(model)
    return model


def _drawn(answer, num_layers, d_model, tie_weights):
    """The numbers of each matrix and table."""
    model = _initialised_model(answer, num_layers, d_model, tie_weights)
    return {name: p.detach() for name, p in model.named_parameters() if p.ndim >= 2}


def _initialised(answer, num_layers, d_model, tie_weights):
    """What can be told of each parameter, in words and sizes that another draw would give too."""
    model = _initialised_model(answer, num_layers, d_model, tie_weights)
    seen = {}
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        if parameter.ndim < 2:
            one = bool((values == values[0]).all())
            seen[name] = {"value": values[0].item() if one else "various"}
            continue
        seen[name] = {
            "std": values.std().item(),
            "centred": _centred(values),
            "bell": _bell(values),
        }
    seen["tied"] = model.output_head.weight is model.token_embedding.weight
    return seen


def _centred(values: Tensor) -> bool:
    return abs(values.mean().item()) < 6 * values.std().item() / math.sqrt(values.numel())


def _bell(values: Tensor) -> bool:
    """Of a normal distribution 4.6 % lies beyond two standard deviations."""
    tails = (values.abs() > 2 * values.std()).double().mean().item()
    return 0.015 < tails < 0.08


def _weights(seen, ends):
    names = [name for name, told in seen.items() if name != "tied" and "std" in told]
    return [name for name in names if name.endswith(_BRANCH_ENDS) == ends]


def _near(seen, names, expected):
    for name in names:
        std = seen[name]["std"]
        expect(
            abs(std / expected - 1) < 0.1,
            f"the standard deviation of {name} is {std:.5f}; it should be near {expected:.5f}",
        )


def _weights_have_std(seen, num_layers, d_model, tie_weights):
    _near(seen, _weights(seen, ends=False), _STD)


def _branch_ends_are_smaller(seen, num_layers, d_model, tie_weights):
    _near(seen, _weights(seen, ends=True), _STD / math.sqrt(2 * num_layers))


def _are_normal(seen, num_layers, d_model, tie_weights):
    tables = 2 if tie_weights else 3
    expect(len(seen) == tables + 6 * num_layers, f"there are {len(seen)} matrices and tables")
    for name, values in seen.items():
        ends = name.endswith(_BRANCH_ENDS)
        expected = _STD / math.sqrt(2 * num_layers) if ends else _STD
        _near({name: {"std": values.std().item()}}, [name], expected)
        expect(_centred(values), f"the mean of {name} is not near 0")
        expect(
            _bell(values),
            f"{name} is no bell: a normal distribution has 4.6 % of its values beyond two "
            "standard deviations",
        )


def _biases_are_zero(seen, num_layers, d_model, tie_weights):
    _all_are(seen, ".bias", 0)


def _norms_are_kept(seen, num_layers, d_model, tie_weights):
    _all_are(seen, ".scale", 1)
    _all_are(seen, ".shift", 0)


def _all_are(seen, ending, value):
    for name in (name for name in seen if name.endswith(ending)):
        given = seen[name]["value"]
        expect(given == value, f"{name} is {given}; it should be {value}")


def _tying_is_kept(seen, num_layers, d_model, tie_weights):
    expect(seen["tied"] == tie_weights, f"the head shares the token table: {seen['tied']}")


# 05.continue_greedily


class _CountingModel:
    """Logits (B, T, V) that depend on all tokens it gets and on how many there are."""

    def __init__(self, vocab_size: int, context_length: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.context_length = context_length
        self.lengths: set[int] = set()
        self.table = torch.randn(vocab_size, vocab_size, generator=generator)
        self.position = torch.randn(context_length, vocab_size, generator=generator)

    def __call__(self, ids: Tensor) -> Tensor:
        if ids.shape[1] > self.context_length:
            raise ValueError(
                f"ids has {ids.shape[1]} tokens: at most context_length={self.context_length} "
                "are allowed."
            )
        self.lengths.add(ids.shape[1])
        rows = self.table[ids] * (1 + 0.3 * torch.arange(ids.shape[1])[:, None])  # (B, T, V)
        return rows.cumsum(dim=1) + self.position[: ids.shape[1]]


def continue_greedily(model, ids: Tensor, max_new_tokens: int, context_length: int) -> Tensor:
    """(B, T) -> (B, T + max_new_tokens)."""
    for _ in range(max_new_tokens):
        best = model(ids[:, -context_length:])[:, -1].argmax(dim=-1, keepdim=True)
        ids = torch.cat([ids, best], dim=1)
    return ids


def _greedy_with(crop, row=-1):
    def answer(model, ids, max_new_tokens, context_length):
        for _ in range(max_new_tokens):
            best = model(crop(ids, context_length))[:, row].argmax(dim=-1, keepdim=True)
            ids = torch.cat([ids, best], dim=1)
        return ids

    return answer


def _only_the_new(model, ids, max_new_tokens, context_length):
    return continue_greedily(model, ids, max_new_tokens, context_length)[:, ids.shape[1] :]


def _crops_for_good(model, ids, max_new_tokens, context_length):
    for _ in range(max_new_tokens):
        ids = ids[:, -context_length:]
        ids = torch.cat([ids, model(ids)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return ids


def _prompts(generator: torch.Generator) -> list[tuple]:
    return [
        (torch.randint(13, (2, tokens), generator=generator), new, 6, 13)
        for tokens, new in ((3, 8), (9, 5))
    ]


def _one_by_one(generator: torch.Generator) -> list[tuple]:
    return [(torch.randint(13, (3, 4), generator=generator), 6, 5, 13)]


def _continue(answer, ids, new, context_length, vocab_size):
    return answer(_CountingModel(vocab_size, context_length, 3), ids, new, context_length)


def _length_and_prompt(seen, ids, new, context_length, vocab_size):
    expect(
        tuple(seen.shape) == (len(ids), ids.shape[1] + new),
        f"the result has shape {tuple(seen.shape)}; (B, T + new) is "
        f"{(len(ids), ids.shape[1] + new)}",
    )
    expect(torch.equal(seen[:, : ids.shape[1]].long(), ids), "the prompt is not where it was")


def _lengths_read(answer, ids, new, context_length, vocab_size):
    model = _CountingModel(vocab_size, context_length, 3)
    answer(model, ids, new, context_length)
    return sorted(model.lengths)


def _reads_what_it_can(lengths, ids, new, context_length, vocab_size):
    wanted = sorted({min(ids.shape[1] + n, context_length) for n in range(new)})
    expect(lengths == wanted, f"the model was given {lengths} tokens; it could read {wanted}")


def _no_new_tokens(generator: torch.Generator) -> list[tuple]:
    return [(torch.randint(13, (3, tokens), generator=generator), 0, 6, 13) for tokens in (4, 8)]


def _in_two_parts(answer, ids, new, context_length, vocab_size):
    model = _CountingModel(vocab_size, context_length, 3)
    whole = answer(model, ids, new, context_length)
    half = answer(model, ids, new // 2, context_length)
    return whole, answer(model, half, new - new // 2, context_length)


def _parts_equal_whole(seen, *inputs):
    expect(
        seen[0].shape == seen[1].shape and torch.equal(seen[0], seen[1]),
        "going on from half of the new tokens does not end where one run ends",
    )


def _row_alone(answer, ids, new, context_length, vocab_size):
    model = _CountingModel(vocab_size, context_length, 3)
    alone = [answer(model, row[None], new, context_length) for row in ids]
    return torch.cat(alone), answer(model, ids, new, context_length)


def _alone_equals_batch(seen, *inputs):
    expect(torch.equal(seen[0], seen[1]), "a prompt alone and in a batch go on differently")


# 05.repair_forward


def forward(model: nn.Module, ids: Tensor) -> Tensor:
    """(B, T) -> (B, T, V), with the modules of a GPT."""
    return _forward(model, ids)


def _forward(
    model: nn.Module,
    ids: Tensor,
    *,
    positions: str = "by token",
    chained: bool = True,
    final_norm: bool = True,
) -> Tensor:
    where = {
        "by token": torch.arange(ids.shape[1]),
        "by sequence": torch.arange(ids.shape[0]).unsqueeze(1),
        "none": torch.zeros(1, dtype=torch.long),
    }
    x = embedded = model.token_embedding(ids) + model.position_embedding(where[positions])
    for block in model.blocks:
        x = block(x if chained else embedded)
    return model.output_head(model.final_norm(x) if final_norm else x)


def _forward_with(**changes):
    def forward(model, ids):
        return _forward(model, ids, **changes)

    return forward


def _small_gpt() -> GPT:
    config = GPTConfig(
        vocab_size=23, context_length=8, d_model=12, num_heads=3, num_layers=2, dropout=0.0
    )
    return fill_parameters(GPT(config)).eval()


def _id_batches(generator: torch.Generator) -> list[tuple]:
    return [(torch.randint(23, (batch, 6), generator=generator),) for batch in (2, 1)]


def _shortest_and_longest(generator: torch.Generator) -> list[tuple]:
    return [(torch.randint(23, (3, tokens), generator=generator),) for tokens in (1, 8)]


def _forward_axes(ids):
    return {"B": ids.shape[0], "T": ids.shape[1], "D": 12, "V": 23}


def _gradient_of_each_part(answer, ids):
    """How far the loss of the last position reaches: the gradient's length in each parameter."""
    model = _small_gpt()
    logits = answer(model, ids)
    if not logits.requires_grad:
        return "no gradient"
    nn.functional.cross_entropy(logits[:, -1], ids[:, 0]).backward()
    return {
        name: 0.0 if parameter.grad is None else parameter.grad.double().norm().item()
        for name, parameter in model.named_parameters()
    }


def _reaches_every_part(lengths, ids):
    expect(isinstance(lengths, dict), "the logits have no gradient")
    untouched = [name for name, length in lengths.items() if length == 0 and "key.bias" not in name]
    expect(not untouched, f"no gradient reaches {', '.join(untouched[:3])}")


def _logits(answer, ids):
    return answer(_small_gpt(), ids).detach()


def _other_order(answer, ids):
    """The last row of the logits, before and after two earlier tokens changed places."""
    first, second = ids.clone(), ids.clone()
    first[:, 1], first[:, 3] = 4, 9
    second[:, 1], second[:, 3] = 9, 4
    model = _small_gpt()
    return answer(model, first)[:, -1].detach(), answer(model, second)[:, -1].detach()


def _order_matters(seen, ids):
    moved = (seen[0] - seen[1]).abs().max().item()
    expect(moved > 1e-4, f"two earlier tokens changed places; the last logits moved by {moved:.1e}")


def _without_each_block(answer, ids):
    whole = answer(_small_gpt(), ids)
    moved = []
    for number in range(2):
        model = _small_gpt()
        for parameter in model.blocks[number].parameters():
            nn.init.zeros_(parameter)
        moved.append((answer(model, ids) - whole).abs().max().item())
    return moved


def _each_block_counts(moved, ids):
    unused = [number for number, change in enumerate(moved) if change < 1e-6]
    expect(not unused, f"the result is the same without block {', '.join(map(str, unused))}")


def _later_token_changed(answer, ids):
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 23
    model = _small_gpt()
    return (answer(model, ids) - answer(model, changed)).abs().amax(dim=(0, 2)).detach()


def _past_stays(moved, ids):
    early = [i for i, change in enumerate(moved[:-1].tolist()) if change > 1e-6]
    expect(not early, f"the last token was changed; earlier logits that moved: {early}")


# 05.balance


def _balance(condition: Callable[[int, int, int], bool], smaller: int = 0) -> dict[str, int]:
    """For each model the first width at which ``condition(width, layers, tables)`` holds."""
    models = {"12 layers": (12, 1), "24 layers": (24, 1), "48 layers": (48, 1), "untied": (12, 2)}
    return {
        name: next(d for d in range(1, 20_000) if condition(d, *sizes)) - smaller
        for name, sizes in models.items()
    }


def _blocks_outweigh(d: int, layers: int, tables: int) -> bool:
    return layers * (12 * d + 13) > tables * _VOCAB  # both divided by D


_BALANCE = _balance(_blocks_outweigh)


def _nearest(d: int, layers: int, tables: int) -> bool:
    return d + 0.5 >= (tables * _VOCAB / layers - 13) / 12


EXERCISES = (
    Exercise(
        id="05.embed",
        title="Tokens and positions",
        kind="implement",
        points=1,
        difficulty=1,
        section="5.2",
        reference=embed,
        cases=_ids_and_tables,
        properties=(
            Property("values", "Every vector is the token's row plus the position's row."),
            Property(
                "position",
                "One token at several positions differs by the positions' rows only.",
                _embed_one_token_twice,
                _twice_differs_by_position,
            ),
            Property(
                "batch",
                "A sequence gets the same vectors alone and in a batch.",
                _embed_two_halves,
                _halves_equal_whole,
            ),
            Property(
                "whole context",
                "A sequence as long as the position table works too.",
                cases=_whole_context,
            ),
            Property("one token", "A sequence of one token works too.", cases=_one_token),
            Property(
                "gradient",
                "Both tables learn: each row that was used gets its gradient, and no other.",
                _table_gradients,
            ),
        ),
        hints=(
            "A table indexed with a tensor of ids gives a row for each id.",
            "There are T positions in use, and the table may have more rows.",
        ),
        misconceptions=(
            Misconception(
                "No positions",
                "The tokens' rows alone: the same word has the same vector wherever it stands.",
                _tokens_only,
            ),
            Misconception(
                "Positions by token id",
                "The position table was indexed with the ids. Its row is chosen by where a token "
                "stands, not by which token it is.",
                _position_of_the_id,
            ),
            Misconception(
                "Positions from 1",
                "Positions are counted from 0; row 0 of the table belongs to the first token.",
                _positions_from_one,
            ),
            Misconception(
                "Positions from the end",
                "These are the table's last rows. The first token has position 0, however long "
                "the context could be.",
                _last_positions,
            ),
            Misconception(
                "Tokens scaled by √D",
                "The original transformer multiplies the token's row by √D. GPT-2 does not.",
                _scaled_tokens,
            ),
        ),
        axes=_embed_axes,
    ),
    Exercise(
        id="05.parameter_count",
        title="Count the parameters",
        kind="implement",
        points=2,
        difficulty=2,
        section="5.4",
        reference=parameter_count,
        cases=_sizes,
        properties=(
            Property("values", "The count is that of a model of these sizes."),
            Property(
                "one more layer",
                "One more layer adds the parameters of one block.",
                _one_more_layer,
            ),
            Property(
                "one more token",
                "One more token in the vocabulary adds one row to each table that has one.",
                _one_more_token,
            ),
            Property(
                "head",
                "A head of its own adds one table.",
                _tied_and_not,
                _differs_by_one_table,
            ),
            Property(
                "GPT-2",
                "GPT-2 small and XL have their published sizes.",
                cases=_gpt2_sizes,
            ),
        ),
        hints=(
            "A linear layer from m to n has m · n weights and n biases.",
            "Each block has four D × D projections, two layers of 4 D × D, and two layer norms.",
        ),
        misconceptions=(
            Misconception(
                "No biases",
                "Only weights were counted: each block also has nine times D biases.",
                _counts_without(biases=0),
            ),
            Misconception(
                "Head counted although tied",
                "A tied head is the token table: it must not be counted again.",
                _counts_without(tied_head_counts=True),
                section="5.5",
            ),
            Misconception(
                "No last norm",
                "The layer norm after the last block is missing: 2 D parameters.",
                _counts_without(final_norm=False),
            ),
            Misconception(
                "No positions",
                "The position table is missing.",
                _counts_without(positions=False),
            ),
            Misconception(
                "One norm a block",
                "A block has two layer norms, one before attention and one before the "
                "feed-forward network.",
                _counts_without(norms_a_block=1),
            ),
        ),
        builds_on=("04.parameters",),
    ),
    Exercise(
        id="05.first_loss",
        title="The loss before the first step",
        kind="predict",
        points=1,
        difficulty=1,
        section="5.6",
        reference=_LOSSES,
        properties=(
            Property(
                "loss",
                "A model that knows nothing has the loss of guessing among all tokens.",
                judge=_loss_is("loss"),
            ),
            Property(
                "twice the vocabulary",
                "Twice as many tokens make the guess harder.",
                judge=_loss_is("twice"),
            ),
            Property(
                "a thousand",
                "Only as many tokens count as the model still thinks possible.",
                judge=_loss_is("thousand"),
            ),
            Property(
                "half known",
                "The loss of a text is the mean of the losses of its tokens.",
                judge=_loss_is("half_known"),
            ),
        ),
        hints=(
            "Which probability does a model that knows nothing give to the right token?",
            "A right token with probability p costs -ln p, so a certain one costs nothing.",
        ),
        misconceptions=(
            Misconception(
                "In bits", "These are logarithms to base 2: the same in bits.", _losses(math.log2)
            ),
            Misconception(
                "Decimal logarithm", "These are logarithms to base 10.", _losses(math.log10)
            ),
            Misconception(
                "Perplexity",
                "That is how many tokens there are to guess among, e to the loss.",
                {name: math.exp(loss) for name, loss in _LOSSES.items()},
            ),
            Misconception(
                "Forgotten sign",
                "A minus sign is missing: the loss is -ln(1/V).",
                {name: -loss for name, loss in _LOSSES.items()},
            ),
            Misconception(
                "Twice the vocabulary, twice the loss",
                "The loss grows with the logarithm: twice as many tokens add ln 2.",
                {**_LOSSES, "twice": 2 * math.log(_VOCAB)},
            ),
            Misconception(
                "Twice the vocabulary, the same loss",
                "With twice as many tokens each gets half the probability.",
                {**_LOSSES, "twice": math.log(_VOCAB)},
            ),
            Misconception(
                "The other tokens count",
                "49,257 tokens are ruled out; the guess is among the 1,000 that are left.",
                {**_LOSSES, "thousand": math.log(_VOCAB - 1000)},
            ),
            Misconception(
                "Mean of the probabilities",
                "The probabilities were averaged before the logarithm. The loss is the mean of "
                "the logarithms.",
                {**_LOSSES, "half_known": -math.log((1 + 1 / _VOCAB) / 2)},
            ),
            Misconception(
                "Mean of the perplexities",
                "The numbers of tokens to guess among were averaged, 1 and 50,257, and the "
                "logarithm taken afterwards.",
                {**_LOSSES, "half_known": math.log((1 + _VOCAB) / 2)},
            ),
        ),
    ),
    Exercise(
        id="05.tie_weights",
        title="One table instead of two",
        kind="implement",
        points=2,
        difficulty=2,
        section="5.5",
        reference=tie_weights,
        cases=_two_tables,
        properties=(
            Property(
                "one", "Both modules hold one and the same parameter.", _tied, _is_one_parameter
            ),
            Property("tokens", "The token embedding keeps its values.", _tied, _keeps_the_tokens),
            Property("count", "The model has one table's parameters.", _tied, _counts_once),
            Property(
                "scores",
                "The head scores each token by its dot product with the token's own row.",
                _tied,
                _scores_by_the_tokens,
            ),
            Property(
                "gradient",
                "The table's gradient is the sum of what comes from both uses.",
                _tied,
                _gets_both_gradients,
            ),
            Property("step", "After a training step both are still equal.", _tied, _stays_equal),
        ),
        hints=(
            "A parameter is an object. Two modules can hold the same one.",
            "Which of the two assignments keeps the token embedding's values?",
        ),
        misconceptions=(
            Misconception(
                "Values copied",
                "The values are equal now, but there are two tables, and the first step moves "
                "them apart.",
                _copy_values,
            ),
            Misconception(
                "New parameter",
                "nn.Parameter(...) makes a second parameter over the same memory: the optimizer "
                "sees two, and each gets only its own part of the gradient.",
                _new_parameter,
            ),
            Misconception(
                "The head's values win",
                "They share one parameter, but it is the head's: the token embedding lost its "
                "values.",
                _head_wins,
            ),
            Misconception("Swapped", "The two tables changed places and are still two.", _swap),
        ),
        builds_on=("05.embed",),
        axes=lambda tokens, head_table: {"V": tokens.shape[0], "D": tokens.shape[1]},
    ),
    Exercise(
        id="05.initialise",
        title="Initialise as GPT-2",
        kind="implement",
        points=2,
        difficulty=2,
        section="5.6",
        reference=initialise,
        cases=_depths,
        properties=(
            Property(
                "weights",
                "Weights and tables that end no branch have the standard deviation 0.02.",
                _initialised,
                _weights_have_std,
                tolerance=0.15,
            ),
            Property(
                "branch ends",
                "The ends of the branches have 0.02 / √(2L).",
                _initialised,
                _branch_ends_are_smaller,
                tolerance=0.15,
            ),
            Property(
                "normal",
                "What is drawn comes from a normal distribution around 0.",
                _drawn,
                _are_normal,
                tolerance=1e3,  # any two draws are alike to a diagnosis
            ),
            Property("biases", "Biases are 0.", _initialised, _biases_are_zero, tolerance=0.15),
            Property(
                "norms",
                "The layer norms keep their scales of 1 and shifts of 0.",
                _initialised,
                _norms_are_kept,
                tolerance=0.15,
            ),
            Property(
                "tying",
                "A head that shares the token table still does, and no other.",
                _initialised,
                _tying_is_kept,
                tolerance=0.15,
            ),
        ),
        hints=(
            "model.named_parameters() gives the names by which the kinds can be told apart.",
            "str.endswith takes a tuple of endings.",
        ),
        misconceptions=(
            Misconception(
                "No scaling of branches",
                "All weights have the same standard deviation: with many layers the residual "
                "stream grows.",
                _initialised_with(shrink=0.0),
            ),
            Misconception(
                "1/√L",
                "Each block has two branches, so there are 2L of them and not L.",
                _initialised_with(shrink=1.0),
            ),
            Misconception(
                "Norms drawn too",
                "The layer norms' scales were drawn as well. A scale near 0 turns the layer off.",
                _initialised_with(norms=True),
            ),
            Misconception(
                "0.02 as the variance",
                "0.02 is the standard deviation; this is its square root.",
                _initialised_with(std=math.sqrt(_STD)),
            ),
            Misconception(
                "Biases left",
                "The biases were not set to 0.",
                _initialised_with(zero_biases=False),
            ),
            Misconception(
                "Uniform",
                "The standard deviations are right, but the values are uniform: their largest "
                "are less than two standard deviations from 0.",
                _initialised_with(draw=_uniform),
            ),
            Misconception(
                "Tables left",
                "The embedding tables were left as they were. They are drawn like the weights.",
                _initialised_with(tables=False),
            ),
        ),
        builds_on=("05.tie_weights",),
    ),
    Exercise(
        id="05.continue_greedily",
        title="Write within the context",
        kind="implement",
        points=2,
        difficulty=2,
        section="5.8",
        reference=continue_greedily,
        cases=_prompts,
        properties=(
            Property("values", "The tokens are those with the highest scores.", _continue),
            Property(
                "shape",
                "The prompt is still there, and the new tokens follow it.",
                _continue,
                _length_and_prompt,
            ),
            Property(
                "reads",
                "The model gets as much of the text as it can read, and no more.",
                _lengths_read,
                _reads_what_it_can,
            ),
            Property(
                "nothing",
                "Without new tokens the prompt comes back, however long it is.",
                _continue,
                cases=_no_new_tokens,
            ),
            Property(
                "in parts",
                "Going on from half of it gives the same as one run.",
                _in_two_parts,
                _parts_equal_whole,
                cases=_one_by_one,
            ),
            Property(
                "batch",
                "A prompt goes on the same alone and in a batch.",
                _row_alone,
                _alone_equals_batch,
            ),
        ),
        hints=(
            "Crop what the model gets, and keep the whole text.",
            "ids[:, -n:] are the last n tokens of every sequence.",
        ),
        misconceptions=(
            Misconception(
                "No crop",
                "The model is given more tokens than it can read.",
                _greedy_with(lambda ids, context_length: ids),
            ),
            Misconception(
                "The first tokens",
                "The crop keeps the beginning of the text: once it is full, the model reads the "
                "same tokens for ever.",
                _greedy_with(lambda ids, context_length: ids[:, :context_length]),
            ),
            Misconception(
                "One token short",
                "The crop keeps one token fewer than the model can read.",
                _greedy_with(lambda ids, context_length: ids[:, -(context_length - 1) :]),
            ),
            Misconception(
                "The first row",
                "These are the logits of position 0. The next token follows the last position.",
                _greedy_with(lambda ids, context_length: ids[:, -context_length:], row=0),
            ),
            Misconception(
                "Only the new tokens",
                "The prompt is not in the result.",
                _only_the_new,
            ),
            Misconception(
                "Crops for good",
                "The text itself was cropped: its beginning is lost.",
                _crops_for_good,
            ),
        ),
        builds_on=("05.embed",),
        axes=lambda ids, new, context_length, vocab_size: {
            "B": ids.shape[0],
            "T": ids.shape[1],
            "context_length": context_length,
            "T + new": ids.shape[1] + new,
        },
    ),
    Exercise(
        id="05.repair_forward",
        title="Two faults in a forward pass",
        kind="debug",
        points=2,
        difficulty=3,
        section="5.3",
        reference=forward,
        cases=_id_batches,
        properties=(
            Property("values", "The logits are those of the model.", _logits),
            Property(
                "order",
                "The order of earlier tokens changes the last logits.",
                _other_order,
                _order_matters,
            ),
            Property(
                "blocks",
                "Every block takes part in the result.",
                _without_each_block,
                _each_block_counts,
            ),
            Property(
                "causality",
                "No position depends on a later token.",
                _later_token_changed,
                _past_stays,
            ),
            Property(
                "lengths",
                "One token works, and so does a full context.",
                _logits,
                cases=_shortest_and_longest,
            ),
            Property(
                "gradient",
                "The loss reaches every parameter of the model.",
                _gradient_of_each_part,
                _reaches_every_part,
            ),
        ),
        hints=(
            "Which property fails as it stands: does the order matter, does every block count?",
            "What is ids.shape[0], and what is the input of the second block?",
        ),
        misconceptions=(
            Misconception(
                "As given",
                "This is still the pass with both faults.",
                _forward_with(positions="none", chained=False),
            ),
            Misconception(
                "Positions not repaired",
                "Every token still gets the same position.",
                _forward_with(positions="none"),
                section="5.2",
            ),
            Misconception(
                "Positions by sequence",
                "Each sequence of the batch gets a position of its own, and all its tokens the "
                "same. `ids.shape[0]` is the batch.",
                _forward_with(positions="by sequence"),
                section="5.2",
            ),
            Misconception(
                "Blocks not repaired",
                "Every block still gets the embeddings, so only the last one counts.",
                _forward_with(chained=False),
            ),
            Misconception(
                "Final norm lost",
                "On the way the layer norm after the last block got lost.",
                _forward_with(final_norm=False),
            ),
        ),
        builds_on=("05.embed", "04.transformer_block"),
        axes=_forward_axes,
    ),
    Exercise(
        id="05.balance",
        title="Where blocks and table weigh the same",
        kind="explore",
        points=1,
        difficulty=1,
        section="5.4",
        reference=_BALANCE,
        properties=(
            *(
                Property(
                    name,
                    "Below it the tables of tokens are larger, from it on the blocks are.",
                    judge=entry_is(name, right, "which is not the first such width"),
                )
                for name, right in _BALANCE.items()
            ),
        ),
        hints=(
            "Equate V D with L (12 D² + 13 D) and divide by D.",
            "An untied head is a second table of V D numbers.",
        ),
        misconceptions=(
            Misconception(
                "Rounded down",
                "There the table is still larger: go up to the next.",
                _balance(_blocks_outweigh, smaller=1),
            ),
            Misconception(
                "Rounded to the nearest",
                "The nearest whole number may lie below the balance: go up, not to the nearest.",
                _balance(_nearest),
            ),
            Misconception(
                "One layer only",
                "That is where a single block outweighs the table; a model has more of them.",
                _balance(lambda d, layers, tables: _blocks_outweigh(d, 1, tables)),
            ),
            Misconception(
                "No biases, no norms",
                "A block has 13 D parameters beside its matrices: nine times D biases, and four "
                "times D in the layer norms.",
                _balance(lambda d, layers, tables: layers * 12 * d > tables * _VOCAB),
            ),
            Misconception(
                "Attention only",
                "A block also has the feed-forward network: 12 D² in all, and not 4 D².",
                _balance(lambda d, layers, tables: layers * 4 * d > tables * _VOCAB),
            ),
            Misconception(
                "Feed-forward only",
                "A block also has attention: 12 D² in all, and not 8 D².",
                _balance(lambda d, layers, tables: layers * 8 * d > tables * _VOCAB),
            ),
            Misconception(
                "Head not counted",
                "Without tying, the head is a second table of the same size.",
                {**_BALANCE, "untied": _BALANCE["12 layers"]},
                section="5.5",
            ),
        ),
        builds_on=("05.parameter_count",),
    ),
)
