"""Exercises of chapter 6, training."""

import copy
import io
import itertools
import json
import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_pkg.checks.compare import TOLERANCES, expect, expect_close, plain
from course_pkg.checks.engine import Exercise, Misconception, Property, call
from course_pkg.config import GPTConfig
from course_pkg.gpt import GPT

# Two results of one answer may be in float64 and still rest on float32 numbers.
_FLOAT32 = TOLERANCES[torch.float32]

# 06.shifted_cross_entropy


def shifted_cross_entropy(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """(B, T, V), (B, T), (B, T) -> the mean loss of the next token, where the mask is True."""
    losses = _token_losses(logits[:, :-1], ids[:, 1:])
    return losses[mask[:, 1:]].mean()


def _token_losses(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")


def _not_shifted(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    return _token_losses(logits, ids)[mask].mean()


def _shifted_back(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    return _token_losses(logits[:, 1:], ids[:, :-1])[mask[:, :-1]].mean()


def _mask_left_out(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    return _token_losses(logits[:, :-1], ids[:, 1:]).mean()


def _mask_not_shifted(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    return _token_losses(logits[:, :-1], ids[:, 1:])[mask[:, :-1]].mean()


def _divided_by_all(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    return (_token_losses(logits[:, :-1], ids[:, 1:]) * mask[:, 1:]).mean()


def _mean_of_rows(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    losses, counts = _token_losses(logits[:, :-1], ids[:, 1:]) * mask[:, 1:], mask[:, 1:].sum(dim=1)
    return (losses.sum(dim=1) / counts).mean()


def _summed(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    return _token_losses(logits[:, :-1], ids[:, 1:])[mask[:, 1:]].sum()


def _log_of_softmax(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    p = torch.softmax(logits[:, :-1], dim=-1)
    losses = -p.gather(-1, ids[:, 1:, None]).squeeze(-1).log()
    return losses[mask[:, 1:]].mean()


def _shifted_inputs(generator: torch.Generator) -> list[tuple]:
    def inputs(lengths: tuple[int, ...], vocab_size: int) -> tuple:
        batch, tokens = len(lengths), max(lengths)
        logits = 2 * torch.randn(batch, tokens, vocab_size, generator=generator)
        ids = torch.randint(vocab_size, (batch, tokens), generator=generator)
        return logits, ids, torch.arange(tokens) < torch.tensor(lengths)[:, None]

    return [inputs((6, 3), 7), inputs((4, 5, 2), 9), inputs((5,), 6), inputs((1, 2, 2), 4)]


def _other_filling(shifted_cross_entropy, logits, ids, mask):
    other = torch.where(mask, ids, (ids + 1) % logits.shape[-1])
    return shifted_cross_entropy(logits, ids, mask), shifted_cross_entropy(logits, other, mask)


def _filling_does_not_count(seen, logits, ids, mask):
    expect_close(
        seen[1], seen[0], "the loss after the ids of the filling were changed", tolerance=_FLOAT32
    )


def _ends_changed(shifted_cross_entropy, logits, ids, mask):
    """The loss after a change of the last logits, and after one of the first ids."""
    last, first = logits.clone(), ids.clone()
    last[:, -1] += torch.arange(logits.shape[-1])
    first[:, 0] = (first[:, 0] + 1) % logits.shape[-1]
    return (
        shifted_cross_entropy(logits, ids, mask),
        shifted_cross_entropy(last, ids, mask),
        shifted_cross_entropy(logits, first, mask),
    )


def _ends_do_not_count(seen, logits, ids, mask):
    expect_close(
        seen[1],
        seen[0],
        "the loss after a change of the last position's logits",
        tolerance=_FLOAT32,
    )
    expect_close(seen[2], seen[0], "the loss after a change of the first ids", tolerance=_FLOAT32)


def _no_opinion(shifted_cross_entropy, logits, ids, mask):
    return shifted_cross_entropy(torch.zeros_like(logits), ids, mask)


def _loss_is_ln_v(loss, logits, ids, mask):
    expect_close(loss, math.log(logits.shape[-1]), "the loss of logits that are all 0")


def _row_of_filling(shifted_cross_entropy, logits, ids, mask):
    """The loss beside that of the batch with one more row, of which nothing is real."""
    more = (torch.cat([part, part[:1]]) for part in (logits, ids))
    longer_mask = torch.cat([mask, torch.zeros_like(mask[:1])])
    return shifted_cross_entropy(logits, ids, mask), shifted_cross_entropy(*more, longer_mask)


def _row_does_not_count(seen, logits, ids, mask):
    expect_close(
        seen[1], seen[0], "the loss with one more row that is filling only", tolerance=_FLOAT32
    )


def _sure(generator: torch.Generator) -> list[tuple]:
    """Logits so far apart that some probabilities are too small to be written down."""
    ((logits, ids, mask), *_) = _shifted_inputs(generator)
    return [(100 * logits, ids, mask)]


# 06.perplexity

_PREDICTED = {
    "first_loss": math.log(4096),
    "perplexity": math.exp((math.log(8) + math.log(2)) / 2),
    "bits_per_byte": (math.log(8) + math.log(2)) / 2 / math.log(2) / 4,
    "both_texts": math.exp((300 * 2.0 + 100 * 4.0) / (300 + 100)),
}


def _number_near(values, name, tolerance):
    def judge(seen):
        expect(isinstance(seen, dict) and name in seen, f"there is no entry {name!r}")
        got = float(seen[name])
        expect(
            abs(got - values[name]) <= tolerance * abs(values[name]),
            f"your {name} is {got:.3g}, more than {tolerance:.1%} off",
        )

    return judge


# 06.decay_groups


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """AdamW's groups: what has two or more axes decays, tables of embeddings do not."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    return _groups(model, weight_decay, lambda p: p.ndim >= 2 and id(p) not in tables)


def _groups(model: nn.Module, weight_decay: float, decays) -> list[dict[str, Any]]:
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if decays(p)], "weight_decay": weight_decay},
        {"params": [p for p in trained if not decays(p)], "weight_decay": 0.0},
    ]


def _all_decay(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    return _groups(model, weight_decay, lambda p: True)


def _by_axes_alone(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    return _groups(model, weight_decay, lambda p: p.ndim >= 2)


def _biases_decay(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    biases = {id(p) for name, p in model.named_parameters() if name.endswith("bias")}
    return _groups(
        model, weight_decay, lambda p: id(p) in biases or (p.ndim >= 2 and id(p) not in tables)
    )


def _the_wrong_way_round(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    decay, rest = decay_groups(model, weight_decay)
    return [{**decay, "weight_decay": 0.0}, {**rest, "weight_decay": weight_decay}]


def _frozen_too(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    frozen = [p for p in model.parameters() if not p.requires_grad]
    decay, rest = decay_groups(model, weight_decay)
    return [decay, {**rest, "params": rest["params"] + frozen}]


def _layer_by_layer(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The tied head is a linear layer and its weight is a table."""
    decay, rest = [], []
    for module in model.modules():
        for p in module.parameters(recurse=False):
            if p.requires_grad:
                decays = p.ndim >= 2 and not isinstance(module, nn.Embedding)
                (decay if decays else rest).append(p)
    return [
        {"params": decay, "weight_decay": weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]


class _Listener(nn.Module):
    """Weights of one, two and three axes, a table, a norm, and a parameter in no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.filter = nn.Conv1d(4, 6, kernel_size=3)
        self.mix = nn.Parameter(torch.randn(6, 4))
        self.norm = nn.LayerNorm(4)
        self.scale = nn.Parameter(torch.ones(()))
        self.out = nn.Linear(4, 2)
        self.out.weight.requires_grad_(False)


def _models(generator: torch.Generator) -> list[tuple]:
    shape = {"vocab_size": 11, "context_length": 6, "d_model": 8, "num_heads": 2}
    layers = torch.randint(1, 3, (2,), generator=generator).tolist()
    decays = (torch.randint(20, 250, (3,), generator=generator) / 1000).tolist()
    tied = GPT(GPTConfig(**shape, num_layers=layers[0], dropout=0.0))
    untied = GPT(GPTConfig(**shape, num_layers=layers[1], dropout=0.0, tie_weights=False))
    untied.position_embedding.weight.requires_grad_(False)
    untied.blocks[0].attention.out_proj.bias.requires_grad_(False)
    return list(zip((tied, untied, _Listener()), decays, strict=True))


def _decay_of_each(decay_groups, model, weight_decay):
    """The decay of each place that a parameter has in the groups, by the parameter's name."""
    names = {id(p): name for name, p in model.named_parameters()}
    seen: dict[str, list] = {name: [] for name in names.values()}
    for group in decay_groups(model, weight_decay):
        if not isinstance(group, dict):
            raise TypeError(f"a group is a dictionary, not a {type(group).__name__}")
        params = group["params"]
        for p in [params] if isinstance(params, Tensor) else params:
            p = p[1] if isinstance(p, tuple) else p
            seen.setdefault(names.get(id(p), "something that is no parameter"), []).append(
                group.get("weight_decay", "no weight_decay")
            )
    return seen


def _trained(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def _each_once(seen, model, weight_decay):
    for name in _trained(model):
        expect(len(seen[name]) == 1, f"{name} is listed {len(seen[name])} times")
    expect(seen.keys() <= dict(model.named_parameters()).keys(), "a group lists a copy")


def _frozen_left_out(seen, model, weight_decay):
    for name, p in model.named_parameters():
        expect(p.requires_grad or not seen[name], f"{name} is frozen, and a group lists it")


def _decay_is(chosen, decays):
    def judge(seen, model, weight_decay):
        expected = weight_decay if decays else 0.0
        for name, p in _trained(model).items():
            for decay in seen[name] if chosen(model, p) else []:
                expect(decay == expected, f"{name} has the decay {decay}, expected {expected}")

    return judge


def _is_table(model, p):
    return any(p is m.weight for m in model.modules() if isinstance(m, nn.Embedding))


def _is_matrix(model, p):
    return p.ndim >= 2 and not _is_table(model, p)


def _is_vector(model, p):
    return p.ndim < 2


def _one_idle_step(decay_groups, model, weight_decay):
    """What is left of each parameter after a step of AdamW in which no gradient asks for more."""
    groups = decay_groups(model, weight_decay)
    before = {name: p.detach().double().norm() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    torch.optim.AdamW(groups, lr=0.5).step()
    return {
        name: p.detach().double().norm() / before[name]
        for name, p in model.named_parameters()
        if before[name] > 0
    }


def _what_is_left(seen, model, weight_decay):
    for name, p in model.named_parameters():
        if name in seen:
            decays = p.requires_grad and _is_matrix(model, p)
            expected = 1 - 0.5 * weight_decay if decays else 1.0
            expect_close(seen[name], expected, f"what a step leaves of {name}", tolerance=1e-5)


def _model_beside(decay_groups, model, weight_decay):
    decay_groups(model, weight_decay)
    return {name: (p.requires_grad, p.detach()) for name, p in model.named_parameters()}


# 06.learning_rate


def learning_rate(step: int, peak: float, warmup: int, decay: int, total: int) -> float:
    """Up in a line, level, and down in a line over the last steps."""
    if step < warmup:
        return peak * step / warmup
    if step <= total - decay:
        return peak
    return peak * max(0.0, (total - step) / decay)


def _starts_late(step: int, peak: float, warmup: int, decay: int, total: int) -> float:
    if step < warmup:
        return peak * (step + 1) / warmup
    return learning_rate(step, peak, warmup, decay, total)


def _no_warmup(step: int, peak: float, warmup: int, decay: int, total: int) -> float:
    return learning_rate(step, peak, 0, decay, total)


def _below_zero(step: int, peak: float, warmup: int, decay: int, total: int) -> float:
    if step > total - decay:
        return peak * (total - step) / decay
    return learning_rate(step, peak, warmup, decay, total)


def _never_level(step: int, peak: float, warmup: int, decay: int, total: int) -> float:
    if step < warmup:
        return peak * step / warmup
    return peak * max(0.0, (total - step) / (total - warmup))


def _decay_from_the_start(step: int, peak: float, warmup: int, decay: int, total: int) -> float:
    if step < warmup:
        return peak * step / warmup
    if step <= decay:
        return peak
    return peak * max(0.0, (total - step) / (total - decay))


def _drops_at_the_end(step: int, peak: float, warmup: int, decay: int, total: int) -> float:
    if step < warmup:
        return peak * step / warmup
    return peak if step < total else 0.0


def _schedules(generator: torch.Generator) -> list[tuple]:
    """Peak, warm-up, decay and total; between the last two the level holds for some steps."""
    forms = [(0.5, 4, 6, 10), (0.003, 10, 5, 25), (1.0, 0, 3, 6), (6.0, 2, 4, 5)]
    schedules = []
    for peak, warmup, decay, level in forms:
        scale = 0.5 + torch.rand((), generator=generator).item()
        more, longer, wider = torch.randint(0, 4, (3,), generator=generator).tolist()
        warmup, decay = warmup + more if warmup else 0, decay + longer
        schedules.append((peak * scale, warmup, decay, warmup + decay + level + wider))
    return schedules


def _curve(learning_rate, peak, warmup, decay, total):
    """The rates at steps 0 to total + 5."""
    return [float(learning_rate(n, peak, warmup, decay, total)) for n in range(total + 6)]


def _rises(rates, peak, warmup, decay, total):
    expected = [peak * n / warmup for n in range(warmup)] + [peak]
    expect_close(rates[: warmup + 1], expected, f"steps 0 to {warmup}")


def _stays(rates, peak, warmup, decay, total):
    level = rates[warmup : total - decay + 1]
    expect_close(level, [peak] * len(level), f"steps {warmup} to {total - decay}")


def _falls(rates, peak, warmup, decay, total):
    falling = rates[total - decay : total + 1]
    expected = [peak * (1 - n / decay) for n in range(decay + 1)]
    expect_close(falling, expected, f"steps {total - decay} to {total}")


def _ends(rates, peak, warmup, decay, total):
    after = rates[total:]
    expect(all(abs(r) <= 1e-9 for r in after), f"rates from step {total} on: {after}")


# 06.warmup_cosine


def warmup_cosine(step: int, peak: float, low: float, warmup: int, cycle: int) -> float:
    """Up in a line, then down half a cosine again and again, each time twice as long."""
    if step < warmup:
        return peak * step / warmup
    return low + 0.5 * (peak - low) * (1 + math.cos(math.pi * _progress(step - warmup, cycle)))


def _progress(since: int, cycle: int) -> float:
    """How much of its cycle is behind a step that comes ``since`` steps after the warm-up."""
    while since >= cycle:
        since, cycle = since - cycle, 2 * cycle
    return since / cycle


def _one_cycle(step: int, peak: float, low: float, warmup: int, cycle: int) -> float:
    return low if step >= warmup + cycle else warmup_cosine(step, peak, low, warmup, cycle)


def _equal_cycles(step: int, peak: float, low: float, warmup: int, cycle: int) -> float:
    if step < warmup:
        return peak * step / warmup
    return warmup_cosine((step - warmup) % cycle, peak, low, 0, cycle)


def _whole_cosine(step: int, peak: float, low: float, warmup: int, cycle: int) -> float:
    if step < warmup:
        return peak * step / warmup
    progress = _progress(step - warmup, cycle)
    return low + 0.5 * (peak - low) * (1 + math.cos(2 * math.pi * progress))


def _falls_to_zero(step: int, peak: float, low: float, warmup: int, cycle: int) -> float:
    return warmup_cosine(step, peak, 0.0, warmup, cycle)


def _low_on_top(step: int, peak: float, low: float, warmup: int, cycle: int) -> float:
    above = warmup_cosine(step, peak, 0.0, warmup, cycle)
    return above if step < warmup else low + above


def _warmup_counts(step: int, peak: float, low: float, warmup: int, cycle: int) -> float:
    if step < warmup:
        return peak * step / warmup
    return warmup_cosine(step, peak, low, 0, cycle)


def _straight_down(step: int, peak: float, low: float, warmup: int, cycle: int) -> float:
    if step < warmup:
        return peak * step / warmup
    return peak - (peak - low) * _progress(step - warmup, cycle)


def _starts_low(step: int, peak: float, low: float, warmup: int, cycle: int) -> float:
    if step < warmup:
        return low + (peak - low) * step / warmup
    return warmup_cosine(step, peak, low, warmup, cycle)


def _restarts(generator: torch.Generator) -> list[tuple]:
    """Peak, low, warm-up and the first cycle."""
    restarts = []
    for peak, low, warmup, cycle in [(0.8, 0.1, 5, 4), (0.003, 0.0006, 0, 6), (1.0, 0.25, 7, 2)]:
        scales = 0.5 + torch.rand(2, generator=generator) / 2
        more, longer = torch.randint(0, 3, (2,), generator=generator).tolist()
        warmup, cycle = warmup + more if warmup else 0, cycle + 2 * longer
        restarts.append((peak * scales[0].item(), low * scales[1].item(), warmup, cycle))
    return restarts


def _cycles_curve(warmup_cosine, peak, low, warmup, cycle):
    """The rates of the warm-up and of three cycles, and a few beyond."""
    return [
        float(warmup_cosine(n, peak, low, warmup, cycle)) for n in range(warmup + 7 * cycle + 4)
    ]


def _first_line(rates, peak, low, warmup, cycle):
    expected = [peak * n / warmup for n in range(warmup)] + [peak]
    expect_close(rates[: warmup + 1], expected, f"steps 0 to {warmup}")


def _peaks(rates, peak, low, warmup, cycle):
    starts = [warmup + n * cycle for n in (0, 1, 3, 7)]
    expect_close([rates[n] for n in starts], [peak] * 4, f"the rates at steps {starts}")


def _middles(rates, peak, low, warmup, cycle):
    middles = [warmup + cycle // 2, warmup + 2 * cycle, warmup + 5 * cycle]
    expected = [(peak + low) / 2] * 3
    expect_close([rates[n] for n in middles], expected, f"the rates at steps {middles}")


def _cycles_of(rates, warmup, cycle):
    return [rates[warmup + a * cycle : warmup + b * cycle] for a, b in ((0, 1), (1, 3), (3, 7))]


def _only_down(rates, peak, low, warmup, cycle):
    for number, part in enumerate(_cycles_of(rates, warmup, cycle), start=1):
        falling = all(new < old for old, new in itertools.pairwise(part))
        expect(falling, f"in cycle {number} the rates are {[round(r, 6) for r in part]}")


def _within(rates, peak, low, warmup, cycle):
    after = rates[warmup:]
    slack = 1e-9 * peak
    expect(max(after) <= peak + slack, f"the highest rate is {max(after):.6g}")
    expect(min(after) >= low - slack, f"after the warm-up the lowest rate is {min(after):.6g}")


def _mirrored(rates, peak, low, warmup, cycle):
    last = _cycles_of(rates, warmup, cycle)[-1][1:]
    sums = [a + b for a, b in zip(last, reversed(last), strict=True)]
    expect_close(sums, [peak + low] * len(sums), "rates as far before the middle as after, added")


# 06.clip


def clip(
    gradients: list[Tensor | None], max_norm: float
) -> tuple[list[Tensor | None], float | Tensor]:
    """All gradients made shorter by one factor, and the norm that they had together."""
    norm = math.sqrt(sum(g.double().square().sum().item() for g in gradients if g is not None))
    factor = max_norm / norm if norm > max_norm else 1.0
    return [None if g is None else g * factor for g in gradients], norm


def _scaled(gradients: list[Tensor | None], factor) -> list[Tensor | None]:
    return [None if g is None else g * factor for g in gradients]


def _norms(gradients: list[Tensor | None]) -> list[float]:
    return [g.double().norm().item() for g in gradients if g is not None]


def _one_by_one(gradients: list[Tensor | None], max_norm: float):
    shorter = [None if g is None else clip([g], max_norm)[0][0] for g in gradients]
    return shorter, clip(gradients, max_norm)[1]


def _each_value(gradients: list[Tensor | None], max_norm: float):
    cut = [None if g is None else g.clamp(-max_norm, max_norm) for g in gradients]
    return cut, clip(gradients, max_norm)[1]


def _always_scaled(gradients: list[Tensor | None], max_norm: float):
    norm = clip(gradients, max_norm)[1]
    return _scaled(gradients, max_norm / norm if norm else math.nan), norm


def _norms_added(gradients: list[Tensor | None], max_norm: float):
    norm = sum(_norms(gradients))
    return _scaled(gradients, min(1.0, max_norm / norm) if norm else 1.0), norm


def _norm_after(gradients: list[Tensor | None], max_norm: float):
    clipped, norm = clip(gradients, max_norm)
    return clipped, min(norm, max_norm)


def _no_root(gradients: list[Tensor | None], max_norm: float):
    norm = sum(n**2 for n in _norms(gradients))
    return _scaled(gradients, min(1.0, max_norm / norm) if norm else 1.0), norm


def _in_their_precision(gradients: list[Tensor | None], max_norm: float):
    norm = math.sqrt(sum(g.square().sum().item() for g in gradients if g is not None))
    return _scaled(gradients, min(1.0, max_norm / norm) if norm else 1.0), norm


def _largest_norm(gradients: list[Tensor | None], max_norm: float):
    norm = max(_norms(gradients))
    return _scaled(gradients, min(1.0, max_norm / norm) if norm else 1.0), norm


def _some_gradients(generator: torch.Generator, scale: float = 1.0) -> list[Tensor]:
    """Three of very different length."""
    sizes = (((5,), 0.2), ((3, 4), 3.0), ((2, 3, 2), 1.0))
    return [scale * size * torch.randn(*shape, generator=generator) for shape, size in sizes]


def _long_gradients(generator: torch.Generator) -> list[tuple]:
    return [(_some_gradients(generator), 1.0), (_some_gradients(generator), 0.3)]


def _short_gradients(generator: torch.Generator) -> list[tuple]:
    return [(_some_gradients(generator, 0.01), 1.0)]


def _no_gradients(generator: torch.Generator) -> list[tuple]:
    return [([torch.zeros(3), torch.zeros(2, 2)], 1.0)]


def _half_gradients(generator: torch.Generator) -> list[tuple]:
    """The square of such a number is above float16's largest, 65504."""
    gradients = [400 + 50 * torch.rand(6, generator=generator), torch.ones(4)]
    return [([g.half() for g in gradients], 1.0)]


def _missing_gradients(generator: torch.Generator) -> list[tuple]:
    one, two, three = _some_gradients(generator)
    return [([None, one, two, None, three], 0.7)]


def _clipped_norm(seen, gradients, max_norm):
    clipped, _ = seen
    length = math.sqrt(sum(g.double().square().sum().item() for g in clipped))
    expect_close(length, max_norm, "the common norm of the clipped gradients")


def _same_direction(seen, gradients, max_norm):
    clipped, _ = seen
    expect(len(clipped) == len(gradients), f"{len(gradients)} gradients in, {len(clipped)} out")
    ratios = torch.cat([(c / g).flatten() for c, g in zip(clipped, gradients, strict=True)])
    expect_close(ratios, ratios[:1].expand_as(ratios), "each value, new over old", tolerance=1e-4)


def _norm_before(seen, gradients, max_norm):
    expected = torch.cat([g.flatten().double() for g in gradients]).norm().item()
    expect_close(seen[1], expected, "the norm that was returned")


def _unchanged(seen, gradients, max_norm):
    expect_close(seen[0], gradients, "gradients that were short enough")


# 06.accumulate


def combine(gradients: list[Tensor], counts: list[int]) -> Tensor:
    """The gradient of the mean over all targets, from those of the workers' own means."""
    total = sum(counts)
    parts = [g * (n / total) for g, n in zip(gradients, counts, strict=True) if n]
    return torch.stack(parts).sum(dim=0)


def _plain_mean(gradients: list[Tensor], counts: list[int]) -> Tensor:
    return torch.stack(list(gradients)).mean(dim=0)


def _plain_mean_of_working(gradients: list[Tensor], counts: list[int]) -> Tensor:
    return torch.stack([g for g, n in zip(gradients, counts, strict=True) if n]).mean(dim=0)


def _plain_sum(gradients: list[Tensor], counts: list[int]) -> Tensor:
    return torch.stack([g for g, n in zip(gradients, counts, strict=True) if n]).sum(dim=0)


def _not_divided(gradients: list[Tensor], counts: list[int]) -> Tensor:
    return combine(gradients, counts) * sum(counts)


def _divided_by_workers(gradients: list[Tensor], counts: list[int]) -> Tensor:
    return combine(gradients, counts) * (sum(counts) / len(counts))


def _divided_by_counts(gradients: list[Tensor], counts: list[int]) -> Tensor:
    pairs = [(g, n) for g, n in zip(gradients, counts, strict=True) if n]
    return torch.stack([g / n for g, n in pairs]).sum(dim=0)


def _nan_spreads(gradients: list[Tensor], counts: list[int]) -> Tensor:
    total = sum(counts)
    return torch.stack([g * (n / total) for g, n in zip(gradients, counts, strict=True)]).sum(dim=0)


def _workers(generator: torch.Generator) -> list[tuple]:
    def inputs(counts: list[int], *shape: int) -> tuple:
        return [torch.randn(*shape, generator=generator) for _ in counts], counts

    return [inputs([12, 3, 7], 5), inputs([2, 40, 1], 3, 4)]


def _idle_worker(generator: torch.Generator) -> list[tuple]:
    gradients = [torch.randn(6, generator=generator) for _ in range(3)]
    gradients[1] = torch.full((6,), torch.nan)  # the mean of no losses
    return [(gradients, [4, 0, 9])]


def _equal_counts(generator: torch.Generator) -> list[tuple]:
    return [([torch.randn(2, 3, generator=generator) for _ in range(4)], [8, 8, 8, 8])]


def _mean_of_gradients(combined, gradients, counts):
    expected = torch.stack(gradients).mean(dim=0)
    expect_close(combined, expected, "the result for equal numbers of targets")


def _regressions(generator: torch.Generator) -> list[tuple]:
    x, y = torch.randn(11, 4, generator=generator), torch.randn(11, generator=generator)
    return [(x, y, torch.randn(4, generator=generator))]


def _gradient(x: Tensor, y: Tensor, weights: Tensor) -> Tensor:
    """Of the mean squared error of a linear model."""
    return 2 * x.T @ (x @ weights - y) / len(y)


def _on_two_workers(combine, x, y, weights):
    parts = [_gradient(x[part], y[part], weights) for part in (slice(0, 2), slice(2, 11))]
    return combine(parts, [2, 9])


def _is_the_large_batch(combined, x, y, weights):
    expect_close(combined, _gradient(x, y, weights), "11 examples on two workers, 2 and 9 each")


# 06.evaluate


class _Notes(list):
    """What a model notes; a copy of the model writes to the same list."""

    def __deepcopy__(self, memo: dict) -> "_Notes":
        return self


class _Speaker(nn.Module):
    """(B, T) ids -> (B, T, V) logits, with dropout; notes whether a graph hangs on them."""

    def __init__(self, vocab_size: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocab_size, width)
        self.body = nn.Sequential(nn.Linear(width, width), nn.Dropout(0.4), nn.Tanh())
        self.dropout = nn.Dropout(0.4)
        self.head = nn.Linear(width, vocab_size)
        self.with_graph = _Notes()

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        logits = self.head(self.dropout(x + self.body(x)))
        self.with_graph.append(logits.requires_grad)
        return logits


def evaluate(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    """The mean loss over all targets that are not -100; leaves everything as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for inputs, targets in batches:
            total += _sum_of_losses(model, inputs, targets).item()
            count += int((targets != -100).sum())
    for module, training in modes:
        module.training = training
    return total / count


def _sum_of_losses(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten(), reduction="sum")


def _number_of_targets(batches: list[tuple[Tensor, Tensor]]) -> int:
    return sum(int((targets != -100).sum()) for _, targets in batches)


def _stays_in_eval(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    loss = evaluate(model, batches)
    model.eval()
    return loss


def _always_trains(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    loss = evaluate(model, batches)
    model.train()
    return loss


def _one_mode_for_all(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    loss = evaluate(model, batches)
    model.train(model.training)
    return loss


def _with_dropout(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    with torch.no_grad():
        total = sum(_sum_of_losses(model, *batch).item() for batch in batches)
    return total / _number_of_targets(batches)


def _mean_of_batches(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    losses = [evaluate(model, [b]) for b in batches if _number_of_targets([b])]
    return sum(losses) / len(losses)


def _over_all_positions(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    positions = sum(targets.numel() for _, targets in batches)
    return evaluate(model, batches) * _number_of_targets(batches) / positions


def _with_a_graph(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    total = sum(_sum_of_losses(model, *batch).item() for batch in batches)
    for module, training in modes:
        module.training = training
    return total / _number_of_targets(batches)


def _seeds_first(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    torch.manual_seed(0)
    return evaluate(model, batches)


def _empty_is_nan(model: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> float:
    means = [evaluate(model, [b]) if _number_of_targets([b]) else math.nan for b in batches]
    counts = [_number_of_targets([batch]) for batch in batches]
    return sum(m * n for m, n in zip(means, counts, strict=True)) / sum(counts)


def _spoken(generator: torch.Generator) -> list[tuple]:
    def batch(vocab_size: int, lengths: tuple[int, ...], tokens: int) -> tuple[Tensor, Tensor]:
        shape = (len(lengths), tokens)
        targets = torch.randint(vocab_size, shape, generator=generator)
        targets[torch.arange(tokens) >= torch.tensor(lengths)[:, None]] = -100
        return torch.randint(vocab_size, shape, generator=generator), targets

    training, mixed, resting = _Speaker(7, 5), _Speaker(9, 4), _Speaker(7, 6).eval()
    mixed.body.eval()
    for model in (training, mixed, resting):
        for p in model.parameters():
            p.data = torch.randn(p.shape, generator=generator)
            p.grad = torch.randn(p.shape, generator=generator)
    return [
        (training, [batch(7, (6, 2, 5), 6), batch(7, (3,), 4)]),
        (mixed, [batch(9, (4, 1), 5), batch(9, (5, 5, 5), 5), batch(9, (2, 3), 3)]),
        (resting, [batch(7, (2, 7), 7), batch(7, (3, 1, 2), 3)]),
    ]


def _spoken_and_silent(generator: torch.Generator) -> list[tuple]:
    ((model, (one, two)), *_) = _spoken(generator)
    return [(model, [one, (two[0], torch.full_like(two[1], -100))])]


def _split_up(evaluate, model, batches):
    """The loss, and the loss of the same rows in batches of one."""
    rows = [(x[i : i + 1], y[i : i + 1]) for x, y in batches for i in range(len(x))]
    return evaluate(model, batches), evaluate(model, rows)


def _same_when_split(seen, model, batches):
    expect_close(
        seen[1], seen[0], "the loss of the same rows in batches of one", tolerance=_FLOAT32
    )


def _two_seeds(evaluate, model, batches):
    losses = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        losses.append(evaluate(model, batches))
    return losses


def _same_twice(seen, model, batches):
    expect_close(seen[1], seen[0], "the same model and batches, once more", tolerance=_FLOAT32)


def _modes_after(evaluate, model, batches):
    evaluate(model, batches)
    return {name or "the model": module.training for name, module in model.named_modules()}


def _modes_as_before(seen, model, batches):
    for name, module in model.named_modules():
        before, after = module.training, seen[name or "the model"]
        message = f"{name or 'the model'}.training was {before} and is now {after}"
        expect(before == after, message)


def _gradients_after(evaluate, model, batches):
    evaluate(model, batches)
    return {name: (p.grad, p.detach(), p.requires_grad) for name, p in model.named_parameters()}


def _gradients_as_before(seen, model, batches):
    for name, p in model.named_parameters():
        grad, value, requires_grad = seen[name]
        expect(grad is not None, f"{name}.grad held a gradient and is now None")
        expect_close(grad, p.grad, f"{name}.grad after the call", tolerance=0.0)
        expect_close(value, p, f"{name} after the call", tolerance=0.0)
        expect(requires_grad, f"{name}.requires_grad is now False")


def _graph_kept(evaluate, model, batches):
    loss = evaluate(model, batches)
    return [*model.with_graph, isinstance(loss, Tensor) and loss.requires_grad]


def _no_graph(seen, model, batches):
    expect(len(seen) > 1, "the model was never called")
    expect(not any(seen), "a graph hangs on the logits, so all activations were kept")


def _random_state_after(evaluate, model, batches):
    torch.rand(7)  # away from where any seed begins
    before = torch.get_rng_state()
    evaluate(model, batches)
    return bool((torch.get_rng_state() == before).all())


def _random_state_kept(seen, model, batches):
    expect(seen, "the global random state after the call is another than before")


# 06.sample


def min_p_probabilities(logits: Tensor, temperature: float, min_p: float) -> Tensor:
    """(B, V) -> (B, V): tokens of at least min_p times the largest probability of their row."""
    p = torch.softmax(logits / temperature, dim=-1)
    p = p * (p >= min_p * p.amax(dim=-1, keepdim=True))
    return p / p.sum(dim=-1, keepdim=True)


def _absolute(logits: Tensor, temperature: float, min_p: float) -> Tensor:
    p = torch.softmax(logits / temperature, dim=-1)
    p = p * (p >= min_p)
    return p / p.sum(dim=-1, keepdim=True)


def _sum_below_one(logits: Tensor, temperature: float, min_p: float) -> Tensor:
    p = torch.softmax(logits / temperature, dim=-1)
    return p * (p >= min_p * p.amax(dim=-1, keepdim=True))


def _one_threshold(logits: Tensor, temperature: float, min_p: float) -> Tensor:
    p = torch.softmax(logits / temperature, dim=-1)
    p = p * (p >= min_p * p.max())
    return p / p.sum(dim=-1, keepdim=True)


def _temperature_last(logits: Tensor, temperature: float, min_p: float) -> Tensor:
    p = torch.softmax(logits, dim=-1)
    kept = p >= min_p * p.amax(dim=-1, keepdim=True)
    return torch.softmax((logits / temperature).masked_fill(~kept, -torch.inf), dim=-1)


def _multiplied(logits: Tensor, temperature: float, min_p: float) -> Tensor:
    return min_p_probabilities(logits * temperature, 1.0, min_p)


def _softmax_again(logits: Tensor, temperature: float, min_p: float) -> Tensor:
    return torch.softmax(_sum_below_one(logits, temperature, min_p), dim=-1)


def _min_p_inputs(generator: torch.Generator) -> list[tuple]:
    def inputs(vocab_size: int, temperature: float, min_p: float) -> tuple:
        # A sure row and an unsure one: their largest probabilities are far apart.
        spread = torch.tensor([[4.0], [0.4], [1.5]])
        logits = spread * torch.randn(3, vocab_size, generator=generator)
        return logits, temperature, min_p

    return [inputs(12, 1.0, 0.25), inputs(30, 0.5, 0.1), inputs(20, 2.0, 0.4)]


def _sums_are_one(p, logits, temperature, min_p):
    expect_close(p.sum(dim=-1), torch.ones(len(logits)), "sums of the rows")


def _likeliest_stays(p, logits, temperature, min_p):
    rows = torch.arange(len(logits))
    share = p[rows, logits.argmax(dim=-1)]
    expect(bool((share > 0).all()), "in some row the most probable token cannot be drawn")


def _nothing_cut(min_p_probabilities, logits, temperature, min_p):
    return min_p_probabilities(logits, temperature, 0.0)


def _only_the_top(min_p_probabilities, logits, temperature, min_p):
    return min_p_probabilities(logits, temperature, 1.0)


def _one_hot(p, logits, temperature, min_p):
    expected = F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()
    expect_close(p, expected, "with min_p=1")


def _ratio_survives(p, logits, temperature, min_p):
    plain = torch.softmax(logits / temperature, dim=-1)
    for row, original in zip(p, plain, strict=True):
        kept = row > 0
        ratios = row[kept].float() / original[kept]
        expected = torch.full_like(ratios, ratios[0].item())
        expect_close(ratios, expected, "kept tokens, new over old", tolerance=1e-4)


# 06.cut_the_tail


def cut_the_tail(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """(B, V), (B,), (B,), (B,) -> (B, V): tokens that both rules keep, each row by its own."""
    p = torch.softmax(logits / temperature[:, None], dim=-1)
    ranked, ids = p.sort(dim=-1, descending=True, stable=True)
    ahead = ranked.cumsum(dim=-1) - ranked
    places = torch.arange(logits.shape[-1])
    kept = (places < top_k[:, None]) & (ahead < top_p[:, None])
    ranked = ranked * kept
    ranked = ranked / ranked.sum(dim=-1, keepdim=True)
    return torch.zeros_like(ranked).scatter(-1, ids, ranked)


def _top_p_of_top_k(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    everything = torch.ones_like(top_p)
    p = cut_the_tail(logits, temperature, top_k, everything)
    return cut_the_tail(p.log(), everything, top_k, top_p)


def _either_rule(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    by_k = cut_the_tail(logits, temperature, top_k, torch.ones_like(top_p))
    by_p = cut_the_tail(logits, temperature, torch.full_like(top_k, logits.shape[-1]), top_p)
    p = torch.softmax(logits / temperature[:, None], dim=-1) * ((by_k > 0) | (by_p > 0))
    return p / p.sum(dim=-1, keepdim=True)


def _last_one_lost(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    p = torch.softmax(logits / temperature[:, None], dim=-1)
    ranked, ids = p.sort(dim=-1, descending=True, stable=True)
    kept = (torch.arange(logits.shape[-1]) < top_k[:, None]) & (
        ranked.cumsum(dim=-1) <= top_p[:, None] + 1e-6
    )
    kept[:, 0] = True
    ranked = ranked * kept
    ranked = ranked / ranked.sum(dim=-1, keepdim=True)
    return torch.zeros_like(ranked).scatter(-1, ids, ranked)


def _more_than_enough(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """The common idiom: whatever comes after the first running sum above top_p goes."""
    p = torch.softmax(logits / temperature[:, None], dim=-1)
    ranked, ids = p.sort(dim=-1, descending=True, stable=True)
    above = ranked.cumsum(dim=-1) > top_p[:, None]
    above = torch.cat([torch.zeros_like(above[:, :1]), above[:, :-1]], dim=-1)
    ranked = ranked * ((torch.arange(logits.shape[-1]) < top_k[:, None]) & ~above)
    ranked = ranked / ranked.sum(dim=-1, keepdim=True)
    return torch.zeros_like(ranked).scatter(-1, ids, ranked)


def _cut_before_temperature(
    logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor
) -> Tensor:
    kept = cut_the_tail(logits, torch.ones_like(temperature), top_k, top_p) > 0
    return torch.softmax((logits / temperature[:, None]).masked_fill(~kept, -torch.inf), dim=-1)


def _tail_not_scaled(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    kept = cut_the_tail(logits, temperature, top_k, top_p) > 0
    return torch.softmax(logits / temperature[:, None], dim=-1) * kept


def _not_put_back(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    return cut_the_tail(logits, temperature, top_k, top_p).sort(dim=-1, descending=True).values


def _rules_of_row_0(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    rules = (rule[:1].expand(len(logits)) for rule in (temperature, top_k, top_p))
    return cut_the_tail(logits, *rules)


def _ties_stay(logits: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    p = cut_the_tail(logits, temperature, top_k, top_p)
    least = torch.where(p > 0, logits, torch.inf).amin(dim=-1, keepdim=True)
    p = torch.softmax(logits / temperature[:, None], dim=-1) * (logits >= least)
    return p / p.sum(dim=-1, keepdim=True)


def _tails(generator: torch.Generator) -> list[tuple]:
    def inputs(vocab_size: int, *rules: tuple[float, int, float]) -> tuple:
        spread = torch.tensor([2.0, 1.0, 3.0, 0.5])[: len(rules), None]
        # Evenly spread and shuffled: which rule cuts more is then the same for every seed.
        logits = spread * torch.linspace(-2, 2, vocab_size)
        order = torch.stack([torch.randperm(vocab_size, generator=generator) for _ in rules])
        logits = logits.gather(-1, order) + 0.01 * torch.rand(order.shape, generator=generator)
        temperature, top_k, top_p = zip(*rules, strict=True)
        return logits, torch.tensor(temperature), torch.tensor(top_k), torch.tensor(top_p)

    return [
        inputs(9, (1.5, 4, 0.7), (0.6, 3, 0.95), (2.0, 100, 0.75)),
        inputs(13, (0.8, 5, 0.85), (1.3, 6, 0.4), (3.0, 13, 1.0), (0.5, 7, 0.9)),
    ]


def _tied_tails(generator: torch.Generator) -> list[tuple]:
    """Rows of few different values: a rule's last place falls among equal ones."""
    logits = torch.tensor([[0.0, 2.0, 2.0, 2.0, 2.0, -1.0], [1.0, 3.0, 1.0, 1.0, 1.0, 1.0]])
    shift = torch.randn(2, 1, generator=generator)
    whole = torch.tensor([6, 6])
    return [
        (logits + shift, torch.tensor([1.0, 2.0]), torch.tensor([3, 4]), torch.tensor([1.0, 1.0])),
        (logits + shift, torch.tensor([1.0, 2.0]), whole, torch.tensor([0.6, 0.7])),
        # Four times exactly 1/4: two of them hold exactly one half.
        (shift.expand(2, 4), torch.tensor([1.0, 2.0]), whole, torch.tensor([0.5, 0.75])),
    ]


def _by_hand(generator: torch.Generator) -> list[tuple]:
    """Two rows whose cuts can be checked in the head."""
    p = torch.tensor([[0.15, 0.5, 0.05, 0.3], [0.4, 0.3, 0.1, 0.2]])
    return [(p.log(), torch.ones(2), torch.tensor([3, 2]), torch.tensor([0.7, 0.85]))]


def _cut_in_the_head(p, logits, temperature, top_k, top_p):
    expected = torch.tensor([[0.0, 0.625, 0.0, 0.375], [4 / 7, 3 / 7, 0.0, 0.0]])
    expect_close(p, expected, "rows of .15 .5 .05 .3 (k 3, p .7) and .4 .3 .1 .2 (k 2, p .85)")


def _rows_add_up(p, logits, *rules):
    expect_close(p.sum(dim=-1), torch.ones(len(logits)), "sums of the rows")


def _one_row_each(cut_the_tail, logits, temperature, top_k, top_p):
    inputs = (logits, temperature, top_k, top_p)
    alone = [cut_the_tail(*(x[i : i + 1] for x in inputs)) for i in range(len(logits))]
    return cut_the_tail(*inputs), torch.cat([torch.as_tensor(row) for row in alone])


def _rows_alone(seen, *inputs):
    expect_close(seen[1], seen[0], "each row handed in alone", tolerance=_FLOAT32)


def _each_rule_alone(cut_the_tail, logits, temperature, top_k, top_p):
    whole, all_of_it = torch.full_like(top_k, logits.shape[-1]), torch.ones_like(top_p)
    return {
        "both": cut_the_tail(logits, temperature, top_k, top_p),
        "top_k": cut_the_tail(logits, temperature, top_k, all_of_it),
        "top_p": cut_the_tail(logits, temperature, whole, top_p),
    }


def _both_rules(seen, logits, temperature, top_k, top_p):
    # Where top_p is all of it, a token of next to no probability may be rounded away.
    both, by_k, by_p = (seen[name] > 1e-6 for name in ("both", "top_k", "top_p"))
    for row in range(len(logits)):
        numbers = [int(kept[row].sum()) for kept in (both, by_k, by_p)]
        expect(
            bool((both[row] == (by_k[row] & by_p[row])).all()),
            f"row {row} keeps {numbers[0]} tokens, with top_k alone {numbers[1]} and with top_p "
            f"alone {numbers[2]}, which are not those that both keep",
        )


def _no_rule(cut_the_tail, logits, temperature, top_k, top_p):
    whole = torch.full_like(top_k, logits.shape[-1])
    return cut_the_tail(logits, temperature, whole, torch.ones_like(top_p))


def _is_the_softmax(p, logits, temperature, top_k, top_p):
    expected = torch.softmax(logits / temperature[:, None], dim=-1)
    expect_close(p, expected, "with top_k=V and top_p=1")


def _strictest_rules(cut_the_tail, logits, temperature, top_k, top_p):
    one, tiny = torch.ones_like(top_k), torch.full_like(top_p, 0.001)
    return [
        cut_the_tail(logits, temperature, one, top_p),
        cut_the_tail(logits, temperature, top_k, tiny),
    ]


def _top_token_alone(seen, logits, temperature, top_k, top_p):
    expected = F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).float()
    expect_close(seen[0], expected, "with top_k=1")
    expect_close(seen[1], expected, "with top_p=0.001")


# 06.resume


class Run:
    """A small training run that can be stopped and gone on with."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.model = nn.Sequential(nn.Embedding(12, 8), nn.Dropout(0.3), nn.Linear(8, 12))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.02)
        self.order = torch.Generator().manual_seed(seed)
        self.steps = 0

    def step(self) -> float:
        ids = torch.randint(12, (4, 6), generator=self.order)
        for group in self.optimizer.param_groups:
            group["lr"] = 0.02 / (1 + self.steps)
        logits = self.model(ids[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.steps += 1
        return loss.item()

    def state_dict(self) -> dict[str, Any]:
        return copy.deepcopy(self._live_state())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._load_live(copy.deepcopy(state))

    def _live_state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "order": self.order.get_state(),
            "random": torch.get_rng_state(),
            "steps": self.steps,
        }

    def _load_live(self, state: dict[str, Any]) -> None:
        if "model" in state:
            self.model.load_state_dict(state["model"])
        if "optimizer" in state:
            self.optimizer.load_state_dict(state["optimizer"])
        if "order" in state:
            self.order.set_state(state["order"])
        if "random" in state:
            torch.set_rng_state(state["random"])
        if "steps" in state:
            self.steps = state["steps"]


def _run_that_saves(*names: str) -> type[Run]:
    """A run whose state holds only the entries of these names."""

    class Forgetful(Run):
        def state_dict(self) -> dict[str, Any]:
            state = super().state_dict()
            return {name: state[name] for name in names}

    return Forgetful


class _LiveWhenSaved(Run):
    def state_dict(self) -> dict[str, Any]:
        return self._live_state()


class _LiveWhenLoaded(Run):
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._load_live(state)


class _SeedsInsteadOfStates(Run):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.seed = seed

    def state_dict(self) -> dict[str, Any]:
        kept = {name: super().state_dict()[name] for name in ("model", "optimizer", "steps")}
        return {**kept, "seed": self.seed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        torch.manual_seed(state["seed"])
        self.order.manual_seed(state["seed"])


def _seed_of_a_run(generator: torch.Generator) -> list[tuple]:
    return [(int(torch.randint(1, 10**6, (1,), generator=generator)),)]


_BEFORE, _AFTER = 3, 3


def _uninterrupted(Run, seed):
    run = Run(seed)
    return run, [run.step() for _ in range(_BEFORE)]


def _stopped(Run, seed):
    """What a run saves after a few steps, and another run, which has begun with other weights."""
    run, _ = _uninterrupted(Run, seed)
    state = run.state_dict()
    other = Run(seed + 1)
    other.step()
    return run, state, other


def _never_stopped(Run, seed):
    run, losses = _uninterrupted(Run, seed)
    run.state_dict()
    return losses + [run.step() for _ in range(_AFTER)]


def _resumed(look):
    """``look(run)`` at a run that was not interrupted, and at one that was."""

    def observe(Run, seed):
        _, state, other = _stopped(Run, seed)
        other.load_state_dict(state)
        after = look(other)
        run, _ = _uninterrupted(Run, seed)
        return look(run), after

    return observe


def _next_losses(run):
    return [run.step() for _ in range(_AFTER)]


def _next_batch(run):
    return torch.randint(100, (8,), generator=run.order)


def _next_mask(run):
    return torch.rand(8)


def _next_rate(run):
    run.step()
    return run.optimizer.param_groups[0]["lr"]


def _averages(run):
    states = (run.optimizer.state.get(p, {}) for p in run.model.parameters())
    return [[state.get(name) for name in ("exp_avg", "exp_avg_sq", "step")] for state in states]


def _last_weights(run):
    for _ in range(_AFTER):
        run.step()
    return list(run.model.parameters())


def _same_to_the_bit(what):
    def judge(seen, seed):
        expect_close(seen[1], seen[0], what, tolerance=0.0)

    return judge


def _through_a_file(Run, seed):
    _, state, other = _stopped(Run, seed)
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    resumed = _next_losses(other)
    run, _ = _uninterrupted(Run, seed)
    return _next_losses(run), resumed


def _saved_goes_on(Run, seed):
    run, state, _ = _stopped(Run, seed)
    before = plain(state)
    _next_losses(run)
    return before, plain(state)


def _loaded_goes_on(Run, seed):
    _, state, other = _stopped(Run, seed)
    before = plain(state)
    other.load_state_dict(state)
    _next_losses(other)
    return before, plain(state)


# 06.diagnose

_DIAGNOSES = {
    "A": "overfitting",
    "B": "leak",
    "C": "healthy",
    "D": "targets not shifted",
    "E": "learning rate too high",
}


def _finding_of(run, findings, allowed):
    def judge(seen):
        expect(isinstance(seen, dict) and run in seen, f"there is no entry {run!r}")
        given = " ".join(str(seen[run]).lower().split())
        expect(given in allowed, f"{seen[run]!r} is none of: {', '.join(sorted(allowed))}")
        expect(given == findings[run], f"run {run} does not show the signs of {given!r}")

    return judge


def _swapped(one, two, findings=_DIAGNOSES):
    return {**findings, one: findings[two], two: findings[one]}


# 06.read_curves

CURVES_FILE = Path(__file__).with_name("ch06_runs.json")  # made by scripts/make_ch06_runs.py
CURVE_FAULTS = {
    "healthy": "healthy",
    "A": "learning rate too low",
    "B": "targets of other windows",
    "C": "resumed from an older checkpoint",
    "D": "initial weights too large",
    "E": "leak",
    "F": "weights never updated",
}
_CURVES = {run: fault for run, fault in CURVE_FAULTS.items() if run != "healthy"}
_ALLOWED_FAULTS = {*CURVE_FAULTS.values(), "targets not shifted"}


def measured_curves() -> dict[str, Any]:
    """What ``scripts/make_ch06_runs.py`` measured: ``vocab_size``, ``frequency_loss``, ``losses``.

    ``losses`` holds for each run the training loss of every step, in nats per token.
    """
    return json.loads(CURVES_FILE.read_text(encoding="utf-8"))


# 06.first_update


def _adam_updates() -> dict[str, float]:
    """Adam's first and second update over the learning rate, measured with PyTorch's AdamW."""

    def updates(*gradients: float) -> list[float]:
        weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        optimizer = torch.optim.AdamW([weight], lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
        seen = [0.0]
        for g in gradients:
            weight.grad = torch.tensor([g], dtype=torch.float64)
            optimizer.step()
            seen.append(weight.item())
        return [(new - old) / -1e-3 for old, new in itertools.pairwise(seen)]

    return {
        "first": updates(0.02)[0],
        "thousandfold": updates(20.0)[0],
        "flipped": updates(0.02, -0.02)[1],
        "coasting": updates(0.02, 0.0)[1],
    }


_UPDATES = _adam_updates()


EXERCISES = (
    Exercise(
        id="06.shifted_cross_entropy",
        title="The loss of the next token",
        kind="implement",
        points=2,
        difficulty=2,
        section="6.1",
        reference=shifted_cross_entropy,
        cases=_shifted_inputs,
        axes=lambda logits, ids, mask: dict(zip("BTV", logits.shape, strict=True)),
        properties=(
            Property("values", "The loss is the mean over all tokens that are questions."),
            Property(
                "no opinion",
                "Logits that are all 0 give the loss ln V.",
                _no_opinion,
                _loss_is_ln_v,
            ),
            Property(
                "ends",
                "The last position has no target, and the first token is nobody's target.",
                _ends_changed,
                _ends_do_not_count,
            ),
            Property(
                "filling",
                "What stands where the mask is False does not matter.",
                _other_filling,
                _filling_does_not_count,
            ),
            Property(
                "empty row",
                "A row without a real token changes nothing.",
                _row_of_filling,
                _row_does_not_count,
            ),
            Property(
                "large logits",
                "It stays a number where a probability is too small to be one.",
                cases=_sure,
            ),
        ),
        hints=(
            "Position i is asked for token i + 1. Which position has nothing to be asked?",
            "The mask says which tokens are real. A question counts if its target is real, so "
            "the mask is shifted like the targets.",
        ),
        misconceptions=(
            Misconception(
                "The targets are not shifted",
                "Each position is compared with the token that it was given, not with the next.",
                _not_shifted,
            ),
            Misconception(
                "Shifted the wrong way",
                "Each position is compared with the token before it. Drop the last logits and the "
                "first ids.",
                _shifted_back,
            ),
            Misconception(
                "The filling counts",
                "Tokens outside the mask are only there to make the batch a rectangle.",
                _mask_left_out,
            ),
            Misconception(
                "The mask is not shifted",
                "A question counts if its target is real. With the inputs' mask the last real "
                "token of a row is asked for the filling after it.",
                _mask_not_shifted,
            ),
            Misconception(
                "Divided by all positions",
                "The sum leaves the filling out but the number it is divided by does not.",
                _divided_by_all,
            ),
            Misconception(
                "The mean of the rows' means",
                "A token in a short row weighs more than one in a long row. Take one mean over all "
                "of them.",
                _mean_of_rows,
                "6.6",
            ),
            Misconception(
                "The sum instead of the mean", "Divide by the number of real targets.", _summed
            ),
            Misconception(
                "The logarithm of the softmax",
                "A small probability is rounded to 0, and its logarithm is -inf. log_softmax never "
                "forms the probability.",
                _log_of_softmax,
            ),
        ),
    ),
    Exercise(
        id="06.perplexity",
        title="Four numbers before any run",
        kind="predict",
        points=1,
        difficulty=1,
        section="6.1",
        reference=_PREDICTED,
        properties=tuple(
            Property(name, statement, judge=_number_near(_PREDICTED, name, 0.004))
            for name, statement in {
                "first_loss": "The loss of a model that knows nothing, in nats.",
                "perplexity": "The exponential of the mean loss.",
                "bits_per_byte": "The loss in bits, spread over the bytes.",
                "both_texts": "The perplexity of two texts taken as one.",
            }.items()
        ),
        hints=(
            "A model that knows nothing gives each token the same probability.",
            "First the mean of the two losses, -ln(1/8) and -ln(1/2); only then the exponential.",
            "A nat is 1 / ln 2 bits.",
            "Two texts are one longer text: add up the losses of all its tokens.",
        ),
        misconceptions=(
            Misconception(
                "The mean of the perplexities",
                "8 and 2 have the mean 5, but perplexity is the exponential of the mean loss.",
                {**_PREDICTED, "perplexity": 5.0},
            ),
            Misconception(
                "One over the mean probability",
                "The mean is taken of the logarithms, not of the probabilities.",
                {**_PREDICTED, "perplexity": 3.2},
            ),
            Misconception(
                "Nats per byte",
                "The loss is in nats; divide by ln 2 to get bits.",
                {**_PREDICTED, "bits_per_byte": math.log(4) / 4},
            ),
            Misconception(
                "Multiplied by the bytes of a token",
                "A token's bits are shared by its four bytes.",
                {**_PREDICTED, "bits_per_byte": 8.0},
            ),
            Misconception(
                "The first loss in bits",
                "log2(4096) = 12 is the loss in bits; in nats it is ln(4096).",
                {**_PREDICTED, "first_loss": 12.0},
            ),
            Misconception(
                "Both texts count the same",
                "The mean is over tokens, and the first text has three times as many.",
                {**_PREDICTED, "both_texts": math.exp(3.0)},
            ),
            Misconception(
                "The mean of the two texts' perplexities",
                "Perplexities cannot be averaged: take the mean loss first, then the exponential.",
                {**_PREDICTED, "both_texts": (3 * math.exp(2.0) + math.exp(4.0)) / 4},
            ),
        ),
        builds_on=("06.shifted_cross_entropy",),
    ),
    Exercise(
        id="06.decay_groups",
        title="Which parameters decay?",
        kind="implement",
        points=2,
        difficulty=2,
        section="6.3",
        reference=decay_groups,
        cases=_models,
        properties=(
            Property("values", "Each parameter has its own decay.", _decay_of_each),
            Property(
                "once",
                "Each parameter that is trained is listed once.",
                _decay_of_each,
                _each_once,
            ),
            Property(
                "matrices",
                "What has two or more axes and is no table decays.",
                _decay_of_each,
                _decay_is(_is_matrix, True),
            ),
            Property(
                "tables",
                "The tables of embeddings do not decay, and with them a tied head.",
                _decay_of_each,
                _decay_is(_is_table, False),
            ),
            Property(
                "vectors",
                "Biases and the scales of norms do not decay.",
                _decay_of_each,
                _decay_is(_is_vector, False),
            ),
            Property(
                "frozen",
                "A parameter that is not trained is in no group.",
                _decay_of_each,
                _frozen_left_out,
            ),
            Property(
                "step",
                "AdamW takes the groups; without gradients only what decays gets smaller.",
                _one_idle_step,
                _what_is_left,
            ),
            Property("model", "The model is left as it was.", _model_beside),
        ),
        hints=(
            "model.parameters() gives a parameter that two layers share only once.",
            "Find the tables first: the weights of all modules that are an nn.Embedding. Two "
            "tensors are the same one if `is` says so; == compares their numbers.",
        ),
        misconceptions=(
            Misconception(
                "By the number of axes alone",
                "That is the chapter's rule. A table of embeddings has two axes too, and here it "
                "must not decay.",
                _by_axes_alone,
            ),
            Misconception(
                "Everything decays",
                "A norm's scale belongs at 1 and not at 0; only matrices are to decay.",
                _all_decay,
            ),
            Misconception(
                "Biases decay", "A bias has one axis: it goes to the other group.", _biases_decay
            ),
            Misconception(
                "The tied head decays",
                "Its weight is the table of the embeddings, one tensor that two layers share. "
                "Layer by layer it is met twice; model.parameters() gives it once.",
                _layer_by_layer,
                "5.5",
            ),
            Misconception(
                "Frozen parameters are listed",
                "Leave out what has requires_grad=False: the optimizer has no business with it.",
                _frozen_too,
            ),
            Misconception(
                "The groups are the wrong way round",
                "The group of the matrices is the one with the decay.",
                _the_wrong_way_round,
            ),
        ),
    ),
    Exercise(
        id="06.learning_rate",
        title="Up, level, down",
        kind="implement",
        points=2,
        difficulty=1,
        section="6.4",
        reference=learning_rate,
        cases=_schedules,
        properties=(
            Property("values", "The rate at every step of the run and after it.", _curve),
            Property("warm-up", "It rises in a line from 0 to the peak.", _curve, _rises),
            Property("level", "Then it stays at the peak.", _curve, _stays),
            Property("decay", "Over the last steps it falls in a line to 0.", _curve, _falls),
            Property("after", "After the end it stays 0.", _curve, _ends),
        ),
        hints=(
            "There are three parts. At which steps do they meet?",
            "In the last part the share of the peak is (total - step) / decay, but never below 0.",
        ),
        misconceptions=(
            Misconception(
                "The warm-up starts one step too high",
                "At step 0, before any update, the rate is 0; the peak is reached at step warmup.",
                _starts_late,
            ),
            Misconception(
                "There is no warm-up", "The first steps run at the full rate.", _no_warmup
            ),
            Misconception(
                "The rate gets negative",
                "After the end the line goes on below 0, and a negative rate climbs uphill.",
                _below_zero,
            ),
            Misconception(
                "There is no level part",
                "The decay begins at step total - decay, not right after the warm-up.",
                _never_level,
            ),
            Misconception(
                "decay is taken as a step of the run",
                "It is a number of steps, counted from the end.",
                _decay_from_the_start,
            ),
            Misconception("The rate drops to 0 at once", "It falls in a line.", _drops_at_the_end),
        ),
    ),
    Exercise(
        id="06.warmup_cosine",
        title="Warm-up, then one cosine after another",
        kind="implement",
        points=2,
        difficulty=2,
        section="6.4",
        reference=warmup_cosine,
        cases=_restarts,
        properties=(
            Property("values", "The rate at every step of three cycles.", _cycles_curve),
            Property("warm-up", "It rises in a line from 0.", _cycles_curve, _first_line),
            Property("starts", "Each cycle begins at the peak.", _cycles_curve, _peaks),
            Property("middles", "Halfway it is between the peak and low.", _cycles_curve, _middles),
            Property("falls", "Within a cycle it only falls.", _cycles_curve, _only_down),
            Property("range", "After the warm-up it stays in range.", _cycles_curve, _within),
            Property(
                "mirror",
                "What it has fallen before the middle it still has to fall after it.",
                _cycles_curve,
                _mirrored,
            ),
        ),
        hints=(
            "Which cycle is the step in? Take off the warm-up, then one cycle after another.",
            "The cosine goes from 1 to -1 while its argument goes from 0 to pi; (1 + cos) / 2 goes "
            "from 1 to 0.",
        ),
        misconceptions=(
            Misconception(
                "There is only one cycle",
                "After the first cycle the rate is at the peak again and does not stay low.",
                _one_cycle,
            ),
            Misconception(
                "All cycles have the same length",
                "Each is twice as long as the one before it.",
                _equal_cycles,
            ),
            Misconception(
                "The whole period of the cosine",
                "Over one cycle the argument goes from 0 to pi. Up to 2 pi the rate comes back up "
                "in the second half.",
                _whole_cosine,
            ),
            Misconception(
                "It falls to 0",
                "The lower end is low: the cosine is stretched over peak - low.",
                _falls_to_zero,
            ),
            Misconception(
                "low is added to the whole",
                "At the start of a cycle the rate is now peak + low. What is stretched is peak - "
                "low.",
                _low_on_top,
            ),
            Misconception(
                "The warm-up counts as part of the first cycle",
                "The first cycle begins at step warmup, so take the warm-up's steps off first.",
                _warmup_counts,
            ),
            Misconception(
                "It falls in a line",
                "Half a cosine is flat at both ends and steep in the middle.",
                _straight_down,
            ),
            Misconception(
                "The warm-up starts at low",
                "At step 0 the rate is 0; low is where a cycle ends.",
                _starts_low,
            ),
        ),
        builds_on=("06.learning_rate",),
    ),
    Exercise(
        id="06.clip",
        title="Clip without touching",
        kind="implement",
        points=2,
        difficulty=2,
        section="6.5",
        reference=clip,
        cases=_long_gradients,
        properties=(
            Property("values", "The clipped gradients and the norm."),
            Property(
                "length",
                "Too long a gradient gets the length max_norm, over all tensors together.",
                call,
                _clipped_norm,
            ),
            Property("direction", "All values get the same factor.", call, _same_direction),
            Property("norm", "The norm is the one before clipping.", call, _norm_before),
            Property(
                "short", "What is short enough stays as it is.", call, _unchanged, _short_gradients
            ),
            Property("zero", "Zeros stay zeros.", cases=_no_gradients),
            Property("missing", "None stays None, in its place.", cases=_missing_gradients),
            Property(
                "half precision",
                "The squares of float16 numbers do not overflow.",
                cases=_half_gradients,
                tolerance=2e-3,
            ),
        ),
        hints=(
            "Put all tensors into one long vector in your mind: what is its norm?",
            "The factor is min(1, max_norm / norm). Square in float32 or float64, and look at what "
            "happens when the norm is 0.",
        ),
        misconceptions=(
            Misconception(
                "Each tensor is clipped by itself",
                "Then long tensors shrink and short ones do not, which turns the gradient. There "
                "is one norm over all of them.",
                _one_by_one,
            ),
            Misconception(
                "Each value is clipped",
                "Clamping the values turns the gradient. All of them get the same factor.",
                _each_value,
            ),
            Misconception(
                "Short gradients are made longer",
                "Clipping is a limit: the factor is never above 1.",
                _always_scaled,
            ),
            Misconception(
                "The norms are added",
                "The norm of all together is the root of the sum of the squares.",
                _norms_added,
            ),
            Misconception(
                "The largest norm of a tensor",
                "The norm of all together is the root of the sum of the squares.",
                _largest_norm,
            ),
            Misconception("The root is missing", "The norm is the root of the sum.", _no_root),
            Misconception(
                "The norm after clipping",
                "That is never above max_norm and tells nothing. The one before shows a loss that "
                "is about to jump.",
                _norm_after,
            ),
            Misconception(
                "Squared in half precision",
                "The largest number of float16 is 65504, so the square of 300 is infinite. Change "
                "the dtype before squaring.",
                _in_their_precision,
            ),
        ),
    ),
    Exercise(
        id="06.accumulate",
        title="Gradients of several workers",
        kind="implement",
        points=3,
        difficulty=2,
        section="6.6",
        reference=combine,
        cases=_workers,
        properties=(
            Property("values", "Each gradient has the weight of its targets."),
            Property(
                "large batch",
                "The result is the gradient of one batch with all examples.",
                _on_two_workers,
                _is_the_large_batch,
                cases=_regressions,
            ),
            Property(
                "equal numbers",
                "With equally many targets on each it is the plain mean.",
                call,
                _mean_of_gradients,
                cases=_equal_counts,
            ),
            Property(
                "idle worker",
                "A worker without targets hands in nan, and it does not spread.",
                cases=_idle_worker,
            ),
        ),
        hints=(
            "Turn each mean back into a sum. What is a mean times its count?",
            "Divide once, by the number of all targets. 0 times nan is nan.",
        ),
        misconceptions=(
            Misconception(
                "The mean of the means",
                "A worker with 3 targets counts as much as one with 12, so its targets count four "
                "times as much.",
                _plain_mean,
            ),
            Misconception(
                "The mean of the means, without idle workers",
                "nan is handled, but a worker's gradient must count by the number of its targets.",
                _plain_mean_of_working,
            ),
            Misconception(
                "The sum of the means",
                "The gradient grows with the number of workers.",
                _plain_sum,
            ),
            Misconception(
                "Not divided",
                "Times its count each mean is a sum again; the mean over all divides by all "
                "targets.",
                _not_divided,
            ),
            Misconception(
                "Divided by the number of workers",
                "After the sums are added, divide by the number of all targets.",
                _divided_by_workers,
            ),
            Misconception(
                "Divided by the count instead of multiplied",
                "The gradients are means already. To get the sums back, multiply.",
                _divided_by_counts,
            ),
            Misconception(
                "nan spreads",
                "The weights are right, but 0 times nan is nan: leave idle workers out.",
                _nan_spreads,
            ),
        ),
    ),
    Exercise(
        id="06.evaluate",
        title="Measure and leave no trace",
        kind="implement",
        points=3,
        difficulty=2,
        section="6.7",
        reference=evaluate,
        cases=_spoken,
        properties=(
            Property("values", "The mean loss over all targets, without dropout."),
            Property(
                "split",
                "How the rows are split into batches does not matter.",
                _split_up,
                _same_when_split,
            ),
            Property("empty", "A batch without targets adds nothing.", cases=_spoken_and_silent),
            Property("repeat", "Measured twice it is the same.", _two_seeds, _same_twice),
            Property(
                "modes",
                "Each module is in the mode that it was in.",
                _modes_after,
                _modes_as_before,
            ),
            Property(
                "gradients",
                "The gradients and weights of the model stay.",
                _gradients_after,
                _gradients_as_before,
            ),
            Property("no graph", "Nothing is kept for a backward.", _graph_kept, _no_graph),
            Property(
                "random state",
                "The global random state stays.",
                _random_state_after,
                _random_state_kept,
            ),
        ),
        hints=(
            "Sum the losses of all targets, count the targets, and divide once at the end.",
            "model.eval() changes every module. Write down the mode of each before, and put it "
            "back after.",
        ),
        misconceptions=(
            Misconception(
                "The model stays in evaluation mode",
                "From here on it trains without dropout, and nothing tells you.",
                _stays_in_eval,
            ),
            Misconception(
                "The model always leaves in training mode",
                "Whoever measures a model that was not training finds dropout on afterwards.",
                _always_trains,
            ),
            Misconception(
                "One mode for all modules",
                "model.train(was_training) sets every module. A part that somebody had put into "
                "evaluation mode, because it is frozen, trains from here on.",
                _one_mode_for_all,
            ),
            Misconception(
                "Dropout is on",
                "Call model.eval(). torch.no_grad() does not do it.",
                _with_dropout,
            ),
            Misconception(
                "The mean of the batches' means",
                "A target in a small batch weighs more than one in a large batch.",
                _mean_of_batches,
                "6.6",
            ),
            Misconception(
                "Divided by all positions",
                "A target of -100 is no question: it is left out of the number too.",
                _over_all_positions,
                "6.1",
            ),
            Misconception(
                "The graph is kept",
                "Without torch.no_grad() each call keeps its activations for a backward that never "
                "comes. model.eval() does not change that.",
                _with_a_graph,
            ),
            Misconception(
                "A seed is set",
                "Setting the global seed sets it for the training that goes on afterwards.",
                _seeds_first,
            ),
            Misconception(
                "A batch without targets gives nan",
                "Its mean is 0 / 0, and 0 times nan is nan. Add up sums, not means.",
                _empty_is_nan,
                "6.6",
            ),
        ),
        builds_on=("06.shifted_cross_entropy", "06.accumulate"),
    ),
    Exercise(
        id="06.sample",
        title="Another way to cut the tail",
        kind="implement",
        points=2,
        difficulty=2,
        section="6.10",
        reference=min_p_probabilities,
        cases=_min_p_inputs,
        axes=lambda logits, temperature, min_p: dict(zip("BV", logits.shape, strict=True)),
        properties=(
            Property("values", "The probabilities are those of the rule."),
            Property("sums", "Each row adds up to one.", call, _sums_are_one),
            Property(
                "top", "The most probable token of a row can be drawn.", call, _likeliest_stays
            ),
            Property("ratios", "Tokens that stay keep their ratios.", call, _ratio_survives),
            Property("min_p 0", "With min_p=0 nothing is cut.", _nothing_cut),
            Property(
                "min_p 1", "With min_p=1 only the most probable is left.", _only_the_top, _one_hot
            ),
        ),
        hints=(
            "The threshold is another one in each row: keepdim=True keeps it beside its row.",
            "Temperature, softmax, cut, and then divide by what is left.",
        ),
        misconceptions=(
            Misconception(
                "The threshold is min_p itself",
                "It is min_p times the largest probability of the row. Where the model is unsure, "
                "no token may reach min_p.",
                _absolute,
            ),
            Misconception(
                "The rest is not scaled up",
                "After the cut the probabilities add up to less than one.",
                _sum_below_one,
            ),
            Misconception(
                "One threshold for the batch",
                "Each row has its own largest probability: amax(dim=-1, keepdim=True).",
                _one_threshold,
            ),
            Misconception(
                "Cut before the temperature",
                "The temperature comes first, as in the chapter; it changes what is cut.",
                _temperature_last,
            ),
            Misconception(
                "Multiplied by the temperature",
                "The logits are divided by it: a high temperature flattens.",
                _multiplied,
            ),
            Misconception(
                "A second softmax",
                "The softmax of probabilities is something else: tokens that were cut come back. "
                "Divide by the sum.",
                _softmax_again,
            ),
        ),
    ),
    Exercise(
        id="06.cut_the_tail",
        title="Three knobs for each row",
        kind="implement",
        points=3,
        difficulty=3,
        section="6.10",
        reference=cut_the_tail,
        cases=_tails,
        properties=(
            Property("values", "The probabilities are those of the rules."),
            Property("by hand", "Two rows worked out by hand.", call, _cut_in_the_head, _by_hand),
            Property("sums", "Each row adds up to one.", call, _rows_add_up),
            Property(
                "ties",
                "Of equal tokens the lower id comes first, and no more are kept than needed.",
                cases=_tied_tails,
            ),
            Property(
                "rows", "A row does not depend on the rows beside it.", _one_row_each, _rows_alone
            ),
            Property(
                "both rules",
                "What can be drawn is what both rules keep.",
                _each_rule_alone,
                _both_rules,
            ),
            Property(
                "no rule", "With top_k=V and top_p=1 it is the softmax.", _no_rule, _is_the_softmax
            ),
            Property(
                "strictest",
                "With top_k=1 or a tiny top_p only the most probable is left.",
                _strictest_rules,
                _top_token_alone,
            ),
        ),
        hints=(
            "Sort each row with stable=True. Then top-k is a question about places, and top-p one "
            "about what the places before hold together.",
            "Both questions are about the whole row, so ask both before anything is set to 0.",
            "top_k[:, None] is (B, 1) and is compared with the places 0 to V - 1. scatter puts the "
            "result back at the tokens' ids.",
        ),
        misconceptions=(
            Misconception(
                "Top-p of what top-k left",
                "That is the chapter's order: its top-p counts shares of what is left, so fewer "
                "tokens are enough. Here each rule looks at the whole row.",
                _top_p_of_top_k,
            ),
            Misconception(
                "One rule is enough to stay", "A token must be kept by both rules.", _either_rule
            ),
            Misconception(
                "The token that reaches top_p is cut",
                "The list has to hold at least top_p, so the token with which it gets there "
                "belongs to it. Compare top_p with what stands before each token.",
                _last_one_lost,
            ),
            Misconception(
                "More than top_p instead of at least",
                "Four tokens of 1/4 each and a top_p of 0.5: two of them are enough. A token stays "
                "if those before it hold less than top_p, and goes if they hold exactly that.",
                _more_than_enough,
            ),
            Misconception(
                "Cut before the temperature",
                "The temperature comes first; it changes how many tokens hold top_p.",
                _cut_before_temperature,
            ),
            Misconception(
                "The rest is not scaled up",
                "After the cut the probabilities add up to less than one.",
                _tail_not_scaled,
            ),
            Misconception(
                "Not put back",
                "The probabilities are in the order of their size and no longer in that of the "
                "ids.",
                _not_put_back,
            ),
            Misconception(
                "The first row's knobs for all rows",
                "Each row has its own temperature, top_k and top_p.",
                _rules_of_row_0,
            ),
            Misconception(
                "Ties all stay",
                "Comparing with the last value that is kept keeps all tokens of that value. Count "
                "places instead.",
                _ties_stay,
            ),
        ),
        builds_on=("06.sample",),
        axes=lambda logits, *rules: dict(zip("BV", logits.shape, strict=True)),
    ),
    Exercise(
        id="06.resume",
        title="The same run, interrupted",
        kind="implement",
        points=3,
        difficulty=3,
        section="6.11",
        reference=Run,
        cases=_seed_of_a_run,
        properties=(
            Property("steps", "A run that saves is the run that it was.", _never_stopped),
            Property(
                "losses",
                "The losses after resuming are those of the run that was not stopped.",
                _resumed(_next_losses),
                _same_to_the_bit("the next losses"),
            ),
            Property(
                "weights",
                "So are the weights at the end.",
                _resumed(_last_weights),
                _same_to_the_bit("the weights, three steps later"),
            ),
            Property(
                "averages",
                "Adam's averages are the saved ones.",
                _resumed(_averages),
                _same_to_the_bit("Adam's averages and count of each parameter"),
            ),
            Property(
                "batches",
                "The next batch is the next batch.",
                _resumed(_next_batch),
                _same_to_the_bit("what is drawn from run.order"),
            ),
            Property(
                "dropout",
                "The next dropout mask is the next dropout mask.",
                _resumed(_next_mask),
                _same_to_the_bit("what is drawn from PyTorch's global generator"),
            ),
            Property(
                "rate",
                "The learning rate goes on where it was.",
                _resumed(_next_rate),
                _same_to_the_bit("the learning rate of the next step"),
            ),
            Property(
                "saved run",
                "What was saved does not change when the run goes on.",
                _saved_goes_on,
                _same_to_the_bit("the state after three more steps of the run"),
            ),
            Property(
                "loaded run",
                "Nor when a run goes on that was loaded from it.",
                _loaded_goes_on,
                _same_to_the_bit("the state after three more steps of the run that loaded it"),
            ),
            Property(
                "file",
                "It can be written to a file and read back.",
                _through_a_file,
                _same_to_the_bit("the next losses"),
            ),
        ),
        hints=(
            "Go through __init__ and step, line by line: what do they read that a step changes? "
            "One of the things is not an attribute of the run.",
            "A torch.Generator has get_state() and set_state(...). Dropout draws from the global "
            "one: torch.get_rng_state() and torch.set_rng_state(...).",
            "model.state_dict() and optimizer.state_dict() hold the tensors themselves, which the "
            "next step changes in place. copy.deepcopy makes others, on saving and on loading.",
        ),
        misconceptions=(
            Misconception(
                "The weights alone",
                "Adam's averages, the step, the order of the batches and the random state are "
                "missing: the next steps are those of another run.",
                _run_that_saves("model"),
            ),
            Misconception(
                "Without the random state",
                "Dropout draws its masks from PyTorch's global generator, and that one is "
                "elsewhere when the run is resumed.",
                _run_that_saves("model", "optimizer", "order", "steps"),
            ),
            Misconception(
                "Without the optimizer",
                "Adam starts again with averages of 0, and its first step moves each weight at "
                "full speed.",
                _run_that_saves("model", "order", "random", "steps"),
            ),
            Misconception(
                "Without the order of the batches",
                "The run meets other batches than it would have met.",
                _run_that_saves("model", "optimizer", "random", "steps"),
            ),
            Misconception(
                "Without the step",
                "The learning rate falls with the step.",
                _run_that_saves("model", "optimizer", "order", "random"),
            ),
            Misconception(
                "Seeds instead of states",
                "A seed leads back to the start of the run: its first batches and masks come "
                "again.",
                _SeedsInsteadOfStates,
            ),
            Misconception(
                "The saved tensors are the run's own",
                "state_dict() gives the tensors themselves, and the next step changes them in "
                "place: save a copy.",
                _LiveWhenSaved,
            ),
            Misconception(
                "The loaded tensors are the state's own",
                "optimizer.load_state_dict takes over the tensors that it is given, and the next "
                "step changes them in place: load a copy.",
                _LiveWhenLoaded,
            ),
        ),
    ),
    Exercise(
        id="06.diagnose",
        title="Five runs, five findings",
        kind="debug",
        points=2,
        difficulty=2,
        section="6.12",
        reference=_DIAGNOSES,
        properties=tuple(
            Property(
                run,
                f"The finding fits the numbers of run {run}.",
                judge=_finding_of(run, _DIAGNOSES, set(_DIAGNOSES.values())),
            )
            for run in _DIAGNOSES
        ),
        hints=(
            "Compare each number with ln V, with the loss of the frequencies, and with its "
            "neighbour.",
            "The validation loss of all five was measured with the right targets. In which run is "
            "it far above the training loss but below ln V, and in which far above ln V?",
        ),
        misconceptions=(
            Misconception(
                "A leak taken for a fault of the targets",
                "A leak makes the loss too good on both splits. Targets that are not shifted make "
                "the model copy: nearly 0 in training, and above ln V when the right question is "
                "asked.",
                _swapped("B", "D"),
            ),
            Misconception(
                "A leak taken for health",
                "A loss of 1.5 on stories that it has never seen is too good for a small model "
                "after 200 steps.",
                _swapped("B", "C"),
            ),
            Misconception(
                "Copying taken for overfitting",
                "A model that learns a little text by heart was better than ln V on other text "
                "for a while. A copying one never was.",
                _swapped("A", "D"),
            ),
            Misconception(
                "A high rate taken for health",
                "A loss at that of the frequencies means that nothing about order was learned.",
                _swapped("C", "E"),
            ),
        ),
        builds_on=("06.perplexity",),
    ),
    Exercise(
        id="06.read_curves",
        title="Six curves",
        kind="debug",
        points=3,
        difficulty=3,
        section="6.12",
        reference=_CURVES,
        properties=tuple(
            Property(
                run,
                f"The fault fits the curve of run {run}.",
                judge=_finding_of(run, _CURVES, _ALLOWED_FAULTS),
            )
            for run in _CURVES
        ),
        hints=(
            "Look at four things: where the curve begins, whether it moves at all, where it ends, "
            "and whether it ever bends or jumps.",
            "Two levels can be computed before any run: ln V, and the loss of the frequencies, at "
            "which a model ends to which the inputs say nothing.",
            "One run follows the healthy one for a third of the way and then leaves it downwards; "
            "it has found something that it should not have.",
        ),
        misconceptions=(
            Misconception(
                "A slow run taken for one that stands still, and the other way round",
                "However low the rate, the loss falls. A run whose weights never change stays at "
                "ln V, apart from the chance of the batches.",
                _swapped("A", "F", _CURVES),
            ),
            Misconception(
                "Wrong targets taken for a low rate",
                "A low rate is slow and goes on falling. The run with wrong targets falls as fast "
                "as the healthy one down to the loss of the frequencies, and there it stays.",
                _swapped("A", "B", _CURVES),
            ),
            Misconception(
                "A leak taken for health",
                "A loss that is far better than that of the healthy run is a fault until proven "
                "otherwise.",
                {**_CURVES, "E": "healthy"},
            ),
            Misconception(
                "A leak taken for targets that are not shifted",
                "Copying is learned at once: that loss is below 1 within fifty steps. To use the "
                "future, attention first has to find where the answer stands.",
                {**_CURVES, "E": "targets not shifted"},
            ),
            Misconception(
                "A jump taken for a bad start",
                "Where a curve begins tells of the initial weights. A jump in the middle is "
                "something that happened in the middle.",
                _swapped("C", "D", _CURVES),
                "6.11",
            ),
        ),
        builds_on=("06.diagnose",),
    ),
    Exercise(
        id="06.first_update",
        title="How far does Adam go?",
        kind="explore",
        points=2,
        difficulty=2,
        section="6.3",
        reference=_UPDATES,
        properties=tuple(
            Property(name, statement, judge=_number_near(_UPDATES, name, 0.01))
            for name, statement in {
                "first": "The first update over the learning rate.",
                "thousandfold": "The same with a gradient a thousand times as large.",
                "flipped": "The second update, after the gradient changed its sign.",
                "coasting": "The second update, when there is no gradient any more.",
            }.items()
        ),
        hints=(
            "weight_decay=0.0, a parameter of one number that starts at 0, and its .grad set by "
            "hand.",
            "The update is what was subtracted: old minus new. Count the second one alone.",
        ),
        misconceptions=(
            Misconception(
                "Adam as if it were SGD",
                "SGD's update grows with the gradient. Adam divides by the gradient's own size.",
                {**_UPDATES, "thousandfold": 1000.0},
            ),
            Misconception(
                "The second update goes all the way back",
                "The running mean of the two gradients is nearly 0, so the step is small.",
                {**_UPDATES, "flipped": -1.0},
            ),
            Misconception(
                "Both updates together",
                "The distance from the start is the sum of the two updates; the second alone is "
                "asked for.",
                {
                    **_UPDATES,
                    "flipped": _UPDATES["first"] + _UPDATES["flipped"],
                    "coasting": _UPDATES["first"] + _UPDATES["coasting"],
                },
            ),
            Misconception(
                "No gradient, no update",
                "The running mean remembers the first gradient, so the weight moves on.",
                {**_UPDATES, "coasting": 0.0},
            ),
            Misconception(
                "The sign of the change",
                "An update is what is subtracted from the weight: old minus new.",
                {name: -value for name, value in _UPDATES.items()},
            ),
        ),
    ),
)
