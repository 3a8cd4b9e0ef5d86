"""Right answers of chapter 6 by other routes."""

import copy
import io
import math
import pickle

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from course_pkg import next_token_probabilities
from course_pkg.checks import ch06

# 06.shifted_cross_entropy


def loss_by_flattening(logits, ids, mask):
    targets = torch.where(mask[:, 1:], ids[:, 1:], -100)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), targets.flatten(), ignore_index=-100)


def loss_in_a_loop(logits, ids, mask):
    losses = []
    for b in range(ids.shape[0]):
        for i in range(ids.shape[1] - 1):
            if mask[b, i + 1]:
                losses.append(-F.log_softmax(logits[b, i].double(), dim=0)[ids[b, i + 1]].item())
    return sum(losses) / len(losses)


def loss_in_numpy(logits, ids, mask):
    z = logits.numpy()[:, :-1]
    z = z - z.max(axis=-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    picked = np.take_along_axis(log_p, ids.numpy()[:, 1:, None], axis=-1)[..., 0]
    real = mask.numpy()[:, 1:]
    return -(picked * real).sum() / real.sum()


def loss_by_log_sum_exp(logits, ids, mask):
    right = (F.one_hot(ids[:, 1:], logits.shape[-1]) * logits[:, :-1]).sum(dim=-1)
    losses = logits[:, :-1].logsumexp(dim=-1) - right
    weights = mask[:, 1:].float()
    return torch.einsum("bt,bt->", losses, weights) / weights.sum()


def loss_of_rolled_targets(logits, ids, mask):
    targets, asked = ids.roll(-1, dims=1), mask.roll(-1, dims=1)
    asked[:, -1] = False
    return F.cross_entropy(logits[asked].double(), targets[asked])


# 06.decay_groups


def groups_by_names(model, weight_decay):
    tables = {
        f"{name}.weight".lstrip(".")
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
    }
    groups = {True: [], False: []}
    for name, p in model.named_parameters():
        if p.requires_grad:
            groups[p.dim() > 1 and name not in tables].append(p)
    return [
        {"params": groups[False], "weight_decay": 0},
        {"params": groups[True], "weight_decay": weight_decay},
    ]


def groups_by_identity(model, decay):
    everything = {id(p): p for p in model.parameters() if p.requires_grad}
    spared = {i for i, p in everything.items() if len(p.shape) < 2}
    for module in model.modules():
        if type(module) is nn.Embedding:
            spared.add(id(module.weight))
    return (
        {"params": (p for i, p in everything.items() if i not in spared), "weight_decay": decay},
        {"params": (p for i, p in everything.items() if i in spared), "weight_decay": 0.0},
    )


def groups_layer_by_layer(model, weight_decay):
    seen, decay, rest = set(), [], []
    layers = sorted(model.modules(), key=lambda m: not isinstance(m, nn.Embedding))
    for module in layers:  # tables first, so that a tied head finds its weight taken
        for p in module.parameters(recurse=False):
            if p.requires_grad and p not in seen:
                seen.add(p)
                (rest if isinstance(module, nn.Embedding) or p.ndim in (0, 1) else decay).append(p)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]


def a_group_for_each(model, weight_decay):
    tables = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
    return [
        {
            "params": [p],
            "weight_decay": 0.0 if p.ndim < 2 or any(p is t for t in tables) else weight_decay,
        }
        for p in model.parameters()
        if p.requires_grad
    ]


# 06.learning_rate


def rate_by_interpolation(step, peak, warmup, decay, total):
    if warmup == 0:
        return float(np.interp(step, [total - decay, total], [peak, 0.0]))
    return float(np.interp(step, [0, warmup, total - decay, total], [0.0, peak, peak, 0.0]))


def rate_in_cases(step, peak, warmup, decay, total):
    if step >= total:
        return 0
    if warmup and step < warmup:
        return peak * (step / warmup)
    left = total - step
    return peak if left > decay else peak * left / decay


def rate_as_a_tensor(step, peak, warmup, decay, total):
    up = torch.tensor(step / max(warmup, 1) if warmup else 1.0, dtype=torch.float64)
    down = torch.tensor((total - step) / decay, dtype=torch.float64)
    return peak * torch.minimum(up, down).clamp(0, 1)


# 06.warmup_cosine


def cycle_by_logarithm(step, peak, low, warmup, cycle):
    if step < warmup:
        return step * (peak / warmup)
    number = ((step - warmup) // cycle + 1).bit_length() - 1  # cycles that are over
    begins = warmup + (2**number - 1) * cycle
    phase = (step - begins) / (2**number * cycle)
    return low + (peak - low) * math.cos(math.pi * phase / 2) ** 2


def cycle_by_recursion(step, peak, low, warmup, cycle):
    if warmup > 0:
        if step <= warmup:
            return peak * step / warmup
        return cycle_by_recursion(step - warmup, peak, low, 0, cycle)
    if step >= cycle:
        return cycle_by_recursion(step - cycle, peak, low, 0, 2 * cycle)
    return (peak + low) / 2 + (peak - low) / 2 * math.cos(step * math.pi / cycle)


def all_rates_in_a_table(step, peak, low, warmup, cycle):
    rates = list(np.linspace(0.0, peak, warmup, endpoint=False))
    while len(rates) <= step:
        phase = np.arange(cycle) / cycle
        rates.extend(peak - (peak - low) * np.sin(np.pi / 2 * phase) ** 2)
        cycle *= 2
    return rates[step]


# 06.clip


def clip_in_one_vector(gradients, max_norm):
    vector = torch.cat([g.flatten().double() for g in gradients if g is not None])
    norm = torch.linalg.vector_norm(vector)
    factor = torch.clamp(max_norm / norm, max=1.0) if norm > 0 else torch.tensor(1.0)
    return [g if g is None else (g * factor).to(g.dtype) for g in gradients], norm


def clip_with_torch(gradients, max_norm):
    parameters = [None if g is None else nn.Parameter(torch.zeros(g.shape)) for g in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        if p is not None:
            p.grad = g.float().clone()
    norm = nn.utils.clip_grad_norm_([p for p in parameters if p is not None], max_norm)
    return [None if p is None else p.grad for p in parameters], norm


def clip_with_norms_of_norms(gradients, max_norm):
    norms = [0.0 if g is None else torch.linalg.norm(g.float()).item() for g in gradients]
    norm = math.hypot(*norms)
    shorter = max(1.0, norm / max_norm)
    return tuple(None if g is None else g / shorter for g in gradients), norm


def clip_in_numpy(gradients, max_norm):
    norm = np.sqrt(
        sum(np.square(g.numpy(), dtype=np.float64).sum() for g in gradients if g is not None)
    )
    factor = float(min(1.0, max_norm / max(norm, 1e-12)))
    return [None if g is None else torch.tensor(g.numpy() * factor) for g in gradients], norm


# 06.accumulate


def combine_by_tensordot(gradients, counts):
    n = torch.tensor(counts, dtype=torch.float64)
    stacked = torch.nan_to_num(torch.stack(gradients)).double()
    return torch.tensordot(n / n.sum(), stacked, dims=1)


def combine_one_by_one(gradients, counts):
    mean, seen = torch.zeros_like(gradients[0]), 0
    for gradient, count in zip(gradients, counts, strict=True):
        if count:
            seen += count
            mean = mean + (gradient - mean) * count / seen
    return mean


def combine_by_einsum(gradients, counts):
    working = [(g, n) for g, n in zip(gradients, counts, strict=True) if n > 0]
    n = torch.tensor([n for _, n in working], dtype=torch.float32)
    return torch.einsum("w,w...->...", n, torch.stack([g for g, _ in working])) / n.sum()


# 06.evaluate


def evaluate_a_copy(model, batches):
    other = copy.deepcopy(model).eval().requires_grad_(False)
    pairs = [(other(x).flatten(0, 1), y.flatten()) for x, y in batches]
    logits = torch.cat([z for z, _ in pairs])
    return F.cross_entropy(logits, torch.cat([y for _, y in pairs]))


@torch.inference_mode()
def evaluate_token_by_token(model, batches):
    modes = {name: module.training for name, module in model.named_modules()}
    model.eval()
    losses = []
    for x, y in batches:
        log_p = model(x).double().log_softmax(dim=-1)
        for b, t in (y >= 0).nonzero().tolist():
            losses.append(-log_p[b, t, y[b, t]].item())
    for name, module in model.named_modules():
        module.training = modes[name]
    return sum(losses) / len(losses)


def evaluate_with_train(model, batches):
    in_training = [module for module in model.modules() if module.training]
    model.train(False)
    was_enabled = torch.is_grad_enabled()
    torch.set_grad_enabled(False)
    total = torch.zeros((), dtype=torch.float64)
    count = 0
    for x, y in batches:
        real = y != -100
        losses = F.cross_entropy(model(x).transpose(1, 2), y, reduction="none")
        total += losses[real].sum()
        count += real.sum()
    torch.set_grad_enabled(was_enabled)
    for module in in_training:
        module.training = True
    return total / count


# 06.sample


def min_p_on_logits(logits, temperature, min_p):
    scaled = logits / temperature
    margin = -math.log(min_p) if min_p else math.inf
    too_low = scaled < scaled.max(dim=-1, keepdim=True).values - margin
    return scaled.masked_fill(too_low, -torch.inf).softmax(dim=-1)


def min_p_row_by_row(logits, temperature, min_p):
    rows = []
    for row in logits.double():
        p = torch.softmax(row / temperature, dim=0)
        kept = torch.where(p >= min_p * p.max(), p, 0)
        rows.append(kept / kept.sum())
    return torch.stack(rows)


def min_p_without_normalising_first(logits, temperature, min_p):
    ratio = torch.exp((logits - logits.amax(dim=-1, keepdim=True)) / temperature)  # over the best
    ratio = ratio * ~(ratio < min_p)
    return F.normalize(ratio, p=1.0, dim=-1)


# 06.cut_the_tail


def tail_in_python(logits, temperature, top_k, top_p):
    rows = []
    for i in range(len(logits)):
        scores = [z / temperature[i].item() for z in logits[i].tolist()]
        weights = [math.exp(z - max(scores)) for z in scores]
        order = sorted(range(len(weights)), key=lambda j: (-weights[j], j))
        row, held = [0.0] * len(weights), 0.0
        for place, j in enumerate(order):
            if place >= top_k[i].item() or held >= top_p[i].item():
                break
            row[j] = weights[j]
            held += weights[j] / sum(weights)
        rows.append([x / sum(row) for x in row])
    return torch.tensor(rows)


def tail_on_logits(logits, temperature, top_k, top_p):
    z = logits.double() / temperature.unsqueeze(-1)
    order = torch.argsort(z, dim=-1, descending=True, stable=True)
    place = order.argsort(dim=-1)  # the inverse permutation: the place of each token
    held = z.softmax(dim=-1).gather(-1, order).cumsum(dim=-1)
    length = (held < top_p.unsqueeze(-1) - 1e-9).sum(dim=-1) + 1  # of the nucleus
    kept = place < torch.minimum(length, top_k).unsqueeze(-1)
    return z.masked_fill(~kept, -torch.inf).softmax(dim=-1)


def tail_by_the_package(logits, temperature, top_k, top_p):
    """Top-p first, which looks at the whole row; then the place in it."""
    rows = []
    for row, t, k, p in zip(logits, temperature, top_k, top_p, strict=True):
        nucleus = next_token_probabilities(row[None], t.item(), None, p.item())
        rows.append(next_token_probabilities(nucleus.log(), 1.0, k.item(), None))
    return torch.cat(rows)


# 06.resume


class RunAsBytes(ch06.Run):
    """The pickled picture cannot change."""

    def state_dict(self):
        file = io.BytesIO()
        torch.save(
            [
                self.model.state_dict(),
                self.optimizer.state_dict(),
                self.order.get_state(),
                torch.get_rng_state(),
                self.steps,
            ],
            file,
        )
        return {"bytes": torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)}

    def load_state_dict(self, state):
        file = io.BytesIO(state["bytes"].numpy().tobytes())
        model, optimizer, order, dropout, self.steps = torch.load(file, weights_only=True)
        self.model.load_state_dict(model)
        self.optimizer.load_state_dict(optimizer)
        self.order.set_state(order)
        torch.set_rng_state(dropout)


class RunByHand(ch06.Run):
    """Only tensors and numbers, and a new optimizer."""

    def state_dict(self):
        averages = [self.optimizer.state[p] for p in self.model.parameters()]
        return {
            "weights": [p.detach().clone() for p in self.model.parameters()],
            "averages": [{name: x.clone() for name, x in each.items()} for each in averages],
            "generators": (self.order.get_state(), torch.random.get_rng_state()),
            "steps": self.steps,
        }

    def load_state_dict(self, state):
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.02)
        parameters = list(self.model.parameters())
        with torch.no_grad():
            for p, saved, averages in zip(
                parameters, state["weights"], state["averages"], strict=True
            ):
                p.copy_(saved)
                self.optimizer.state[p] = {name: x.clone() for name, x in averages.items()}
        order, dropout = state["generators"]
        self.order = torch.Generator()
        self.order.set_state(order)
        torch.random.set_rng_state(dropout)
        self.steps = state["steps"]


class RunPickled(ch06.Run):
    """Copies through pickle, and the parts one by one."""

    def state_dict(self):
        state = {name: pickle.dumps(getattr(self, name).state_dict()) for name in self._parts}
        states = [self.order.get_state().tolist(), torch.get_rng_state().tolist()]
        return state | {"states": states, "steps": self.steps}

    def load_state_dict(self, state):
        for name in self._parts:
            getattr(self, name).load_state_dict(pickle.loads(state[name]))
        order, dropout = (torch.tensor(s, dtype=torch.uint8) for s in state["states"])
        self.order.set_state(order)
        torch.set_rng_state(dropout)
        self.steps = state["steps"]

    _parts = ("model", "optimizer")


# Values


def updates_by_formula():
    beta1, beta2 = 0.9, 0.95

    def second(g):  # after a first gradient of 1
        mean = (beta1 * (1 - beta1) + (1 - beta1) * g) / (1 - beta1**2)
        square = (beta2 * (1 - beta2) + (1 - beta2) * g * g) / (1 - beta2**2)
        return mean / math.sqrt(square)

    return {"first": 1, "thousandfold": 1, "flipped": second(-1), "coasting": second(0)}


def updates_by_adam():
    def updates(*gradients):
        weight = torch.zeros(1, requires_grad=True)
        adam = torch.optim.Adam([weight], lr=1e-3, betas=(0.9, 0.95))
        for g in gradients:
            before = weight.detach().clone()
            weight.grad = torch.full_like(weight, g)
            adam.step()
        return (before - weight.detach())[0] / 1e-3

    return {
        "first": updates(0.02),
        "thousandfold": updates(20.0),
        "flipped": updates(0.02, -0.02),
        "coasting": updates(0.02, 0.0),
    }


def as_upper_case(findings):
    return {run: finding.upper() for run, finding in findings.items()}


RIGHT = {
    "06.shifted_cross_entropy": {
        "F.cross_entropy with ignore_index": loss_by_flattening,
        "a loop in float64": loss_in_a_loop,
        "numpy": loss_in_numpy,
        "logsumexp and one-hot": loss_by_log_sum_exp,
        "rolled targets": loss_of_rolled_targets,
    },
    "06.perplexity": {
        "rounded": {
            "first_loss": 8.32,
            "perplexity": 4,
            "bits_per_byte": 0.5,
            "both_texts": 12.2,
        },
        "a function": lambda: {
            "first_loss": 12 * math.log(2),
            "perplexity": 16**0.5,
            "bits_per_byte": 2 / 4,
            "both_texts": math.exp(0.75 * 2 + 0.25 * 4),
        },
        "tensors": {
            "first_loss": -torch.tensor(1 / 4096).log(),
            "perplexity": torch.tensor([8.0, 2.0]).log().mean().exp(),
            "bits_per_byte": torch.tensor([8.0, 2.0]).log2().mean() / 4,
            "both_texts": torch.tensor([2.0, 2.0, 2.0, 4.0]).mean().exp(),
        },
    },
    "06.decay_groups": {
        "by names": groups_by_names,
        "generators by identity": groups_by_identity,
        "layer by layer, tables first": groups_layer_by_layer,
        "a group for each": a_group_for_each,
    },
    "06.learning_rate": {
        "interpolation": rate_by_interpolation,
        "cases from the end": rate_in_cases,
        "a tensor": rate_as_a_tensor,
    },
    "06.warmup_cosine": {
        "number of the cycle": cycle_by_logarithm,
        "recursion": cycle_by_recursion,
        "a table": all_rates_in_a_table,
    },
    "06.clip": {
        "one vector in float64": clip_in_one_vector,
        "clip_grad_norm_ on copies": clip_with_torch,
        "norm of norms": clip_with_norms_of_norms,
        "numpy": clip_in_numpy,
    },
    "06.accumulate": {
        "tensordot in float64": combine_by_tensordot,
        "a running mean": combine_one_by_one,
        "einsum": combine_by_einsum,
    },
    "06.evaluate": {
        "a copy of the model": evaluate_a_copy,
        "inference mode, token by token": evaluate_token_by_token,
        "set_grad_enabled and a mask": evaluate_with_train,
    },
    "06.sample": {
        "on the logits": min_p_on_logits,
        "row by row in float64": min_p_row_by_row,
        "ratios to the best": min_p_without_normalising_first,
    },
    "06.cut_the_tail": {
        "plain Python": tail_in_python,
        "the inverse permutation": tail_on_logits,
        "twice the package's": tail_by_the_package,
    },
    "06.resume": {
        "bytes of a file": RunAsBytes,
        "clones and a new optimizer": RunByHand,
        "pickle": RunPickled,
    },
    "06.diagnose": {
        "upper case": as_upper_case(ch06._DIAGNOSES),
        "a function": lambda: dict(ch06._DIAGNOSES),
        "numpy strings": {run: np.str_(finding) for run, finding in ch06._DIAGNOSES.items()},
    },
    "06.read_curves": {
        "upper case": as_upper_case(ch06._CURVES),
        "a function": lambda: dict(reversed(ch06._CURVES.items())),
        "with the healthy run": dict(ch06.CURVE_FAULTS),
    },
    "06.first_update": {
        "the formula": updates_by_formula,
        "rounded": {"first": 1, "thousandfold": 1, "flipped": -0.0526, "coasting": 0.679},
        "Adam without decay": updates_by_adam,
    },
}
