"""The GPT: embeddings, a stack of transformer blocks, and an output head."""

import math
import os

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_pkg.config import GPTConfig
from course_pkg.transformer import LayerNorm, TransformerBlock


class GPT(nn.Module):
    """GPT-2 (Radford et al. 2019): token ids in, a score for each possible next token out.

    Initialised as GPT-2: weights from a normal distribution with standard deviation 0.02, biases
    0, and the projections that end a residual branch scaled by 1/√(2 · num_layers) (section 2.3),
    so that the sum over all branches keeps its size however many layers there are.

    Args:
        config: the model's shape.
    """

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.position_embedding = nn.Embedding(config.context_length, config.d_model)
        self.embedding_dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.num_layers))
        self.final_norm = LayerNorm(config.d_model)
        self.output_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self._initialise()
        if config.tie_weights:
            self.output_head.weight = self.token_embedding.weight

    def forward(
        self, ids: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens {self.config.vocab_size}"]:
        """(B, T) -> (B, T, V): the logits of the token that follows each position.

        Raises:
            ValueError: as ``features``.
        """
        return self.output_head(self.features(ids))  # (B, T, D) -> (B, T, V)

    def features(
        self, ids: Int[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens {self.config.d_model}"]:
        """(B, T) -> (B, T, D): the vectors that the output head turns into logits.

        Raises:
            ValueError: ``ids`` is not a (batch, tokens) tensor of whole numbers, is empty, is
                longer than the context, or holds an id outside the vocabulary. (On CUDA the last
                is left to the device's own check, which does not stall the queue.)
        """
        self._require_ids(ids)
        positions = torch.arange(ids.shape[1], device=ids.device)
        x = self.token_embedding(ids) + self.position_embedding(positions)  # (B, T) -> (B, T, D)
        x = self.embedding_dropout(x)
        for block in self.blocks:
            x = block(x)  # (B, T, D)
        return self.final_norm(x)

    def num_parameters(self, non_embedding: bool = False) -> int:
        """Number of parameters; a tied output head counts once.

        With ``non_embedding`` the token and position tables are left out, and with them a tied
        output head: the N of Kaplan et al. 2020, section 2.1.
        """
        tables = {id(self.token_embedding.weight), id(self.position_embedding.weight)}
        return sum(
            parameter.numel()
            for parameter in self.parameters()
            if not (non_embedding and id(parameter) in tables)
        )

    def configure_optimizer(
        self,
        learning_rate: float,
        weight_decay: float,
        betas: tuple[float, float] = (0.9, 0.95),
    ) -> torch.optim.AdamW:
        """AdamW (Loshchilov and Hutter 2019) with two groups of parameters.

        Matrices, embeddings included, decay; biases and layer norms, which have one axis, do not.

        Raises:
            ValueError: from AdamW, for a negative rate or decay or a beta outside [0, 1).
        """
        decay = [p for p in self.parameters() if p.requires_grad and p.ndim >= 2]
        no_decay = [p for p in self.parameters() if p.requires_grad and p.ndim < 2]
        groups = [
            {"params": decay, "weight_decay": weight_decay},
            {"params": no_decay, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, weight_decay=weight_decay)

    @classmethod
    def from_pretrained(cls, name: str | os.PathLike[str]) -> "GPT":
        """A trained model by name (``"story-1m"``, ``"gpt2"``, ...) or from a folder.

        See ``course_pkg.weights.load_pretrained``, which does the work and says what can fail.
        """
        # weights.py stands a floor above this module and imports it, so it is loaded on call.
        from course_pkg.weights import load_pretrained

        return load_pretrained(name, model_class=cls)

    def _initialise(self) -> None:
        residual_std = 0.02 / math.sqrt(2 * self.config.num_layers)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif name.endswith(("attention.out_proj.weight", "feed_forward.layers.2.weight")):
                nn.init.normal_(parameter, std=residual_std)
            elif parameter.ndim >= 2:
                nn.init.normal_(parameter, std=0.02)

    def _require_ids(self, ids: Tensor) -> None:
        if ids.ndim != 2 or ids.is_floating_point() or ids.numel() == 0:
            raise ValueError(
                f"ids has shape {tuple(ids.shape)} and dtype {ids.dtype}: it must be a non-empty "
                "(batch, tokens) tensor of whole numbers."
            )
        if ids.shape[1] > self.config.context_length:
            raise ValueError(
                f"ids has {ids.shape[1]} tokens: at most context_length="
                f"{self.config.context_length} are allowed."
            )
        if ids.is_cuda or torch.compiler.is_compiling():
            return
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= self.config.vocab_size:
            raise ValueError(
                f"ids holds {low if low < 0 else high}: ids must be in [0, vocab_size="
                f"{self.config.vocab_size})."
            )
