"""Ways to look at functions and layers that the checks of several chapters share.

Each runs what it is given and returns plain data, or judges such data.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from course_pkg.checks.compare import expect, expect_close


def input_gradients(function: Callable[..., Any], *inputs: Any) -> list[Tensor | None]:
    """The gradient of each floating-point input, ``None`` where none arrives.

    The outputs are weighted with fixed random numbers, so that no two of them cancel.
    """
    tracked = [
        x.clone().requires_grad_() if isinstance(x, Tensor) and x.is_floating_point() else x
        for x in inputs
    ]
    leaves = [x for x in tracked if isinstance(x, Tensor) and x.requires_grad]
    total = _weighted_sum(function(*tracked))
    if not total.requires_grad:
        return [None] * len(leaves)
    return list(torch.autograd.grad(total, leaves, allow_unused=True))


def parameter_gradients(module: nn.Module, x: Tensor) -> dict[str, Tensor | None]:
    """The gradient of each parameter by its name, ``None`` where none arrives."""
    total = _weighted_sum(module(x))
    if total.requires_grad:
        total.backward()
    return {name: parameter.grad for name, parameter in module.named_parameters()}


def sensitivity(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """How much output i moves with input j, from gradients. (B, T, D) -> (T, T)"""
    x = x.clone().requires_grad_()
    y = function(x)  # (B, T, D)
    weighted = y * _weights(y)
    rows = [
        torch.autograd.grad(weighted[:, i].sum(), x, retain_graph=True)[0].norm(dim=(0, 2))
        for i in range(x.shape[1])
    ]
    return torch.stack(rows)


def sees_its_past_alone(seen: Tensor) -> None:
    """Judge ``sensitivity``: output i depends on inputs up to i, and on each of them."""
    size = len(seen)
    small = 1e-6 * float(seen.max())
    future = [(i, j) for i in range(size) for j in range(i + 1, size) if not seen[i, j] <= small]
    expect(not future, "outputs with a gradient from a later token: " + pairs(future))
    ignored = [(i, j) for i in range(size) for j in range(i + 1) if not seen[i, j] > 0]
    expect(not ignored, "outputs with no gradient from a token of their past: " + pairs(ignored))


def token_changed(function: Callable[[Tensor], Tensor], x: Tensor, token: int) -> list[int]:
    """The positions whose outputs move when one token is changed. (B, T, D) -> at most T"""
    changed = x.clone()
    changed[:, token, ::2] += 1.0  # not all features: a norm takes out what they share
    before, after = function(x), function(changed)  # (B, T, D) each
    moved = ~torch.isclose(after, before, rtol=0.0, atol=1e-6)
    return moved.any(dim=-1).any(dim=0).nonzero().flatten().tolist()


def first_alone(function: Callable[[Tensor], Any], x: Tensor) -> tuple[Any, Any]:
    """The output for the first text among others, and by itself."""
    return function(x)[:1], function(x[:1].clone())


def same_both_times(seen: Any, *inputs: Any) -> None:
    """Judge ``first_alone`` and ``copied``: both outputs are equal."""
    one, other = seen
    expect_close(other, one, "compared with the other")


def copied(make: Callable[[], nn.Module], filled: nn.Module, x: Tensor) -> tuple[Any, Any]:
    """The output of a filled module, and of a new one that was given its state dict."""
    new = make().to(x.dtype)
    new.load_state_dict(filled.state_dict())
    return filled.eval()(x), new.eval()(x)


def _weighted_sum(outputs: Any) -> Tensor:
    parts = outputs if isinstance(outputs, (tuple, list)) else [outputs]
    return sum((part * _weights(part)).sum() for part in parts)


def _weights(like: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(like.numel())
    return torch.randn(like.shape, generator=generator).to(like.dtype)


def pairs(found: list[tuple[int, int]]) -> str:
    """``4 (token 5), 2 (token 3)``: which output and because of which token."""
    shown = ", ".join(f"{i} (token {j})" for i, j in found[:4])
    return shown + (", ..." if len(found) > 4 else "")
