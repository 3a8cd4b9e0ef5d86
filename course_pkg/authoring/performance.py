"""What ``make bench`` measured, as rows that compare and as a figure."""

import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from course_pkg.authoring import figures

_TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)


@dataclass(frozen=True)
class Row:
    """A comparison: how many times as fast as a peer ours is, on the same work in the same run.

    Attributes:
        part: ``training``, ``generation`` or ``bpe``.
        work: what both did.
        peer: the other library.
        ratio: above 1 ours is faster.
    """

    part: str
    work: str
    peer: str
    ratio: float


def rows(results: Mapping[str, Any]) -> list[Row]:
    """All comparisons of a results file, in its order; parts that are not in it are left out."""
    makers = {"training": _training, "generation": _generation, "bpe": _bpe}
    return [
        Row(part, work, peer, ratio)
        for part, make in makers.items()
        if part in results
        for work, peer, ratio in make(results[part])
    ]


def _training(results: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    for name, case in results["cases"].items():
        for peer, row in case["peers"].items():
            yield name, peer, row["seconds"] / case["ours"]["ours"]["seconds"]
        if "ours, bfloat16" in case["ours"]:
            peer = "LLMs-from-scratch"
            ratio = case["peers"][peer]["seconds"] / case["ours"]["ours, bfloat16"]["seconds"]
            yield f"{name}, ours in bfloat16", peer, ratio


def _generation(results: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    ours: dict[tuple[str, int], float] = {}
    for row in results["rows"]:
        key, rate = (row["size"], row["batch_size"]), row["tokens_per_second"]["median"]
        if row["name"] == "course_pkg":
            ours[key] = rate
        elif not row["name"].startswith("course_pkg"):
            yield f"{row['size']}, batch {row['batch_size']}", row["name"], ours[key] / rate


def _bpe(results: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    for row in results["training"]:
        work = f"train, {row['text']}, {row['megabytes']:.0f} MB, {row['vocab_size']} tokens"
        if row["clock"] == "wall":
            work += ", all cores, elapsed"
        yield work, "tokenizers", 1 / row["ratios"]["tokenizers"]["median"]
    for row in results["encoding"]:
        for peer, ratio in row["ratios"].items():
            work = f"encode, {row['text']}, {row['vocabulary']}, {row['cache']}"
            yield work, peer, 1 / ratio["median"]
    for row in results["bulk"]:
        if row["clock"] == "wall":
            processes = "1 process" if row["workers"] == 1 else f"{row['workers']} processes"
            work = f"encode a file, {row['megabytes']:.0f} MB, {processes}, elapsed"
            yield work, "tiktoken", 1 / row["ratios"]["tiktoken"]["median"]


def plot(results: Mapping[str, Any]) -> Figure:
    """A dot for each comparison, by part and peer, on a logarithmic axis around 1."""
    parts: dict[str, dict[str, list[float]]] = {}
    for row in rows(results):
        parts.setdefault(row.part, {}).setdefault(row.peer, []).append(row.ratio)
    heights = [len(peers) + 1 for peers in parts.values()]
    fig, axes = plt.subplots(
        len(parts),
        1,
        figsize=(5.0, 0.32 * sum(heights) + 0.6),
        height_ratios=heights,
        sharex=True,
        squeeze=False,
    )
    for ax, (part, peers) in zip(axes[:, 0], parts.items(), strict=True):
        names = sorted(peers, key=lambda peer: statistics.median(peers[peer]))
        for place, name in enumerate(names):
            places = [place] * len(peers[name])
            ax.plot(peers[name], places, "o", color=figures.COLORS["blue"], alpha=0.7)
        ax.axvline(1, color=figures.COLORS["grey"], linewidth=1)
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(-0.6, len(names) - 0.4)
        ax.set_title({"bpe": "the tokenizer", "generation": "writing"}.get(part, part))
    every = [1.0, *(row.ratio for row in rows(results))]
    ticks = [x for x in _TICKS if min(every) / 1.5 < x < max(every) * 1.5]
    axes[-1, 0].set_xscale("log")
    axes[-1, 0].set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes[-1, 0].minorticks_off()
    axes[-1, 0].set_xlabel("ours is so many times as fast")
    return fig


def svg(results: Mapping[str, Any]) -> str:
    """``plot`` as the text of a file."""
    with figures.style():
        figure = plot(results)
        text = figures.svg(figure)
    plt.close(figure)
    return text
