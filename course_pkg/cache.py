"""Reading on from what has been read: a GPT with a key-value cache, for writing text."""

import copy
import functools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_pkg.attention import MultiHeadAttention
from course_pkg.gpt import GPT
from course_pkg.transformer import GELU, FeedForward, LayerNorm, TransformerBlock

_MAX_COPIED_BYTES = 2**30  # the weights of a larger model are used where they are


class CachedGPT:
    """A GPT that keeps the keys and values of the tokens it has read.

    The keys and values of a position depend on no later one (causality), so a new token needs
    only its own queries, keys and values, and the keys and values that were kept. Reading T
    tokens one after another costs T times one token instead of 1 + 2 + ... + T.

    The cache is allocated once. The weights are read once, here, and laid out for products with
    few rows: query, key and value projections as one matrix, and for a batch of one column by
    column. After the model has learned on, make another reader.

    The logits are those of ``GPT`` in eval mode up to rounding.

    Args:
        model: the model; it is not changed.
        batch_size: B, how many sequences are read at once.
        int8: keep the matrices as whole numbers of 8 bits with a scale for each row, and round
            what they multiply to bfloat16: a quarter of the memory to read for each token, and
            logits that differ in the third digit. For a model in float32 on a CPU.
        max_chunk: the most tokens that go through the model at once; bounds the memory that a
            long prompt takes.

    Raises:
        ValueError: ``model`` is no plain ``GPT`` (see ``can_cache``), or an argument is not
            allowed.

    Sources: Pope et al. 2023, section 2 (the cache); Dettmers et al. 2022, section 2 (int8, a
    scale for each row).
    """

    def __init__(
        self, model: GPT, batch_size: int = 1, int8: bool = False, max_chunk: int = 512
    ) -> None:
        if not can_cache(model):
            raise ValueError(
                "model is not allowed: it must be a GPT of this package, of its own parts and "
                "without hooks. Any other model can only be run as a whole."
            )
        for name, value in (("batch_size", batch_size), ("max_chunk", max_chunk)):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(
                    f"{name}={value!r} is not allowed: it must be a whole number above 0."
                )
        weight = model.output_head.weight
        if int8 and (weight.device.type, weight.dtype) != ("cpu", torch.float32):
            raise ValueError(
                f"int8={int8!r} is not allowed for a model in {weight.dtype} on "
                f"{weight.device.type}: it must be in torch.float32 on the CPU."
            )
        self.config = model.config
        self.batch_size = batch_size
        self.max_chunk = max_chunk
        self.length = 0  # tokens read
        self._model = model
        make_linear = _Int8Linear if int8 else _layout_for(model, batch_size)
        with torch.no_grad():
            self._blocks = [_CachedBlock(block, make_linear) for block in model.blocks]
            self._head = make_linear(weight, None)
        config = model.config
        head_dim = config.d_model // config.num_heads
        heads = (config.num_heads, config.context_length, head_dim)
        shape = (config.num_layers, 2, batch_size, *heads)
        self._kept = weight.new_empty(shape)  # keys and values: (L, 2, B, H, C, Dh)

    @torch.no_grad()
    def read(
        self, ids: Int[Tensor, "batch tokens"], every: bool = False
    ) -> Float[Tensor, "batch *tokens vocab"]:
        """Read on: (B, T) ids -> (B, V), the logits of the token that follows the last one.

        Args:
            ids: (B, T), the tokens after those that are read already.
            every: give the logits after each of the T tokens, (B, T, V).

        Raises:
            ValueError: ``ids`` is nothing that a ``GPT`` takes, has another batch size, or goes
                beyond ``context_length``.
        """
        self._model._require_ids(ids)
        self.require_batch(ids)
        if self.length + ids.shape[1] > self.config.context_length:
            raise ValueError(
                f"ids has {ids.shape[1]} tokens after the {self.length} that are read: at most "
                f"context_length={self.config.context_length} are allowed together."
            )
        chunks = [self._features(chunk) for chunk in ids.split(self.max_chunk, dim=1)]
        features = torch.cat(chunks, dim=1) if every else chunks[-1][:, -1:]
        logits = self._head(features.flatten(0, 1))  # (B, T, D) -> (B * T, V)
        return logits.unflatten(0, features.shape[:2]) if every else logits

    def require_batch(self, ids: Int[Tensor, "batch tokens"]) -> None:
        """Raise the ValueError of another number of sequences than ``batch_size``."""
        if ids.shape[0] != self.batch_size:
            raise ValueError(
                f"ids has {ids.shape[0]} sequences: it must have batch_size={self.batch_size}."
            )

    def forget(self) -> None:
        """Begin again with no token read."""
        self.length = 0

    def fresh(self) -> "CachedGPT":
        """Another reader with the same weights, a cache of its own and no token read."""
        other = copy.copy(self)
        other._kept = torch.empty_like(self._kept)
        other.forget()
        return other

    @torch.inference_mode()
    def _features(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, D), and the keys and values of the T tokens are kept."""
        start, end = self.length, self.length + ids.shape[1]
        positions = self._model.position_embedding.weight[start:end]  # (T, D)
        x = self._model.token_embedding(ids) + positions  # (B, T, D)
        allowed = None
        if start and ids.shape[1] > 1:
            # Row t sees what was read before and the first t + 1 of the new tokens.
            allowed = torch.ones(end - start, end, dtype=torch.bool, device=ids.device).tril(start)
        for block, kept in zip(self._blocks, self._kept, strict=True):
            x = block(x, kept[..., :end, :], start, allowed)
        self.length = end
        return self._model.final_norm(x)


class _CachedBlock:
    """``TransformerBlock`` in eval mode, for tokens that follow others."""

    def __init__(self, block: Any, make_linear: "_MakeLinear") -> None:
        attention = block.attention
        up, gelu, down = block.feed_forward.layers
        inputs = (attention.W_query, attention.W_key, attention.W_value)
        biases = None if inputs[0].bias is None else torch.cat([part.bias for part in inputs])
        self.heads = (3, attention.num_heads, attention.head_dim)
        self.norm1, self.norm2 = block.norm1.forward, block.norm2.forward
        self.gelu = gelu.forward
        self.qkv = make_linear(torch.cat([part.weight for part in inputs]), biases)  # D -> 3D
        self.out = make_linear(attention.out_proj.weight, attention.out_proj.bias)
        self.up, self.down = make_linear(up.weight, up.bias), make_linear(down.weight, down.bias)

    def __call__(self, x: Tensor, kept: Tensor, start: int, allowed: Tensor | None) -> Tensor:
        """(B, T, D) -> (B, T, D); fills the keys and values, (2, B, H, end, Dh), from ``start``."""
        B, T, D = x.shape
        x = x.view(B * T, D)
        qkv = self.qkv(self.norm1(x)).view(B, T, *self.heads)  # (B * T, 3D) -> (B, T, 3, H, Dh)
        qkv = qkv.permute(2, 0, 3, 1, 4)  # (3, B, H, T, Dh)
        kept[..., start:, :] = qkv[1:]
        keys, values = kept
        context = F.scaled_dot_product_attention(
            qkv[0], keys, values, attn_mask=allowed, is_causal=T > 1 and allowed is None
        )  # (B, H, T, Dh)
        x = x + self.out(context.transpose(1, 2).reshape(B * T, D))
        hidden = self.gelu(self.up(self.norm2(x)))  # (B * T, 4D)
        return (x + self.down(hidden)).view(B, T, D)


# Products with few rows


_MakeLinear = Callable[[Tensor, Tensor | None], Callable[[Tensor], Tensor]]


def _layout_for(model: GPT, batch_size: int) -> _MakeLinear:
    num_bytes = sum(p.numel() * p.element_size() for p in model.parameters())
    by_column = batch_size == 1 and not model.output_head.weight.is_cuda
    if by_column and num_bytes <= _MAX_COPIED_BYTES:
        # A BLAS library reads such a matrix once through for one row of input.
        return lambda weight, bias: functools.partial(
            F.linear, weight=weight.t().contiguous().t(), bias=bias
        )
    return lambda weight, bias: functools.partial(F.linear, weight=weight, bias=bias)


class _Int8Linear:
    """A linear layer of whole numbers from -127 to 127, with a scale for each row."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        scales = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127  # (out, 1)
        self.weight = (weight / scales).round().to(torch.int8)
        self.scales = scales.squeeze(1).bfloat16()
        self.bias = bias

    def __call__(self, x: Tensor) -> Tensor:
        # PyTorch's kernel for this is fast for inputs in bfloat16 only.
        product = torch._weight_int8pack_mm(x.bfloat16(), self.weight, self.scales).float()
        return product if self.bias is None else product + self.bias


# Which models


_PARTS = {
    GPT, TransformerBlock, MultiHeadAttention, FeedForward, LayerNorm, GELU,
    nn.Embedding, nn.Linear, nn.Dropout, nn.ModuleList, nn.Sequential,
}  # fmt: skip


def can_cache(model: nn.Module) -> bool:
    """Whether ``CachedGPT`` computes what ``model`` does: a plain ``GPT`` of this package's parts.

    Not if a part is of another class, has hooks, or has a forward of its own.
    """
    return type(model) is GPT and all(
        type(module) in _PARTS
        and not {"forward", "features"} & vars(module).keys()
        and not (module._forward_hooks or module._forward_pre_hooks)
        for module in model.modules()
    )
