"""Other implementations of a GPT, beside which ours is measured, and how they are trained.

Each of ``PEERS`` gives a module that maps token ids (B, T) to logits (B, T, V), without dropout:

- ``nanogpt``: the structure of nanoGPT (Karpathy 2022), stated again: queries, keys and values in
  one projection, PyTorch's layer norm, exact GELU and attention, a tied head; without biases, as
  its training script has it, or with them, which is GPT-2's structure and ours.
- ``llms_from_scratch``: the class of the package ``llms_from_scratch`` (Raschka 2024).
- ``transformers``: Hugging Face's ``GPT2LMHeadModel`` with PyTorch's attention.
"""

import contextlib
import functools
import logging
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_pkg.config import GPTConfig
from course_pkg.data import random_batches


class _NanoNorm(nn.Module):
    def __init__(self, width: int, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, 1e-5)


class _NanoAttention(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, T, D) -> (B, H, T, Dh)
            for part in self.qkv(x).chunk(3, dim=-1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).flatten(2))  # (B, H, T, Dh) -> (B, T, D)


class _NanoBlock(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = _NanoNorm(width, bias), _NanoNorm(width, bias)
        self.attention = _NanoAttention(width, heads, bias)
        self.up = nn.Linear(width, 4 * width, bias=bias)
        self.down = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class _Nano(nn.Module):
    def __init__(self, config: GPTConfig, bias: bool) -> None:
        super().__init__()
        width = config.d_model
        self.tokens = nn.Embedding(config.vocab_size, width)
        self.positions = nn.Embedding(config.context_length, width)
        self.blocks = nn.Sequential(
            *(_NanoBlock(width, config.num_heads, bias) for _ in range(config.num_layers))
        )
        self.norm = _NanoNorm(width, bias)
        self.head = nn.Linear(width, config.vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim >= 2:
                ends_branch = name.endswith(("out.weight", "down.weight"))
                scale = 1 / math.sqrt(2 * config.num_layers) if ends_branch else 1.0
                nn.init.normal_(parameter, std=0.02 * scale)

    def forward(self, ids: Tensor) -> Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.tokens(ids) + self.positions(places)  # (B, T) -> (B, T, D)
        return self.head(self.norm(self.blocks(x)))


class _LogitsOf(nn.Module):
    """A Hugging Face model that returns its logits alone."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor) -> Tensor:
        return self.model(ids, use_cache=False).logits


def nanogpt(config: GPTConfig, bias: bool = False) -> nn.Module:
    return _Nano(config, bias)


def textbook_configuration(config: GPTConfig, dropout: float = 0.0) -> dict[str, Any]:
    """What LLMs-from-scratch's models are made from."""
    return {
        "vocab_size": config.vocab_size,
        "context_length": config.context_length,
        "emb_dim": config.d_model,
        "n_heads": config.num_heads,
        "n_layers": config.num_layers,
        "drop_rate": dropout,
        "qkv_bias": config.qkv_bias,
    }


def llms_from_scratch(config: GPTConfig, dropout: float = 0.0) -> nn.Module:
    from llms_from_scratch.ch04 import GPTModel

    return GPTModel(textbook_configuration(config, dropout))


def transformers(config: GPTConfig) -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    # GPT-2's own ids of special tokens are outside a small vocabulary, which it warns of.
    logging.getLogger("transformers").setLevel(logging.ERROR)
    settings = GPT2Config(
        vocab_size=config.vocab_size,
        n_positions=config.context_length,
        n_embd=config.d_model,
        n_layer=config.num_layers,
        n_head=config.num_heads,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
        bos_token_id=None,
        eos_token_id=None,  # it writes on whatever it writes
        attn_implementation="sdpa",
    )
    return _LogitsOf(GPT2LMHeadModel(settings))


PEERS: dict[str, Callable[[GPTConfig], nn.Module]] = {
    "nanoGPT": nanogpt,
    "nanoGPT with biases": functools.partial(nanogpt, bias=True),
    "LLMs-from-scratch": llms_from_scratch,
    "transformers": transformers,
}


def training_step(
    model: nn.Module,
    ids: Tensor,
    batch_size: int,
    context_length: int,
    *,
    autocast: torch.dtype | None = None,
    compiled: bool = False,
) -> Callable[[], float]:
    """One update of a peer, as its own training script does it, on the model's device.

    The mean cross-entropy of a random batch, gradients clipped at 1.0, AdamW (fused on CUDA).
    """
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-4, betas=(0.9, 0.95), fused=device.type == "cuda" or None
    )
    batches = random_batches(ids, batch_size, context_length, torch.Generator().manual_seed(0))
    forward = torch.compile(model) if compiled else model

    def step() -> float:
        inputs, targets = (part.to(device) for part in next(batches))  # (B, T) each
        context = torch.autocast(device.type, autocast) if autocast else contextlib.nullcontext()
        with context:
            loss = F.cross_entropy(forward(inputs).flatten(0, 1), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss.item()

    return step
