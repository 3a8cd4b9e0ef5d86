"""Attention, from one head without a mask to the multi-head causal attention of a GPT.

Scaled dot-product attention is Vaswani et al. 2017, section 3.2.1; several heads, section 3.2.2.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """One head of attention in which every token sees every token.

    softmax(Q Kᵀ / √d_out) V, with Q, K and V three linear projections of the input
    (Vaswani et al. 2017, equation 1).

    Args:
        d_in: width of the input vectors.
        d_out: width of the queries, keys, values and of the output.
        qkv_bias: whether the three projections have a bias.

    Raises:
        ValueError: a width is not a positive whole number.
    """

    def __init__(self, d_in: int, d_out: int, qkv_bias: bool = False) -> None:
        super().__init__()
        _require_positive(d_in=d_in, d_out=d_out)
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)

    def forward(self, x: Float[Tensor, "batch tokens d_in"]) -> Float[Tensor, "batch tokens d_out"]:
        """(B, T, d_in) -> (B, T, d_out). Raises ValueError when ``x`` has another width."""
        _require_input(x, self.W_query.in_features)
        queries, keys, values = self.W_query(x), self.W_key(x), self.W_value(x)  # (B, T, d_out)
        scores = queries @ keys.transpose(-2, -1)  # (B, T, d_out) -> (B, T, T)
        weights = torch.softmax(scores / math.sqrt(keys.shape[-1]), dim=-1)
        return weights @ values  # (B, T, T) @ (B, T, d_out) -> (B, T, d_out)


class CausalAttention(nn.Module):
    """One head of attention in which a token sees itself and the tokens before it.

    Scores of later tokens are set to -inf before the softmax (Vaswani et al. 2017, section 3.2.3);
    dropout falls on the attention weights.

    Args:
        d_in: width of the input vectors.
        d_out: width of the queries, keys, values and of the output.
        context_length: the longest input, in tokens.
        dropout: probability of dropping an attention weight while training, in [0, 1).
        qkv_bias: whether the three projections have a bias.

    Raises:
        ValueError: an argument is not allowed.
    """

    allowed: Tensor

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        _require_positive(d_in=d_in, d_out=d_out, context_length=context_length)
        _require_dropout(dropout)
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.dropout = nn.Dropout(dropout)
        allowed = torch.ones(context_length, context_length, dtype=torch.bool).tril()
        self.register_buffer("allowed", allowed, persistent=False)  # True: attention is allowed

    def forward(self, x: Float[Tensor, "batch tokens d_in"]) -> Float[Tensor, "batch tokens d_out"]:
        """(B, T, d_in) -> (B, T, d_out).

        Raises:
            ValueError: ``x`` has another width, or is longer than ``context_length``.
        """
        _require_input(x, self.W_query.in_features, self.allowed.shape[0])
        num_tokens = x.shape[1]
        queries, keys, values = self.W_query(x), self.W_key(x), self.W_value(x)  # (B, T, d_out)
        scores = queries @ keys.transpose(-2, -1)  # (B, T, d_out) -> (B, T, T)
        allowed = self.allowed[:num_tokens, :num_tokens]
        scores = scores.masked_fill(~allowed, -torch.inf)
        weights = torch.softmax(scores / math.sqrt(keys.shape[-1]), dim=-1)
        return self.dropout(weights) @ values  # (B, T, T) @ (B, T, d_out) -> (B, T, d_out)


class MultiHeadAttentionWrapper(nn.Module):
    """Several causal heads side by side, their outputs concatenated.

    The plain form of multi-head attention, without the output projection: a loop over
    ``CausalAttention`` modules of ``d_out // num_heads`` features each.

    Args:
        d_in: width of the input vectors.
        d_out: width of the output, all heads together.
        context_length: the longest input, in tokens.
        dropout: probability of dropping an attention weight while training, in [0, 1).
        num_heads: number of heads; divides ``d_out``.
        qkv_bias: whether the projections have a bias.

    Raises:
        ValueError: an argument is not allowed.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        head_dim = _head_dim(d_out, num_heads)
        self.heads = nn.ModuleList(
            CausalAttention(d_in, head_dim, context_length, dropout, qkv_bias)
            for _ in range(num_heads)
        )

    def forward(self, x: Float[Tensor, "batch tokens d_in"]) -> Float[Tensor, "batch tokens d_out"]:
        """(B, T, d_in) -> (B, T, d_out). Raises ValueError as ``CausalAttention`` does."""
        return torch.cat([head(x) for head in self.heads], dim=-1)  # H x (B, T, Dh) -> (B, T, D)


class MultiHeadAttention(nn.Module):
    """Multi-head causal attention: one projection each for queries, keys and values of all heads.

    The projections' outputs are split into ``num_heads`` heads of ``head_dim`` features, attention
    runs in all heads at once, the heads are merged and mixed by ``out_proj`` (Vaswani et al. 2017,
    section 3.2.2). The attention itself is PyTorch's ``scaled_dot_product_attention``, which gives
    the explicit formula's result without storing the (T, T) weights where a fused kernel exists.

    A state dict of the textbook implementation loads: its ``mask`` buffer, which this class does
    not need, is left out.

    Args:
        d_in: width of the input vectors.
        d_out: width of the output, all heads together.
        context_length: the longest input, in tokens.
        dropout: probability of dropping an attention weight while training, in [0, 1).
        num_heads: number of heads; divides ``d_out``.
        qkv_bias: whether the query, key and value projections have a bias.

    Raises:
        ValueError: an argument is not allowed.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        _require_positive(d_in=d_in, d_out=d_out, context_length=context_length)
        _require_dropout(dropout)
        self.d_out = d_out
        self.num_heads = num_heads
        self.head_dim = _head_dim(d_out, num_heads)
        self.context_length = context_length
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = nn.Dropout(dropout)
        self.register_load_state_dict_pre_hook(_drop_textbook_mask)

    def forward(self, x: Float[Tensor, "batch tokens d_in"]) -> Float[Tensor, "batch tokens d_out"]:
        """(B, T, d_in) -> (B, T, d_out).

        Raises:
            ValueError: ``x`` has another width, or is longer than ``context_length``.
        """
        _require_input(x, self.W_query.in_features, self.context_length)
        queries = self._split_heads(self.W_query(x))
        keys = self._split_heads(self.W_key(x))
        values = self._split_heads(self.W_value(x))
        context = F.scaled_dot_product_attention(
            queries,
            keys,
            values,
            dropout_p=self.dropout.p if self.training else 0.0,
            is_causal=True,
        )  # (B, H, T, Dh)
        merged = context.transpose(1, 2).flatten(2)  # (B, H, T, Dh) -> (B, T, H, Dh) -> (B, T, D)
        return self.out_proj(merged)

    def _split_heads(
        self, x: Float[Tensor, "batch tokens d_out"]
    ) -> Float[Tensor, "batch num_heads tokens head_dim"]:
        x = x.unflatten(-1, (self.num_heads, self.head_dim))  # (B, T, D) -> (B, T, H, Dh)
        return x.transpose(1, 2)  # (B, T, H, Dh) -> (B, H, T, Dh)


def _drop_textbook_mask(
    module: nn.Module, state_dict: dict[str, Any], prefix: str, *_: Any
) -> None:
    state_dict.pop(f"{prefix}mask", None)


def _head_dim(d_out: int, num_heads: int) -> int:
    _require_positive(d_out=d_out, num_heads=num_heads)
    if d_out % num_heads:
        raise ValueError(
            f"d_out={d_out} is not divisible by num_heads={num_heads}: "
            "each head gets d_out / num_heads features."
        )
    return d_out // num_heads


def _require_positive(**sizes: int) -> None:
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}={value!r} is not allowed: it must be a whole number above 0.")


def _require_dropout(dropout: float) -> None:
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout={dropout!r} is not allowed: it must be in [0, 1).")


def _require_input(x: Tensor, d_in: int, context_length: int | None = None) -> None:
    if x.ndim != 3 or x.shape[-1] != d_in:
        raise ValueError(f"x has shape {tuple(x.shape)}: it must be (batch, tokens, d_in={d_in}).")
    if context_length is not None and x.shape[1] > context_length:
        raise ValueError(
            f"x has {x.shape[1]} tokens: at most context_length={context_length} are allowed."
        )
