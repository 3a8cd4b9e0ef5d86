"""The rows and the figure of what ``make bench`` measured."""

import pytest

from course_pkg.authoring import figures, performance

RESULTS = {
    "imports": {"seconds": {}},
    "training": {
        "cases": {
            "small": {
                "ours": {"ours": {"seconds": 2.0}, "ours, bfloat16": {"seconds": 1.0}},
                "peers": {"nanoGPT": {"seconds": 3.0}, "LLMs-from-scratch": {"seconds": 4.0}},
            }
        }
    },
    "generation": {
        "rows": [
            {"size": "s", "batch_size": b, "name": name, "tokens_per_second": {"median": rate}}
            for b in (1, 8)
            for name, rate in (
                ("course_pkg", 50.0 * b),
                ("course_pkg, int8", 90.0),
                ("transformers, cache", 25.0),
            )
        ]
    },
    "bpe": {
        "training": [
            {
                "text": "docstrings",
                "megabytes": 1.0,
                "vocab_size": 1024,
                "clock": clock,
                "ratios": {"tokenizers": {"median": ratio}},
            }
            for clock, ratio in (("cpu", 0.5), ("wall", 0.2))
        ],
        "encoding": [
            {
                "text": "shakespeare",
                "vocabulary": "GPT-2",
                "cache": "warm",
                "ratios": {"tiktoken": {"median": 2.0}, "tokenizers": {"median": 0.25}},
            }
        ],
        "bulk": [
            {
                "megabytes": 10.0,
                "workers": 2,
                "clock": clock,
                "ratios": {"tiktoken": {"median": 0.8}},
            }
            for clock in ("cpu", "wall")
        ],
    },
}


def test_a_ratio_above_one_means_that_ours_is_faster():
    found = {(row.part, row.work, row.peer): row.ratio for row in performance.rows(RESULTS)}
    assert found == {
        ("training", "small", "nanoGPT"): 1.5,
        ("training", "small", "LLMs-from-scratch"): 2.0,
        ("training", "small, ours in bfloat16", "LLMs-from-scratch"): 4.0,
        ("generation", "s, batch 1", "transformers, cache"): 2.0,
        ("generation", "s, batch 8", "transformers, cache"): 16.0,
        ("bpe", "train, docstrings, 1 MB, 1024 tokens", "tokenizers"): 2.0,
        ("bpe", "train, docstrings, 1 MB, 1024 tokens, all cores, elapsed", "tokenizers"): 5.0,
        ("bpe", "encode, shakespeare, GPT-2, warm", "tiktoken"): 0.5,
        ("bpe", "encode, shakespeare, GPT-2, warm", "tokenizers"): 4.0,
        ("bpe", "encode a file, 10 MB, 2 processes, elapsed", "tiktoken"): 1.25,
    }


def test_a_part_that_was_not_measured_is_left_out():
    some = {name: RESULTS[name] for name in ("imports", "bpe")}
    assert {row.part for row in performance.rows(some)} == {"bpe"}


@pytest.mark.parametrize("parts", [["bpe"], ["training", "generation", "bpe"]])
def test_the_figure_has_a_panel_for_each_part_and_is_the_same_each_time(parts):
    some = {name: RESULTS[name] for name in parts}
    with figures.style():
        figure = performance.plot(some)
    names = {"bpe": "the tokenizer", "generation": "writing"}
    assert [ax.get_title(loc="left") for ax in figure.axes] == [names.get(p, p) for p in parts]
    for ax in figure.axes:
        dots = [line for line in ax.lines if line.get_marker() == "o"]
        assert len(dots) == len(ax.get_yticks())
    text = performance.svg(some)
    assert text.startswith("<svg") and text == performance.svg(some)
