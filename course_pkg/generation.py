"""Text from a trained model, one token at a time."""

import contextlib
import math
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from course_pkg.cache import CachedGPT, can_cache
from course_pkg.gpt import GPT


def next_token_probabilities(
    logits: Float[Tensor, "batch vocab"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Float[Tensor, "batch vocab"]:
    """The distribution from which the next token is drawn.

    In this order: divide the logits by ``temperature`` and take the softmax; keep the ``top_k``
    most probable tokens; of those keep the shortest list, most probable first, that holds at
    least ``top_p`` of their probability (nucleus sampling, Holtzman et al. 2020, section 3.1);
    scale what is left to a sum of 1. Of equally probable tokens the lower id comes first.

    Args:
        logits: (B, V), a score for each possible next token; -inf excludes a token.
        temperature: below 1 sharpens the distribution, above 1 flattens it; at 0 all of the
            probability goes to the most probable token.
        top_k: how many tokens can be drawn; ``None``, or more than V, is all of them.
        top_p: how much of the probability can be drawn, in (0, 1]; ``None`` is all of it.

    Returns:
        (B, V), each row with a sum of 1; float32, or float64 for float64 logits.

    Raises:
        ValueError: an argument is not allowed, or a row of logits has no finite maximum.
    """
    _require_sampling(temperature, top_k, top_p)
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"logits has shape {tuple(logits.shape)}: it must be (batch, vocab).")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    maximum = logits.amax(dim=-1, keepdim=True)  # (B, V) -> (B, 1), NaN where the row has one
    if not torch.isfinite(maximum).all():
        raise ValueError(
            "logits holds NaN or +inf, or a row of -inf only: it has no finite maximum."
        )
    if temperature == 0:
        # argmax promises no order among equal values; of a running count the first 1 is the first.
        first = ((logits == maximum).cumsum(dim=-1) == 1) & (logits == maximum)
        return first.to(logits.dtype)
    # The maximum becomes 0 and the divisor stays a normal number: a tiny temperature gives no NaN.
    divisor = max(temperature, torch.finfo(logits.dtype).tiny)
    probabilities = torch.softmax((logits - maximum) / divisor, dim=-1)
    if top_k is None and top_p is None:
        return probabilities
    ranked, ids = probabilities.sort(dim=-1, descending=True, stable=True)  # (B, V), (B, V)
    if top_k is not None:
        ranked[:, top_k:] = 0.0
    if top_p is not None and top_p < 1:
        ahead = ranked.cumsum(dim=-1) - ranked  # what the more probable tokens hold together
        enough = ahead >= top_p * ranked.sum(dim=-1, keepdim=True)
        enough[:, 0] = False  # a top_p that rounds to 0 still keeps one token
        ranked[enough] = 0.0
    ranked /= ranked.sum(dim=-1, keepdim=True)
    return torch.zeros_like(ranked).scatter(-1, ids, ranked)  # back to the order of the ids


def generate(
    model: GPT | CachedGPT,
    ids: Int[Tensor, "batch tokens"],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_ids: Collection[int] = (),
    generator: torch.Generator | None = None,
    cache: bool = True,
) -> Int[Tensor, "batch tokens_and_new"]:
    """Continue each sequence of a batch by up to ``max_new_tokens`` tokens.

    Args:
        model: any module from (B, T) ids to (B, T, V) logits with a ``GPTConfig`` as ``config``.
            It runs in eval mode and without gradients, and is left in the mode it was in. Or a
            ``CachedGPT`` for this size of batch; what it has read stays as it is.
        ids: (B, T), the prompts. The model sees the last ``context_length`` tokens.
        max_new_tokens: the most tokens to add.
        temperature: see ``next_token_probabilities``; 0 always takes the most probable token.
        top_k: see ``next_token_probabilities``.
        top_p: see ``next_token_probabilities``.
        stop_ids: ids that end a sequence. They count where they are generated, not in a prompt.
        generator: the source of all randomness, on any device: tokens are drawn on its own.
            ``None`` is PyTorch's global generator.
        cache: read each token only once (see ``CachedGPT``) if the model can, as long as the text
            fits into the context. Beyond it the oldest token leaves with each new one and every
            position moves, so the whole context is read again. The tokens are those of
            ``cache=False``, except where rounding decides between two that are equally probable.

    Returns:
        (B, T + new): the prompts and what follows them, ``max_new_tokens`` tokens or fewer when
        every sequence has stopped. A sequence that stopped before others repeats its stop id.

    Raises:
        ValueError: an argument is not allowed.
    """
    new = stream(model, ids, max_new_tokens, temperature, top_k, top_p, stop_ids, generator, cache)
    return torch.cat([ids, *(tokens.unsqueeze(1).to(ids.dtype) for tokens in new)], dim=1)


def stream(
    model: GPT | CachedGPT,
    ids: Int[Tensor, "batch tokens"],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_ids: Collection[int] = (),
    generator: torch.Generator | None = None,
    cache: bool = True,
    *,
    probabilities: Callable[..., Tensor] = next_token_probabilities,
) -> Iterator[Int[Tensor, "batch"]]:
    """``generate``, giving each (B,) column of new tokens as soon as it is there.

    Takes ``generate``'s arguments and raises its errors at once, not at the first token. The
    model keeps its mode between two tokens. ``probabilities`` stands for
    ``next_token_probabilities`` and is called as it is.
    """
    _require_sampling(temperature, top_k, top_p)
    _require_prompt(ids, model.config.vocab_size)
    if not _is_whole(max_new_tokens) or max_new_tokens < 0:
        raise ValueError(
            f"max_new_tokens={max_new_tokens!r} is not allowed: it must be a whole number of at "
            "least 0."
        )
    for stop_id in stop_ids:
        if not _is_whole(stop_id) or not 0 <= stop_id < model.config.vocab_size:
            raise ValueError(
                f"stop_ids holds {stop_id!r}: ids must be in [0, vocab_size="
                f"{model.config.vocab_size})."
            )
    if isinstance(model, CachedGPT):
        model.require_batch(ids)

    def choose(logits: Tensor) -> Tensor:  # (B, V) -> (B,)
        if temperature == 0 and probabilities is next_token_probabilities:
            return _most_probable(logits)
        p = probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        return p.argmax(dim=-1) if temperature == 0 else _draw(p, generator)

    return _stream(model, ids, max_new_tokens, choose, stop_ids, cache)


def _stream(
    model: GPT | CachedGPT,
    ids: Tensor,
    max_new_tokens: int,
    choose: Callable[[Tensor], Tensor],
    stop_ids: Collection[int],
    cache: bool,
) -> Iterator[Tensor]:
    if isinstance(model, CachedGPT):
        model = model.fresh()
    elif cache and max_new_tokens > 1 and can_cache(model):
        model = CachedGPT(model, ids.shape[0])
    stops = torch.tensor(sorted(stop_ids), dtype=torch.long, device=ids.device)
    stopped = torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)
    tokens = ids[:, -1].long()
    ids = ids.long()
    for _ in range(max_new_tokens):
        tokens = torch.where(stopped, tokens, choose(_next_logits(model, ids)))  # (B,)
        stopped = stopped | torch.isin(tokens, stops)
        ids = torch.cat([ids, tokens.unsqueeze(1)], dim=1)  # (B, T) -> (B, T + 1)
        yield tokens
        if stopped.all():
            return


def _next_logits(model: GPT | CachedGPT, ids: Tensor) -> Tensor:
    """(B, T) -> (B, V): after the last of the ids, of which the cache has read the first."""
    window = ids[:, -model.config.context_length :]
    if not isinstance(model, CachedGPT):
        # Per token, because a consumer's own code runs between two.
        with torch.no_grad(), _eval_mode(model):
            return model(window)[:, -1].detach()  # (B, T, V) -> (B, V)
    if window.shape[1] < ids.shape[1]:
        model.forget()  # each token of the window has another position than it had before
    return model.read(window[:, model.length :])


def _most_probable(logits: Tensor) -> Tensor:
    """What ``next_token_probabilities`` chooses at temperature 0, without its distribution."""
    maximum, ids = logits.max(dim=-1)  # (B, V) -> (B,), the first where several are equal
    if not torch.isfinite(maximum).all():
        next_token_probabilities(logits)  # it says what is wrong
    return ids


def _draw(probabilities: Tensor, generator: torch.Generator | None) -> Tensor:
    device = probabilities.device if generator is None else generator.device
    drawn = torch.multinomial(probabilities.to(device), num_samples=1, generator=generator)
    return drawn.squeeze(1).to(probabilities.device)  # (B, 1) -> (B,)


@contextlib.contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode for every submodule, and then each one's own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _require_sampling(temperature: Any, top_k: Any, top_p: Any) -> None:
    if not (_is_number(temperature) and 0 <= temperature < math.inf):
        raise ValueError(
            f"temperature={temperature!r} is not allowed: it must be a finite number of at least 0."
        )
    if top_k is not None and not (_is_whole(top_k) and top_k >= 1):
        raise ValueError(
            f"top_k={top_k!r} is not allowed: it must be None or a whole number of at least 1."
        )
    if top_p is not None and not (_is_number(top_p) and 0 < top_p <= 1):
        raise ValueError(f"top_p={top_p!r} is not allowed: it must be None or a number in (0, 1].")


def _require_prompt(ids: Tensor, vocab_size: int) -> None:
    if ids.ndim != 2 or ids.is_floating_point() or ids.numel() == 0:
        raise ValueError(
            f"ids has shape {tuple(ids.shape)} and dtype {ids.dtype}: it must be a (batch, tokens) "
            "tensor of whole numbers with at least one token to start from."
        )
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocab_size:
        raise ValueError(
            f"ids holds {low if low < 0 else high}: ids must be in [0, vocab_size={vocab_size})."
        )


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
