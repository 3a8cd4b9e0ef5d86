"""The finished pieces of the course *GPT, Piece by Piece*.

The public names are loaded on first use, so that ``import course_pkg`` and the command line's
help cost nothing: PyTorch is imported only when a name that needs it is asked for.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "attention": (
        "SelfAttention",
        "CausalAttention",
        "MultiHeadAttentionWrapper",
        "MultiHeadAttention",
    ),
    "cache": ("CachedGPT",),
    "checks": ("check",),
    "checks.curves": ("diagnose",),
    "config": ("GPTConfig", "TrainingConfig", "PRESETS"),
    "data": (
        "Corpus",
        "TokenWindows",
        "encode_documents",
        "encode_file",
        "epoch_batches",
        "load_corpus",
        "open_token_file",
        "random_batches",
        "write_token_file",
    ),
    "generation": ("generate", "next_token_probabilities", "stream"),
    "gpt": ("GPT",),
    "tokenizer": (
        "END_OF_TEXT",
        "GPT2_SPLIT_PATTERN",
        "BPETokenizer",
        "gpt2_tokenizer",
        "printable_token",
    ),
    "training": (
        "History",
        "Trainer",
        "bits_per_byte",
        "cross_entropy",
        "learning_rate_at",
        "perplexity",
        "train",
    ),
    "transformer": ("GELU", "FeedForward", "LayerNorm", "TransformerBlock"),
    "weights": (
        "from_huggingface",
        "from_llms_from_scratch",
        "from_nanogpt",
        "load_pretrained",
        "load_tokenizer",
        "save_pretrained",
        "to_huggingface",
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'course_pkg' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"course_pkg.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
