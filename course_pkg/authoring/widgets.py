"""Things to play with in the book's pages: their data, and how a chapter places them.

The scripts are in ``book/_static/widgets``, plain JavaScript that may be read. What they work on,
a model's weights and tokenizers, is in the package already, so it is exported when the book is
built and not committed. A page must also work when it is opened from a disk, where a browser lets
it fetch nothing: each data file is itself a script, which sets one entry of ``course.data``.
"""

import base64
import json
import os
from html import escape
from pathlib import Path
from shutil import copyfile
from typing import Any

import torch

from course_pkg.authoring import loss_grid
from course_pkg.files import atomic_write
from course_pkg.gpt import GPT
from course_pkg.tokenizer import BPETokenizer, gpt2_tokenizer, printable_token
from course_pkg.weights import load_pretrained, load_tokenizer

MODEL = "story-1m"
FOLDER = "widgets"  # below the static files of the book

# Kind of widget -> its scripts in the order in which a page loads them.
SCRIPTS = {
    "story": ("data.js", "data/index.js", "bpe.js", "gpt.js", "story.js"),
    "tokens": ("data.js", "data/index.js", "bpe.js", "tokens.js"),
    "attention": ("data.js", "data/index.js", "bpe.js", "gpt.js", "heads.js", "attention.js"),
    "sampling": ("data.js", "data/index.js", "bpe.js", "gpt.js", "sampling.js"),
    "loss": ("data.js", "data/index.js", "loss.js"),
}
STYLE = "widgets.css"


# In a chapter


class Widget:
    """What a cell shows: the widget in the book, the fallback elsewhere.

    The book's scripts find the element by its ``data-widget`` and build the widget in it. Without
    them (Jupyter, a code host, print) the fallback is what there is.

    Args:
        kind: ``"story"`` (a model writes), ``"tokens"`` (the merges of a text, one by one),
            ``"attention"`` (what a model's heads attend to), ``"sampling"`` (what the settings of
            a draw do to a model's probabilities) or ``"loss"`` (loss curves at many settings).
        text: what the widget starts with; of loss curves the learning rate, the steps of warm-up
            and the batch size, as in ``"0.005, 30, 16"``.
        fallback: plain text that says or shows the same in short.

    Raises:
        ValueError: ``kind`` is unknown.
    """

    def __init__(self, kind: str, text: str, fallback: str) -> None:
        if kind not in SCRIPTS:
            allowed = ", ".join(SCRIPTS)
            raise ValueError(f"kind={kind!r} is not allowed: it must be one of {allowed}.")
        self.kind, self.text, self.fallback = kind, text, fallback

    def __repr__(self) -> str:
        return self.fallback

    def _repr_html_(self) -> str:
        return (
            f'<div class="course-widget" data-widget="{self.kind}" data-text="{escape(self.text)}">'
            f"<pre>{escape(self.fallback)}</pre></div>"
        )


def kinds_in(page: str) -> list[str]:
    """The kinds of widgets that a page's HTML holds, in the order of ``SCRIPTS``."""
    marks = {kind: f'class="course-widget" data-widget="{kind}"' for kind in SCRIPTS}
    return [kind for kind, mark in marks.items() if mark in page]


def scripts_of(page: str) -> list[str]:
    """The scripts that a page's HTML needs, each once and in order; none without a widget."""
    return list(dict.fromkeys(name for kind in kinds_in(page) for name in SCRIPTS[kind]))


# The data


def model_data(model: GPT) -> dict[str, Any]:
    """A model as plain data: ``config``, ``tensors`` and ``weights``.

    ``tensors`` is name -> [shape, index of its first number]; ``weights`` is all numbers, float16
    with the low byte first, as base64. A tied output head is not repeated.

    Raises:
        ValueError: the model has the exact GELU, which the page's script does not compute, or a
            weight that is too large for float16.
    """
    if model.config.exact_gelu:
        raise ValueError("model has exact_gelu=True: the page computes GPT-2's form only.")
    tensors, parts, start = {}, [], 0
    for name, tensor in model.state_dict().items():
        if name == "output_head.weight" and model.config.tie_weights:
            continue
        half = tensor.detach().cpu().to(torch.float16)
        if not half.isfinite().all():
            raise ValueError(f"model: {name} has a value that is too large for float16.")
        tensors[name] = [list(tensor.shape), start]
        parts.append(half.contiguous().numpy().astype("<f2").tobytes())
        start += tensor.numel()
    weights = base64.b64encode(b"".join(parts)).decode("ascii")
    return {"config": model.config.to_dict(), "tensors": tensors, "weights": weights}


def tokenizer_data(tokenizer: BPETokenizer) -> dict[str, Any]:
    """A tokenizer as plain data for the page; tokens are written as ``BPETokenizer.save`` does.

    Raises:
        ValueError: the ids of the merges do not follow each other.
    """
    id_of = {token: i for i, token in tokenizer.vocab.items()}
    merge_ids = [id_of[left + right] for left, right in tokenizer.merges]
    first = merge_ids[0] if merge_ids else 256
    if merge_ids != list(range(first, first + len(merge_ids))):
        raise ValueError("tokenizer: the ids of its merges must follow each other.")
    return {
        "pattern": tokenizer.pattern,
        "special_tokens": tokenizer.special_tokens,
        "byte_ids": [id_of[bytes([byte])] for byte in range(256)],
        "first_merge_id": first,
        "merges": [
            f"{printable_token(left)} {printable_token(right)}" for left, right in tokenizer.merges
        ],
    }


def export(folder: str | os.PathLike[str], grid: str | os.PathLike[str] | None = None) -> list[str]:
    """Write the data files of all widgets into ``folder``, each whole or not at all.

    The same package gives the same bytes. GPT-2's vocabulary is not part of the package: its
    file is written where ``gpt2_tokenizer`` finds it, and the page says so where it is not.

    Args:
        folder: made if it is not there.
        grid: the file of the loss curves, the book's ``data/loss_grid.json``. Without it, or where
            it is not there, they are left out.

    Returns:
        The names of the data sets, which ``index.js`` lists too.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    folder = Path(folder)
    data = {
        MODEL: model_data(load_pretrained(MODEL)),
        f"{MODEL}-tokenizer": tokenizer_data(load_tokenizer(MODEL)),
    }
    try:
        data["gpt2-tokenizer"] = tokenizer_data(gpt2_tokenizer())
    except FileNotFoundError:
        (folder / "gpt2-tokenizer.js").unlink(missing_ok=True)
    if grid is not None and Path(grid).is_file():
        data["loss-grid"] = loss_grid.page_data(loss_grid.load(grid))
    sizes = {}
    for name, content in data.items():
        # Escaped to ASCII, the file does not depend on how the page's server labels it.
        text = f"course.data[{json.dumps(name)}] = {json.dumps(content, separators=(',', ':'))};\n"
        _write(folder / f"{name}.js", text)
        sizes[name] = len(text)
    _write(folder / "index.js", f"course.files = {json.dumps(sizes)};\n")
    return list(data)


def _write(path: Path, text: str) -> None:
    """Leave a file that is right already as it is: a copy of the book changes less."""
    if not (path.is_file() and path.read_text(encoding="utf-8") == text):
        with atomic_write(path) as file:
            file.write(text)


# Without the book


def write_demo(
    folder: str | os.PathLike[str], source: str | os.PathLike[str], widgets: list[Widget]
) -> Path:
    """A page of its own that holds the widgets, and all that it needs beside it.

    Args:
        folder: made if it is not there.
        source: the folder of the scripts, ``book/_static/widgets``.
        widgets: what the page shows.

    Returns:
        The page, ``index.html``.

    Raises:
        OSError: a script is missing, or the folder cannot be written.
    """
    folder, source = Path(folder), Path(source)
    export(folder / FOLDER / "data", source.parent.parent / "data" / "loss_grid.json")
    for path in (*source.glob("*.js"), source / STYLE):
        copyfile(path, folder / FOLDER / path.name)
    body = "\n".join(widget._repr_html_() for widget in widgets)
    scripts = "\n".join(f'<script src="{FOLDER}/{name}"></script>' for name in scripts_of(body))
    page = f"""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>To play with</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{FOLDER}/{STYLE}">
</head>
<body class="course-widget-page">
<main>
{body}
</main>
{scripts}
</body>
</html>
"""
    target = folder / "index.html"
    _write(target, page)
    return target
