"""BPE training and encoding beside HuggingFace tokenizers and tiktoken, in CPU seconds.

The alternatives take turns, so that a machine that changes its speed changes it for all of them,
and a ratio is that of two neighbours in time. A ratio below 1 means that ours is faster.

No network is needed: the texts are Shakespeare (see ``load_corpus``) and two that are made of what
is installed, the docstrings ("docstrings", prose in a few words) and all of the source files
("sources", varied) of the standard library and of the packages, in an order that only depends on
their paths. So they are the same wherever the same versions are installed.
"""

import ast
import hashlib
import importlib.metadata
import itertools
import json
import math
import os
import statistics
import sys
import sysconfig
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import tiktoken
import tokenizers

from course_pkg import BPETokenizer, gpt2_tokenizer
from course_pkg.files import atomic_write
from course_pkg.tokenizer import (
    GPT2_SPLIT_PATTERN,
    _compile_pattern,
    _count_pieces,
    _learn_merges,
    printable_token,
)
from course_pkg.workers import usable_cores

SOURCES = ("*.py", "*.md", "*.rst", "*.txt")


# Texts


def installed_files() -> Iterator[Path]:
    """The text files that are installed, in an order that looks random and is always the same."""
    names = ("stdlib", "purelib")
    found = {}
    for folder in (Path(sysconfig.get_paths()[name]) for name in names):
        for path in itertools.chain.from_iterable(map(folder.rglob, SOURCES)):
            inside = path.relative_to(folder).as_posix()
            if "site-packages" not in inside and path.is_file():
                found[hashlib.sha256(inside.encode()).digest()] = path
    for _, path in sorted(found.items()):
        yield path


def docstrings(source: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = ast.walk(ast.parse(source))
    except (SyntaxError, ValueError, RecursionError):
        return ""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    found = (ast.get_docstring(node) for node in nodes if isinstance(node, documented))
    return "".join(f"{text}\n\n" for text in found if text)


@cache
def make_text(kind: str, num_bytes: int) -> str:
    """The first ``num_bytes`` bytes of a kind of text, or all there is when that is less."""
    parts, size = [], 0
    for path in installed_files():
        if kind == "docstrings" and path.suffix != ".py":
            continue
        try:
            content = path.read_text(encoding="utf-8")
            text = docstrings(content) if kind == "docstrings" else content
            size += len(text.encode())
        except UnicodeError:
            continue
        parts.append(text)
        if size >= num_bytes:
            break
    return "".join(parts).encode()[:num_bytes].decode(errors="ignore")


# Measuring


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU seconds of this process with all its threads, and of the processes it waited for."""
    start, children = time.process_time(), sum(os.times()[2:4])
    work()
    return time.process_time() - start + sum(os.times()[2:4]) - children


def wall_seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(
    jobs: dict[str, Callable[[], object]], rounds: int, clock: Callable[..., float] = cpu_seconds
) -> dict[str, Any]:
    """The seconds of each job in each round, and how the first compares with each other one."""
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, work in jobs.items():
            seconds[name].append(clock(work))
    ours, *peers = jobs
    ratios = {}
    for peer in peers:
        each = [a / b for a, b in zip(seconds[ours], seconds[peer], strict=True)]
        ratios[peer] = {
            "median": round(statistics.median(each), 3),
            "least": round(min(each), 3),
            "most": round(max(each), 3),
        }
    rounded = {name: [round(value, 4) for value in values] for name, values in seconds.items()}
    return {"seconds": rounded, "ratios": ratios}


# Training


def train_theirs(lines: list[str], vocab_size: int) -> tokenizers.Tokenizer:
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    theirs.train_from_iterator(lines, trainer)
    return theirs


def piece_counts(text: str) -> Counter[str]:
    return _count_pieces([text], [], _compile_pattern(GPT2_SPLIT_PATTERN), 1)


def measure_training(
    kinds: list[str], sizes: list[int], vocab_sizes: list[int], rounds: int, workers: int
) -> list[dict[str, Any]]:
    """Ours, on a text as one string, beside tokenizers', fed with lines: its faster way.

    Several processes are started for texts from 10 MB on: a smaller one is learned sooner than
    they are ready.
    """
    rows = []
    for kind, size in itertools.product(kinds, sizes):
        text = make_text(kind, size * 10**6)
        lines = text.splitlines(keepends=True)
        pieces = piece_counts(text)
        about = {
            "text": kind,
            "megabytes": len(text.encode()) / 1e6,
            "pieces": pieces.total(),
            "distinct_pieces": len(pieces),
        }
        for vocab_size in vocab_sizes:
            ours = partial(BPETokenizer.train, text, vocab_size)
            theirs = partial(train_theirs, lines, vocab_size)
            row = about | {"vocab_size": vocab_size, "clock": "cpu"}
            rows.append(row | compare({"course_pkg": ours, "tokenizers": theirs}, rounds))
        if workers > 1 and size >= 10:
            shared = partial(BPETokenizer.train_from_iterator, [text], vocab_size, workers=workers)
            jobs = {
                f"course_pkg, {workers} workers": shared,
                "course_pkg": ours,
                "tokenizers": theirs,
            }
            row = about | {"vocab_size": vocab_size, "clock": "wall"}
            rows.append(row | compare(jobs, rounds, wall_seconds))
    return rows


def measure_growth(kinds: list[str], sizes: list[int], rounds: int) -> list[dict[str, Any]]:
    """The slope of log(seconds of learning merges) over log(distinct pieces): predicted is 1.

    What training does before, counting pieces, goes with the length of the text.
    """
    rows = []
    for kind in kinds:
        counted = [piece_counts(make_text(kind, size * 10**6)) for size in sizes]
        jobs = {
            str(len(pieces)): partial(_learn_merges, pieces, 4096 - 256, None) for pieces in counted
        }
        seconds = [statistics.median(v) for v in compare(jobs, rounds)["seconds"].values()]
        distinct = [len(pieces) for pieces in counted]
        line = statistics.linear_regression(
            list(map(math.log, distinct)), list(map(math.log, seconds))
        )
        rows.append(
            {
                "text": kind,
                "distinct_pieces": distinct,
                "seconds": seconds,
                "exponent": round(line.slope, 2),
                "predicted": 1,
            }
        )
    return rows


# Encoding


def as_huggingface(tokenizer: BPETokenizer) -> tokenizers.Tokenizer:
    vocab = {printable_token(token): i for i, token in tokenizer.vocab.items()}
    merges = [(printable_token(left), printable_token(right)) for left, right in tokenizer.merges]
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocab, merges=merges))
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    return theirs


def encode_with_next(copies: Iterator[BPETokenizer], text: str) -> list[int]:
    return next(copies).encode_ordinary(text)


def measure_encoding(texts: dict[str, str], rounds: int) -> list[dict[str, Any]]:
    """Warm: the cache knows the text. Cold: a new tokenizer, whose making is not in the time."""
    rows = []
    for kind, text in texts.items():
        trained = BPETokenizer.train(text, 4096)
        for name, ours in (("4096, trained on it", trained), ("GPT-2", gpt2_tokenizer())):
            tiktokens, huggingfaces = ours.to_tiktoken(), as_huggingface(ours)
            expected = tiktokens.encode_ordinary(text)
            assert ours.encode_ordinary(text) == expected
            assert huggingfaces.encode(text).ids == expected
            peers = {
                "tiktoken": partial(tiktokens.encode_ordinary, text),
                "tokenizers": partial(huggingfaces.encode, text),
            }
            parts = (ours.vocab, ours.merges, ours.special_tokens)
            copies = iter([BPETokenizer(*parts) for _ in range(rounds)])
            warm = {"course_pkg": partial(ours.encode_ordinary, text)}
            cold = {"course_pkg": partial(encode_with_next, copies, text)}
            row = {"text": kind, "megabytes": len(text.encode()) / 1e6, "vocabulary": name}
            rows.append(row | {"cache": "warm"} | compare(warm | peers, rounds))
            rows.append(row | {"cache": "cold"} | compare(cold | peers, rounds))
    return rows


def measure_making(rounds: int) -> dict[str, Any]:
    """What it takes until GPT-2's tokenizer can encode, its files read already."""
    ours = gpt2_tokenizer()
    jobs = {
        "course_pkg": partial(BPETokenizer, ours.vocab, ours.merges, ours.special_tokens),
        "tiktoken": ours.to_tiktoken,
        "tokenizers": partial(as_huggingface, ours),
    }
    return compare(jobs, rounds)


def encode_batches(theirs: tiktoken.Encoding, parts: list[str], threads: int) -> None:
    for start in range(0, len(parts), 4 * threads):
        theirs.encode_ordinary_batch(parts[start : start + 4 * threads], num_threads=threads)


def measure_bulk(size: int, rounds: int, workers: list[int]) -> list[dict[str, Any]]:
    """From a text file to a token file, beside tiktoken on the text in memory, writing nothing.

    tiktoken gets the text in pieces of a million characters, on as many threads as we have
    processes. Where there are not enough docstrings, they come again.
    """
    # Not above: each worker runs this file's imports, and this one brings PyTorch.
    from course_pkg import encode_file

    ours = gpt2_tokenizer()
    theirs = ours.to_tiktoken()
    text = make_text("docstrings", size * 10**6).replace("\r\n", "\n")
    # A line end or the cut at the end may have cost a few bytes of a text that is long enough.
    text *= math.ceil(0.99 * size * 10**6 / len(text.encode()))
    parts = [text[start : start + 10**6] for start in range(0, len(text), 10**6)]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder, "text.txt"), Path(folder, "ids.bin")
        path.write_bytes(text.encode())
        for number in workers:
            jobs = {
                "course_pkg": partial(encode_file, path, out, ours, workers=number),
                "tiktoken": partial(encode_batches, theirs, parts, number),
            }
            row = {"megabytes": path.stat().st_size / 1e6, "workers": number}
            for name, clock in (("cpu", cpu_seconds), ("wall", wall_seconds)):
                rows.append(row | {"clock": name} | compare(jobs, rounds, clock))
        # A header, and two bytes for each id and for the end of the one document.
        predicted = 256 + 2 * (len(theirs.encode_ordinary("".join(parts))) + 1)
        rows[0]["file_bytes"] = {"predicted": predicted, "measured": out.stat().st_size}
    return rows


def measure(quick: bool, megabytes: int | None = None) -> dict[str, Any]:
    """All measurements, as what JSON can hold.

    Args:
        quick: small texts and few rounds, two minutes; otherwise a quarter of an hour or more.
        megabytes: the largest text to train on and to encode; 1 if quick, else 100. Of
            docstrings there are about 50 MB in an environment of ``make test``. Above 10 MB
            training is measured in two rounds, with one size of vocabulary.
    """
    from course_pkg import load_corpus

    largest = megabytes or (1 if quick else 100)
    sizes = sorted({size for size in (1, 10, 100) if size <= largest} | {largest})
    kinds = ["docstrings", "sources"]
    rounds = 3 if quick else 5
    vocab_sizes = [1024, 4096] if quick else [1024, 4096, 32768]
    small, large = ([size for size in sizes if (size > 10) == above] for above in (False, True))
    cores = usable_cores()
    texts = {"shakespeare": "".join(load_corpus("shakespeare").documents)}
    if not quick:
        texts |= {kind: make_text(kind, 3 * 10**6) for kind in kinds}
    libraries = ("regex", "tiktoken", "tokenizers")
    return {
        "python": sys.version.split()[0],
        "cores": cores,
        "versions": {name: importlib.metadata.version(name) for name in libraries},
        "training": [
            *measure_training(kinds, small, vocab_sizes, rounds, cores),
            *measure_training(kinds, large, [4096], 2, cores),
        ],
        "growth": measure_growth(kinds, [1, 2, 4] if quick else sizes, 3),
        "encoding": measure_encoding(texts, rounds),
        "making_gpt2": measure_making(rounds),
        "bulk": measure_bulk(max(10, largest), rounds, sorted({1, cores})),
    }


# Showing


def show_row(what: str, row: dict[str, Any]) -> None:
    click.echo(what)
    for name, values in row["seconds"].items():
        median = statistics.median(values)
        speed = f"{row['megabytes'] / median:8.1f} MB/s" if "megabytes" in row else ""
        ratio = ""
        if name in row["ratios"]:
            r = row["ratios"][name]
            ratio = f"  ours / this: {r['median']:.2f} ({r['least']:.2f} to {r['most']:.2f})"
        click.echo(f"    {name:<24} {median:9.3f} s {speed}{ratio}")


def show(results: dict[str, Any]) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    click.echo(f"Python {results['python']}, {versions}, {results['cores']} cores")
    for row in results["training"]:
        text = f"{row['text']}, {row['megabytes']:.1f} MB, vocabulary {row['vocab_size']}"
        pieces = f"{row['distinct_pieces']:,} distinct pieces"
        show_row(f"train ({row['clock']}): {text}, {pieces}", row)
    for row in results["growth"]:
        power = f"distinct pieces to the power of {row['exponent']}"
        click.echo(f"learning merges, {row['text']}: {power}, predicted {row['predicted']}")
    for row in results["encoding"]:
        show_row(f"encode (cpu), {row['cache']}: {row['text']}, {row['vocabulary']}", row)
    show_row("make GPT-2's tokenizer (cpu)", results["making_gpt2"])
    for row in results["bulk"]:
        text = f"{row['megabytes']:.1f} MB, {row['workers']} workers"
        show_row(f"encode a file ({row['clock']}): {text}", row)
        if "file_bytes" in row:
            file = row["file_bytes"]
            click.echo(f"    file: {file['measured']:,} bytes, predicted {file['predicted']:,}")


@click.command()
@click.option("--quick", is_flag=True, help="Small texts and few rounds.")
@click.option("--megabytes", type=click.IntRange(min=1), help="The largest text.")
@click.option("--out", metavar="FILE.json", help="Also write the results there.")
def main(quick: bool, megabytes: int | None, out: str | None) -> None:
    results = measure(quick, megabytes)
    show(results)
    if out is not None:
        with atomic_write(out) as file:
            json.dump(results, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
