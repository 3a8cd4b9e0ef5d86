"""Muon: an optimizer whose update of a weight matrix is equally long in all directions."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim.adamw import adamw

from course_pkg.gpt import GPT

# p(x) = a x + b x³ + c x⁵ is steepest at 0 among those that bring (0, 1] near 1 when repeated.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalize(
    matrices: Float[Tensor, "*axes rows columns"],
) -> Float[Tensor, "*axes rows columns"]:
    """The nearest matrices whose singular values are about 1: for M = U S Vᵀ, about U Vᵀ.

    Five rounds of a polynomial in M (a Newton-Schulz iteration), which never computes U, S or V.
    Singular values from about 1/100 of M's norm on end between 0.68 and 1.14. Jordan et al. 2024.
    """
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    # A matrix of zeros stays one.
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(torch.finfo(x.dtype).tiny)
    a, b, c = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        square = x @ x.mT  # (m, n) @ (n, m) -> (m, m), m <= n
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for weight matrices, AdamW for all else, as one optimizer.

    The update of a matrix is the orthogonalized average of its gradients times
    0.2 · √(the longer side), so that it is as large as one of AdamW's: both kinds share their
    learning rate and their decay (Liu et al. 2025, section 2.2).

    Args:
        groups: dictionaries with ``params``, ``weight_decay`` and ``orthogonalize``: whether the
            group's parameters are matrices for Muon.
        lr: the learning rate.
        momentum: of the average of a matrix's gradients, in [0, 1).
        betas: AdamW's two decay rates, in [0, 1).
        eps: AdamW's, added to the root of the second moment.

    Raises:
        ValueError: a number is not allowed, or a parameter for Muon has not two axes.

    Sources: Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks";
    Loshchilov and Hutter 2019 (AdamW).
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"lr={lr!r} is not allowed: it must be at least 0.")
        for name, value in (("momentum", momentum), ("beta1", betas[0]), ("beta2", betas[1])):
            if not 0 <= value < 1:
                raise ValueError(f"{name}={value!r} is not allowed: it must be in [0, 1).")
        defaults = {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps}
        super().__init__(groups, defaults | {"weight_decay": 0.0, "orthogonalize": False})
        for group in self.param_groups:
            for parameter in group["params"]:
                if group["orthogonalize"] and parameter.ndim != 2:
                    raise ValueError(
                        f"groups holds a parameter of shape {tuple(parameter.shape)} to "
                        "orthogonalize: it must have two axes."
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update from the gradients; parameters without one stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["orthogonalize"]:
                self._step_muon(group, parameters)
            elif parameters:
                self._step_adamw(group, parameters)
        return loss

    def _step_muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        by_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        momentum = group["momentum"]
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["average"] = torch.zeros_like(parameter)
            gradient: Any = parameter.grad
            average = state["average"].lerp_(gradient, 1 - momentum)
            # Nesterov's: the average as it will be when the same gradient comes once more.
            ahead = gradient.lerp(average, momentum)
            by_shape.setdefault(parameter.shape, []).append((parameter, ahead))
        for shape, members in by_shape.items():
            # Matrices of one shape go through the iteration together.
            updates = orthogonalize(torch.stack([ahead for _, ahead in members]))
            length = group["lr"] * 0.2 * max(shape) ** 0.5
            for (parameter, _), update in zip(members, updates, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.sub_(update, alpha=length)

    def _step_adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros(())
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        gradients: list[Any] = [parameter.grad for parameter in parameters]
        adamw(
            parameters,
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )


def configure_muon(
    model: GPT,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float] = (0.9, 0.95),
) -> Muon:
    """Muon for the matrices of the blocks; AdamW for the tables, the head, biases and norms.

    A row of a table or of the head belongs to one token and has nothing to do with the other
    rows, so these are not orthogonalized. Biases and norms do not decay.

    Raises:
        ValueError: a rate is below 0 or a beta is outside [0, 1).
    """
    matrices = {id(p) for p in model.blocks.parameters() if p.ndim == 2}
    trained = [p for p in model.parameters() if p.requires_grad]
    others = [p for p in trained if id(p) not in matrices]
    groups = [
        {
            "params": [p for p in trained if id(p) in matrices],
            "weight_decay": weight_decay,
            "orthogonalize": True,
        },
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    return Muon(groups, lr=learning_rate, betas=betas)
