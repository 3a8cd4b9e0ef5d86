"""The transformer block of GPT-2 and its parts."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from course_pkg.attention import MultiHeadAttention
from course_pkg.config import GPTConfig


class LayerNorm(nn.Module):
    """Brings each token's vector to mean 0 and variance 1, then scales and shifts each feature.

    scale · (x - mean) / √(variance + eps) + shift, over the last axis, with the biased variance
    (divided by d_model, not d_model - 1): Ba et al. 2016, section 3.

    Args:
        d_model: width of the input vectors.
        eps: added to the variance, inside the root; keeps a constant vector finite.
    """

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.scale = nn.Parameter(torch.ones(d_model))
        self.shift = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Float[Tensor, "*axes d_model"]) -> Float[Tensor, "*axes d_model"]:
        """(..., D) -> (..., D)."""
        return F.layer_norm(x, self.scale.shape, self.scale, self.shift, self.eps)


class GELU(nn.Module):
    """The Gaussian error linear unit (Hendrycks and Gimpel 2016, section 2).

    0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))), which is GPT-2's form, or exact:
    x · Φ(x) with Φ the normal distribution's cumulative function.

    Args:
        exact: compute Φ itself and not its form with tanh.
    """

    def __init__(self, exact: bool = False) -> None:
        super().__init__()
        self.exact = exact

    def forward(self, x: Float[Tensor, "*axes"]) -> Float[Tensor, "*axes"]:
        """Elementwise, any shape."""
        return F.gelu(x, approximate="none" if self.exact else "tanh")


class FeedForward(nn.Module):
    """Two linear layers with GELU between them, applied to each token alone.

    Vaswani et al. 2017, section 3.3, with GELU for ReLU as in GPT (Radford et al. 2018).

    Args:
        d_model: width of the input and of the output.
        hidden: width between the two layers; four times ``d_model`` unless given.
        exact_gelu: whether GELU is exact or in GPT-2's form.
    """

    def __init__(self, d_model: int, hidden: int | None = None, exact_gelu: bool = False) -> None:
        super().__init__()
        hidden = 4 * d_model if hidden is None else hidden
        self.layers = nn.Sequential(
            nn.Linear(d_model, hidden),  # (B, T, D) -> (B, T, 4D)
            GELU(exact_gelu),
            nn.Linear(hidden, d_model),  # (B, T, 4D) -> (B, T, D)
        )

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"]
    ) -> Float[Tensor, "batch tokens d_model"]:
        """(B, T, D) -> (B, T, D)."""
        return self.layers(x)


class TransformerBlock(nn.Module):
    """Attention, then a feed-forward network, each on a residual branch behind a layer norm.

    x + dropout(attention(norm1(x))), then x + dropout(feed_forward(norm2(x))): the pre-norm
    order of GPT-2 (Radford et al. 2019, section 2.3).

    Args:
        config: uses ``d_model``, ``num_heads``, ``context_length``, ``dropout``, ``qkv_bias`` and
            ``exact_gelu``.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.norm1 = LayerNorm(config.d_model)
        self.attention = MultiHeadAttention(
            d_in=config.d_model,
            d_out=config.d_model,
            context_length=config.context_length,
            dropout=config.dropout,
            num_heads=config.num_heads,
            qkv_bias=config.qkv_bias,
        )
        self.norm2 = LayerNorm(config.d_model)
        self.feed_forward = FeedForward(config.d_model, exact_gelu=config.exact_gelu)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Float[Tensor, "batch tokens d_model"]
    ) -> Float[Tensor, "batch tokens d_model"]:
        """(B, T, D) -> (B, T, D). Raises ValueError when T exceeds the context length."""
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.feed_forward(self.norm2(x)))
