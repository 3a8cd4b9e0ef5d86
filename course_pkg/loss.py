"""The output head and the cross-entropy in one, without the logits of the whole batch in memory."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable


def chunked_cross_entropy(
    hidden: Float[Tensor, "*batch d_model"],
    weight: Float[Tensor, "vocab d_model"],
    targets: Int[Tensor, "*batch"],
    rows: int,
    ignore_index: int,
) -> Float[Tensor, ""]:
    """The sum of ``cross_entropy(hidden @ weight.T, targets)``, ``rows`` tokens at a time.

    A chunk's logits become its loss, then its gradients, in the forward pass; then the next chunk
    takes their place. The backward pass only scales what is there. So the memory for logits is
    that of ``rows`` tokens and not of the batch, and nothing is computed twice. Under autocast the
    products are in its dtype, everything else is in float32. There is no second derivative.

    Args:
        hidden: what the head turns into logits.
        weight: the head's, without a bias.
        targets: an id each; ``ignore_index`` where there is none.
        rows: tokens in a chunk.
        ignore_index: the target that does not count.

    Raises:
        ValueError: ``rows`` is below 1.
    """
    if rows < 1:
        raise ValueError(f"rows={rows} is not allowed: it must be at least 1.")
    return _ChunkedCrossEntropy.apply(
        hidden.flatten(0, -2),  # (B, T, D) -> (B * T, D)
        weight,
        targets.flatten(),  # (B, T) -> (B * T,)
        rows,
        ignore_index,
        torch.is_grad_enabled(),
    )


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        rows: int,
        ignore_index: int,
        learning: bool,
    ) -> Tensor:
        kind = hidden.device.type
        autocast = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if autocast else hidden.dtype
        # Sums are kept in at least float32.
        wide = torch.promote_types(hidden.dtype, torch.float32)
        ctx.dtypes = hidden.dtype, weight.dtype
        need_hidden, need_weight = (learning and need for need in ctx.needs_input_grad[:2])
        with torch.autocast(kind, enabled=False):
            hidden, head = hidden.to(dtype), weight.to(dtype)
            grad_hidden = torch.empty_like(hidden, dtype=wide) if need_hidden else None
            grad_weight = torch.zeros_like(head, dtype=wide) if need_weight else None
            rows = min(rows, len(hidden))
            buffer = hidden.new_empty(rows, len(head))  # (R, V)
            total = hidden.new_zeros((), dtype=wide)
            for start in range(0, len(hidden), rows):
                part, target = hidden[start : start + rows], targets[start : start + rows]
                counts = (target != ignore_index).unsqueeze(1)  # (R, 1)
                target = target.unsqueeze(1).where(counts, 0)
                logits = torch.mm(part, head.T, out=buffer[: len(part)]).to(wide)  # (R, V)
                logits -= logits.amax(dim=1, keepdim=True)
                chosen = logits.gather(1, target)  # (R, 1)
                exponentials = logits.exp_()
                sums = exponentials.sum(dim=1, keepdim=True)
                total += (sums.log() - chosen).where(counts, 0).sum()
                # d loss / d logits is p - 1 at the target and p elsewhere, with p = e / sum. The
                # division is left to the small factor of each product.
                grad = exponentials.scatter_add_(1, target, -sums).to(dtype)
                scale = counts / sums
                if grad_hidden is not None:
                    grad_hidden[start : start + rows] = (grad @ head) * scale
                if grad_weight is not None:
                    scaled = (part * scale).to(dtype)
                    if dtype == wide:
                        grad_weight.addmm_(grad.T, scaled)
                    else:
                        grad_weight += grad.T @ scaled
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        # In place: the saved tensors serve no other pass. PyTorch refuses a second one by itself.
        scaled = [
            None if saved is None else saved.mul_(grad_total).to(dtype)
            for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return *scaled, None, None, None, None
