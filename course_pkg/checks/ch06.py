"""Exercises of chapter 6, training."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from course_pkg.checks.compare import expect, expect_close
from course_pkg.checks.engine import Exercise, Misconception, Property, call

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


def _shifted_inputs(generator: torch.Generator) -> list[tuple]:
    def inputs(lengths: tuple[int, ...], vocab_size: int) -> tuple:
        batch, tokens = len(lengths), max(lengths)
        logits = 2 * torch.randn(batch, tokens, vocab_size, generator=generator)
        ids = torch.randint(vocab_size, (batch, tokens), generator=generator)
        return logits, ids, torch.arange(tokens) < torch.tensor(lengths)[:, None]

    return [inputs((6, 3), 7), inputs((4, 5, 2), 9)]


def _other_filling(shifted_cross_entropy, logits, ids, mask):
    other = torch.where(mask, ids, (ids + 1) % logits.shape[-1])
    return shifted_cross_entropy(logits, ids, mask), shifted_cross_entropy(logits, other, mask)


def _filling_does_not_count(seen, logits, ids, mask):
    expect_close(seen[1], seen[0], "the loss after the ids of the filling were changed")


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
    expect_close(seen[1], seen[0], "the loss after a change of the last position's logits")
    expect_close(seen[2], seen[0], "the loss after a change of the first ids")


def _no_opinion(shifted_cross_entropy, logits, ids, mask):
    return shifted_cross_entropy(torch.zeros_like(logits), ids, mask)


def _loss_is_ln_v(loss, logits, ids, mask):
    expect_close(loss, math.log(logits.shape[-1]), "the loss of logits that are all 0")


# 06.perplexity

_PREDICTED = {
    "first_loss": math.log(4096),
    "perplexity": math.exp((math.log(8) + math.log(2)) / 2),
    "bits_per_byte": (math.log(8) + math.log(2)) / 2 / math.log(2) / 4,
}


def _number_near(values, name, tolerance):
    def judge(seen):
        expect(isinstance(seen, dict) and name in seen, f"there is no entry {name!r}")
        got = float(seen[name])
        expect(
            abs(got - values[name]) <= tolerance * abs(values[name]),
            f"your {name} is {got:.3g}, more than {tolerance:.0%} off",
        )

    return judge


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
    return [(0.5, 4, 6, 20), (0.003, 10, 5, 40), (1.0, 0, 3, 9)]


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

    return [inputs([12, 3, 7], 5), inputs([2, 40], 3, 4)]


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


# 06.diagnose

_DIAGNOSES = {
    "A": "overfitting",
    "B": "leak",
    "C": "healthy",
    "D": "targets not shifted",
    "E": "learning rate too high",
}


def _diagnosis_of(run):
    def judge(seen):
        expect(isinstance(seen, dict) and run in seen, f"there is no entry {run!r}")
        given = str(seen[run]).strip().lower()
        allowed = sorted(_DIAGNOSES.values())
        expect(given in allowed, f"{seen[run]!r} is none of: {', '.join(allowed)}")
        expect(given == _DIAGNOSES[run], f"run {run} does not show the signs of {given!r}")

    return judge


def _swapped(one, two):
    return {**_DIAGNOSES, one: _DIAGNOSES[two], two: _DIAGNOSES[one]}


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
        ),
    ),
    Exercise(
        id="06.perplexity",
        title="Three numbers before any run",
        kind="predict",
        points=1,
        difficulty=1,
        section="6.1",
        reference=_PREDICTED,
        properties=tuple(
            Property(name, statement, judge=_number_near(_PREDICTED, name, 0.02))
            for name, statement in {
                "first_loss": "The loss of a model that knows nothing, in nats.",
                "perplexity": "The exponential of the mean loss.",
                "bits_per_byte": "The loss in bits, spread over the bytes.",
            }.items()
        ),
        hints=(
            "A model that knows nothing gives each token the same probability.",
            "First the mean of the two losses, -ln(1/8) and -ln(1/2); only then the exponential.",
            "A nat is 1 / ln 2 bits.",
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
        id="06.sample",
        title="Another way to cut the tail",
        kind="implement",
        points=2,
        difficulty=2,
        section="6.10",
        reference=min_p_probabilities,
        cases=_min_p_inputs,
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
        id="06.diagnose",
        title="Five runs, five findings",
        kind="debug",
        points=2,
        difficulty=2,
        section="6.12",
        reference=_DIAGNOSES,
        properties=tuple(
            Property(run, f"The finding fits the numbers of run {run}.", judge=_diagnosis_of(run))
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
                "The best validation loss of all belongs to a model that writes garbage.",
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
            Property(name, statement, judge=_number_near(_UPDATES, name, 0.05))
            for name, statement in {
                "first": "The first update over the learning rate.",
                "thousandfold": "The same with a gradient a thousand times as large.",
                "flipped": "The second update, after the gradient changed its sign.",
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
                {**_UPDATES, "flipped": _UPDATES["first"] + _UPDATES["flipped"]},
            ),
            Misconception(
                "The sign of the change",
                "An update is what is subtracted from the weight: old minus new.",
                {name: -value for name, value in _UPDATES.items()},
            ),
        ),
    ),
)
