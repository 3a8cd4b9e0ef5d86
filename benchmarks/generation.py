"""Writing with and without a cache, beside other libraries, at several sizes of model.

Each continues the same prompt by the same number of tokens, always the most probable one. The
prediction is the memory that a token must read at least: every weight of the blocks and of the
head once, and the keys and values of half of the text.
"""

import functools
from collections.abc import Callable
from typing import Any

import common
import peers
import torch
from llms_from_scratch import ch04 as textbook
from llms_from_scratch.kv_cache import gpt2 as textbook_cached
from llms_from_scratch.kv_cache.utils import KVCache

from course_pkg import (
    GPT,
    CachedGPT,
    GPTConfig,
    bits_per_byte,
    cross_entropy,
    encode_documents,
    generate,
    load_corpus,
    load_pretrained,
    load_tokenizer,
    to_huggingface,
)
from course_pkg.data import TokenWindows, epoch_batches

SIZES = {
    "story-1m (4 x 128, V 2048)": GPTConfig(
        vocab_size=2048, context_length=256, d_model=128, num_heads=4, num_layers=4, dropout=0.0
    ),
    "6 x 384, V 50257": GPTConfig(
        context_length=256, d_model=384, num_heads=6, num_layers=6, dropout=0.0
    ),
    "gpt2-small (12 x 768, V 50257)": GPTConfig(context_length=256, dropout=0.0),
}
LARGE = ("gpt2-small (12 x 768, V 50257)",)  # a minute for a text without a cache
WIDTHS = {"bfloat16": 2, "int8": 1}  # bytes in a weight
PROMPT = 16


def read_bytes(config: GPTConfig, batch_size: int, new: int, bytes_per_weight: float) -> float:
    """The least memory that one step for the whole batch reads."""
    weights = 12 * config.num_layers * config.d_model**2 + config.vocab_size * config.d_model
    kept = 2 * config.num_layers * batch_size * (PROMPT + new / 2) * config.d_model
    return weights * bytes_per_weight + kept * 4


def textbook_cached_model(config: GPTConfig) -> textbook_cached.GPTModel:
    """LLMs-from-scratch's model with a cache.

    As released in 1.0.19 it stops at the second token with an error: it takes the last columns of
    its mask where it needs the last rows. So its attention is written again here, in its own
    manner: the cache grows by concatenation, the mask is made for each call.
    """

    def attend(attention, x, use_cache, start_pos, cache):
        heads = (attention.num_heads, attention.head_dim)
        parts = (attention.W_query, attention.W_key, attention.W_value)
        queries, keys, values = (part(x).unflatten(-1, heads).transpose(1, 2) for part in parts)
        if cache is not None:
            keys, values = torch.cat([cache[0], keys], 2), torch.cat([cache[1], values], 2)
        size = keys.shape[2]
        hidden = torch.triu(torch.ones(size, size, dtype=torch.bool), diagonal=1)[-x.shape[1] :]
        scores = (queries @ keys.transpose(2, 3)).masked_fill_(hidden, -torch.inf)
        weights = attention.dropout(torch.softmax(scores / attention.head_dim**0.5, dim=-1))
        merged = (weights @ values).transpose(1, 2).contiguous().flatten(2)
        return attention.out_proj(merged), (keys, values)

    model = textbook_cached.GPTModel(peers.textbook_configuration(config)).eval()
    for block in model.trf_blocks:
        block.att.forward = functools.partial(attend, block.att)
    return model


@torch.no_grad()
def write_with_textbook_cache(
    model: textbook_cached.GPTModel, ids: torch.Tensor, new: int
) -> torch.Tensor:
    cache, model.current_pos = KVCache(len(model.trf_blocks)), 0
    following = ids
    for _ in range(new):
        logits = model(following, use_cache=True, cache=cache)
        following = logits[:, -1].argmax(dim=-1, keepdim=True)
        ids = torch.cat([ids, following], dim=1)
    return ids


SLOW = ("course_pkg, no cache", "LLMs-from-scratch")


def writers(config: GPTConfig, ids: torch.Tensor) -> dict[str, Callable[[int], torch.Tensor]]:
    """Each way to continue the prompts by a number of tokens; those in ``SLOW`` have no cache."""
    torch.manual_seed(0)
    model = GPT(config).eval()
    half = GPT(config).bfloat16().eval()
    half.load_state_dict(model.state_dict())
    theirs = peers.transformers(config).model.eval()
    theirs.load_state_dict(to_huggingface(model.state_dict()), strict=False)
    cached = textbook_cached_model(config)
    plain = peers.llms_from_scratch(config).eval()
    plain.load_state_dict(cached.state_dict(), strict=False)  # it has a mask besides
    eight_bits = CachedGPT(model, len(ids), int8=True)
    greedy = {"temperature": 0.0}
    jobs = {
        "course_pkg": lambda new: generate(model, ids, new, **greedy),
        "course_pkg, bfloat16": lambda new: generate(half, ids, new, **greedy),
        "course_pkg, int8": lambda new: generate(eight_bits, ids, new, **greedy),
        "transformers, cache": lambda new: theirs.generate(
            ids, max_new_tokens=new, do_sample=False, attention_mask=torch.ones_like(ids)
        ),
        "LLMs-from-scratch, cache": lambda new: write_with_textbook_cache(cached, ids, new),
        "course_pkg, no cache": lambda new: generate(model, ids, new, **greedy, cache=False),
        "LLMs-from-scratch": lambda new: textbook.generate_text_simple(
            plain, ids, new, config.context_length
        ),
    }
    written = {name: write(8) for name, write in jobs.items()}
    for one, other in (
        ("course_pkg", "transformers, cache"),
        ("course_pkg", "course_pkg, no cache"),
        ("LLMs-from-scratch", "LLMs-from-scratch, cache"),
    ):
        if not torch.equal(written[one], written[other]):
            raise RuntimeError(f"{one} and {other} should write the same and do not")
    return jobs


@torch.no_grad()
def loss_of_int8() -> dict[str, float]:
    """Bits per byte of the trained story model on stories it has not seen, in either form."""
    model, tokenizer = load_pretrained("story-1m"), load_tokenizer("story-1m")
    _, validation = load_corpus("stories").split()
    ids = encode_documents(validation.documents, tokenizer)
    windows = TokenWindows(ids, model.config.context_length)
    reader = CachedGPT(model, batch_size=8, int8=True)
    totals = {"float32": 0.0, "int8": 0.0}
    count = 0
    for inputs, targets in epoch_batches(windows, 8, drop_last=True):
        reader.forget()
        totals["float32"] += cross_entropy(model(inputs), targets).item()
        totals["int8"] += cross_entropy(reader.read(inputs, every=True), targets).item()
        count += 1
    return {
        name: bits_per_byte(total / count, len(ids), validation.num_bytes)
        for name, total in totals.items()
    }


def measure(quick: bool = False) -> dict[str, Any]:
    """Tokens a second over the whole batch, for each size of model and of batch."""
    new, rounds = (100, 3) if quick else (200, 5)
    limit = common.limits()
    rows = []
    for size, config in list(SIZES.items())[: 2 if quick else 3]:
        for batch_size in (1, 8):
            torch.manual_seed(1)
            ids = torch.randint(config.vocab_size, (batch_size, PROMPT))
            jobs = {
                name: functools.partial(write, new) for name, write in writers(config, ids).items()
            }
            slow = {name: jobs.pop(name) for name in SLOW}
            seconds = common.take_turns(jobs, rounds)
            if size not in LARGE:
                seconds |= common.take_turns(slow, 1)
            for name, values in seconds.items():
                width = WIDTHS.get(name.partition(", ")[2], 4)
                rows.append(
                    {
                        "size": size,
                        "batch_size": batch_size,
                        "name": name,
                        "new_tokens": new,
                        "tokens_per_second": common.spread([len(ids) * new / s for s in values]),
                        "limit": batch_size
                        * limit["read_bytes"]
                        / read_bytes(config, batch_size, new, width),
                    }
                )
    return {"limits": limit, "rows": rows, "bits_per_byte": loss_of_int8()}


def show(results: dict[str, Any]) -> None:
    table = []
    ours: dict[tuple[str, int], float] = {}
    for row in results["rows"]:
        key, rate = (row["size"], row["batch_size"]), row["tokens_per_second"]
        ours.setdefault(key, rate["median"])
        table.append(
            [
                f"{row['size']}, batch {row['batch_size']}: {row['name']}",
                f"{rate['median']:,.0f}",
                f"{rate['least']:,.0f}",
                f"{rate['most']:,.0f}",
                f"{ours[key] / rate['median']:.2f}",
                f"{rate['median'] / row['limit']:.0%}",
            ]
        )
    columns = ["tokens a second", "median", "least", "most", "ours over it", "of the limit"]
    common.show("Generation", columns, table)
    bits = results["bits_per_byte"]
    print(f"bits per byte, story-1m: float32 {bits['float32']:.4f}, int8 {bits['int8']:.4f}")


if __name__ == "__main__":
    common.program(measure, show)()
