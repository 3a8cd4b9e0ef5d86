"""Figures that read the same on paper, on a phone and in the dark.

A figure becomes an SVG that is the same text on every run: no date, no random ids, few digits.
Its background is transparent and its black follows the reader's light or dark theme.
"""

import contextlib
import hashlib
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape, unescape
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from course_pkg.errors import unknown_name

# Each has a contrast of at least 3:1 (WCAG 1.4.11) against white and against the dark theme.
COLORS = {
    "blue": "#3d7edb",
    "orange": "#cf6a17",
    "green": "#2c9160",
    "purple": "#9a63d3",
    "red": "#dd4f61",
    "teal": "#15889c",
    "grey": "#7d858f",
}
INK_ON_LIGHT, INK_ON_DARK = "#1f2328", "#e6edf3"

# From nothing to blue: the page shows through where a value is low, so it works on any page.
HEAT = LinearSegmentedColormap.from_list("heat", [(0.24, 0.49, 0.86, 0.0), (0.24, 0.49, 0.86, 0.8)])

# 5 inches are 480 CSS pixels. At a phone's 350 the 11-point letters are still 10.7 pixels high.
_STYLE: dict[str, Any] = {
    "figure.figsize": (5.0, 3.1),
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": "black",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=list(COLORS.values())),
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "font.family": "DejaVu Sans",  # it comes with matplotlib, so it is the same everywhere
    "font.size": 11,
    "grid.color": COLORS["grey"],
    "grid.linewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "legend.handlelength": 2.6,  # two dashes
    "lines.linewidth": 1.8,
    "savefig.facecolor": "none",
    "savefig.edgecolor": "none",
    "svg.fonttype": "path",
    "svg.hashsalt": "gpt-piece-by-piece",
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
}

_NUMBER = re.compile(r"-?\d+\.\d+(?:e-?\d+)?")


class Drawing:
    """An SVG that a notebook shows as an image, without any text beside it."""

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display({"image/svg+xml": self.svg}, raw=True)


def use_style() -> None:
    """Give the figures that follow the book's style."""
    plt.style.use(_STYLE)


def style() -> contextlib.AbstractContextManager[None]:
    """The book's style for the figures that are drawn inside."""
    return plt.style.context(_STYLE)


def svg(figure: Figure) -> str:
    """The figure as an SVG text: deterministic, transparent, its black the colour of the text.

    Raises:
        ValueError: it holds a bitmap (``imshow``, ``rasterized``), whose bytes differ between
            platforms; ``heatmap`` draws a matrix without one.
    """
    buffer = io.StringIO()
    with mpl.rc_context({key: _STYLE[key] for key in ("svg.fonttype", "svg.hashsalt")}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    if "<image" in text:
        raise ValueError("figure holds a bitmap: draw a matrix with figures.heatmap, not imshow.")
    text = text[text.index("<svg") :]
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"\s*<!--.*?-->", "", text, flags=re.DOTALL)
    text = text.replace("#000000", "currentColor")
    text = re.sub(r'\b(d|x|y|width|height|points)="[^"]*"', _round_numbers, text)
    text = re.sub(r"translate\([^)]*\)", _round_numbers, text)
    return _themed(_short_ids(text))


def _round_numbers(match: re.Match[str]) -> str:
    return _NUMBER.sub(_round, match[0])


def _round(match: re.Match[str]) -> str:
    """A coordinate with the digits that can be seen.

    The last bits of a float depend on the processor; the fewer digits, the fewer show it.
    """
    value = float(match[0])
    text = f"{value:.{1 if abs(value) >= 10 else 2}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _short_ids(text: str) -> str:
    """Ids numbered in order, with a prefix of the figure's own: pages may hold several figures."""
    names = dict.fromkeys(re.findall(r'\bid="([^"]+)"', text))
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", text)
    order = {name: str(i) for i, name in enumerate(name for name in names if name in used)}
    pattern = r'(\bid="|href="#|url\(#)([^")]+)'
    text = re.sub(pattern, lambda m: f"{m[1]}FIGURE-{order[m[2]]}", text)
    return text.replace("FIGURE", "f" + hashlib.sha256(text.encode()).hexdigest()[:8])


def _themed(text: str) -> str:
    """The SVG with its ink set by the reader's theme, also when it is shown as an image."""
    name = "f" + hashlib.sha256(text.encode()).hexdigest()[:8]
    style = (
        f"<style>.{name}{{color:{INK_ON_LIGHT}}}"
        f"@media(prefers-color-scheme:dark){{.{name}{{color:{INK_ON_DARK}}}}}</style>"
    )
    # matplotlib leaves black out where it is SVG's default, so the root must say otherwise.
    root, rest = text.split(">", 1)
    return f'{root} class="{name}" fill="currentColor">{style}{rest}'


def show(figure: Figure) -> None:
    """Show a figure in a notebook as SVG and close it."""
    drawing = Drawing(svg(figure))
    plt.close(figure)
    drawing._ipython_display_()


def heatmap(
    ax: Axes,
    values: Any,
    rows: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    *,
    vmin: float = 0.0,
    vmax: float | None = None,
    write: str | None = None,
) -> None:
    """Draw a matrix as coloured cells, its first row on top; NaN cells stay empty.

    ``values`` is (rows, columns), an array or a tensor. ``write`` is a format for the number in
    each cell, such as ``".2f"``; without it no numbers are written.

    Raises:
        ValueError: ``values`` has not two dimensions, or the labels are not as many as its sides.
    """
    matrix = np.asarray(values.detach() if hasattr(values, "detach") else values, dtype=float)
    if matrix.ndim != 2:
        raise ValueError(f"values has shape {matrix.shape}: a heatmap needs (rows, columns).")
    sides = zip(("rows", "columns"), (rows, columns), matrix.shape, strict=True)
    for argument, labels, size in sides:
        if labels is not None and len(labels) != size:
            raise ValueError(f"{argument} has {len(labels)} labels for {size} {argument}.")
    high = float(np.nanmax(matrix)) if vmax is None else vmax
    ax.pcolormesh(
        np.ma.masked_invalid(matrix),
        cmap=HEAT,
        vmin=vmin,
        vmax=high,
        edgecolor=COLORS["grey"],
        linewidth=0.4,
    )
    ax.set_aspect("equal")
    ax.invert_yaxis()
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    for spine in ax.spines.values():
        spine.set_visible(False)
    height, width = matrix.shape
    row_names = [str(name) for name in (range(height) if rows is None else rows)]
    column_names = [str(name) for name in (range(width) if columns is None else columns)]
    upright = all(len(name) <= 2 for name in column_names)
    ax.set_yticks(np.arange(height) + 0.5, row_names)
    ax.set_xticks(np.arange(width) + 0.5, column_names, rotation=0 if upright else 90)
    if write is not None:
        for (row, column), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                ax.text(
                    column + 0.5,
                    row + 0.5,
                    format(value, write),
                    ha="center",
                    va="center",
                    fontsize=9,
                )


# The course map: a box inside a box is a piece inside a piece.
# (label, left, top, width, height), in pixels
_MAP = {
    "tokenizer": ("Tokenizer", 10, 26, 320, 36),
    "embeddings": ("Embeddings", 26, 120, 288, 36),
    "causal_attention": ("Causal attention", 58, 236, 224, 36),
    "multi_head_attention": ("Multi-head attention", 42, 204, 256, 80),
    "transformer_block": ("Transformer blocks", 26, 172, 288, 124),
    "gpt": ("GPT", 10, 88, 320, 220),
    "training": ("Training", 10, 334, 320, 36),
}
PIECES = tuple(_MAP)
# Where a piece is explained. The map's links go through the parent folder, so that they lead to the
# same notebook from book/, exercises/ and solutions/.
_EXPLAINED = {
    "tokenizer": "01_tokenizer.ipynb",
    "embeddings": "01_tokenizer.ipynb#sec-ch1-embeddings",
    "causal_attention": "02_causal_attention.ipynb",
    "multi_head_attention": "03_multi_head_attention.ipynb",
    "transformer_block": "04_transformer.ipynb",
    "gpt": "05_gpt.ipynb",
    "training": "06_training.ipynb",
}
# From the first piece to the last; what holds a piece comes before it, so that no border is drawn
# over a lit piece, and the keyboard goes from outside to inside.
_READING = (
    "tokenizer",
    "gpt",
    "embeddings",
    "transformer_block",
    "multi_head_attention",
    "causal_attention",
    "training",
)
_ARROWS = ((170, 62, 88, "token ids"), (170, 156, 172, ""), (170, 308, 334, "logits"))
_LIT = "#2f6fce"  # white letters on it have a contrast of 4.9:1
_MAP_STYLE = (
    ".course-map a{text-decoration:none}"
    ".course-map a .name,.course-map a:hover text{text-decoration:underline}"
    ".course-map a:not(.lit):hover .edge{stroke:currentColor;stroke-width:2.5}"
    ".course-map a:focus{outline:none}"
    ".course-map .ring{stroke:none}"
    ".course-map a:focus-visible .ring{stroke:var(--pst-color-text-base,currentColor)}"
)
_MAP_ROOT = re.compile(r'<svg [^>]*class="course-map"[^>]*>')


class CourseMap(Drawing):
    """The map: in a page, where its links work, and as an image where a page shows images only."""

    def __init__(self, svg: str, page: str) -> None:
        super().__init__(svg)
        self.page = page

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display({"text/html": self.page, "image/svg+xml": self.svg}, raw=True)


def course_map(current: str | Iterable[str] | None = None) -> CourseMap:
    """The map of the pieces, each a link to its chapter, with the current one or ones lit.

    Raises:
        ValueError: ``current`` names a piece that is not in ``PIECES``.
    """
    lit = {current} if isinstance(current, str) else set(current or ())
    for name in sorted(lit - set(PIECES)):
        raise unknown_name("current", name, PIECES)
    text = '<text x="170" y="14" text-anchor="middle" font-style="italic">text</text>'
    arrows = "".join(_arrow(*arrow) for arrow in ((170, 18, 26, ""), *_ARROWS))
    boxes = {name: _box(*_MAP[name], lit=name in lit) for name in _READING}
    links = "".join(_link(name, box, lit=name in lit) for name, box in boxes.items())
    size = 'viewBox="0 0 340 372" width="340" height="372"'
    font = 'font-family="system-ui, sans-serif" font-size="15"'
    image = f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>'
    names = " and ".join(_MAP[name][0] for name in _READING if name in lit)
    label = (
        "Map of the course: text goes into the tokenizer, token ids go into the GPT, and its "
        "logits into training." + (f" Lit: {names}." if names else "")
    )
    # In a page the ink is the page's own, so that it follows a switch between light and dark.
    page = (
        f'<svg class="course-map" role="group" aria-label="{label}" {size} {font}'
        ' fill="currentColor" style="display:block;height:auto;margin:auto;max-width:100%;'
        'overflow:visible">'
        f"<style>{_MAP_STYLE}</style>{text}{links}{arrows}</svg>"
    )
    return CourseMap(_themed(f"{image}{text}{''.join(boxes.values())}{arrows}</svg>"), page)


def relink_map(
    html: str, address: Callable[[str, str], str], label: str | None = None
) -> str | None:
    """A page's HTML with the links and the label of its map changed; None without a map.

    Args:
        html: an output of a cell.
        address: gives the address of a notebook, such as ``"book/05_gpt"``, and an anchor in it,
            which may be empty.
        label: what a screen reader says of the whole; as it is unless given.
    """
    root = _MAP_ROOT.search(html)
    if root is None:
        return None
    if label is not None:
        said = re.sub(r'aria-label="[^"]*"', lambda _: f'aria-label="{escape(label)}"', root[0])
        html = html.replace(root[0], said, 1)
    return re.sub(
        r'href="\.\./([^"#]+)\.ipynb(?:#([^"]*))?"',
        lambda m: f'href="{escape(address(unescape(m[1]), unescape(m[2] or "")))}"',
        html,
    )


def _link(name: str, box: str, *, lit: bool) -> str:
    label, left, top, width, height = _MAP[name]
    page = _EXPLAINED[name]
    chapter = int(page[:2])
    color = ' fill="#ffffff"' if lit else ""
    number = (
        f'<text x="{left + width - 12}" y="{top + 23}" font-size="12" text-anchor="end"{color}>'
        f"ch. {chapter}</text>"
    )
    # The whole box is the link, and not its edge and letters alone.
    ring = (
        f'<rect class="ring" x="{left - 4}" y="{top - 4}" width="{width + 8}" height="{height + 8}"'
        ' rx="10" fill="none" stroke-width="2.5"/>'
    )
    current = ' class="lit" aria-current="true"' if lit else ""
    return (
        f'<a href="../book/{page}"{current}>'
        f"<title>{label}: chapter {chapter}</title>{box}{number}{ring}</a>"
    )


def _box(label: str, left: int, top: int, width: int, height: int, *, lit: bool) -> str:
    color, line = (_LIT, 3) if lit else (COLORS["grey"], 1.2)
    box = (
        f'<rect class="edge" x="{left}" y="{top}" width="{width}" height="{height}" rx="7"'
        f' fill="none" stroke="{color}" stroke-width="{line}" pointer-events="all"/>'
    )
    if not lit:
        return box + f'<text class="name" x="{left + 12}" y="{top + 23}">{label}</text>'
    # A lit piece differs by more than its colour: a filled, bold label.
    band = height if height <= 36 else 30
    pill = f'<rect x="{left}" y="{top}" width="{width}" height="{band}" rx="7" fill="{_LIT}"/>'
    text = (
        f'<text class="name" x="{left + 12}" y="{top + 23}" fill="#ffffff" font-weight="bold">'
        f"{label}</text>"
    )
    return box + pill + text


def _arrow(x: int, top: int, bottom: int, label: str) -> str:
    tip = bottom - 2
    line = (
        f'<path d="M{x} {top}V{tip}M{x - 5} {tip - 6}L{x} {tip}L{x + 5} {tip - 6}"'
        ' fill="none" stroke="currentColor" stroke-width="1.5"/>'
    )
    middle = (top + bottom) // 2 + 5
    text = f'<text x="{x + 14}" y="{middle}" font-size="13" font-style="italic">{label}</text>'
    return line + (text if label else "")


# A panel of the confusion matrix, in pixels.
_SIDE, _HEIGHT, _CELLS, _LEFT, _TOP = 240, 226, 190, 34, 30


def confusion_matrix(exercises: Iterable[Mapping[str, Any]]) -> Drawing:
    """Which diagnosis each wrong answer got, a panel for each chapter.

    ``exercises`` come from ``proof.json``: each has an ``id`` such as ``"03.split_heads"`` and
    ``confusion`` with the ``names`` of its N misconceptions and ``counts`` of shape (N, N + 3). A
    row is a wrong answer, a column a diagnosis; the last three columns are several diagnoses at
    once, none, and a pass. A square is blue where an answer is diagnosed as itself and red anywhere
    else; grey frames hold the misconceptions of one exercise, with the exercise's number.

    Raises:
        ValueError: the counts of an exercise are not (N, N + 3).
    """
    panels: dict[str, list[Mapping[str, Any]]] = {}
    for exercise in exercises:
        panels.setdefault(exercise["id"][:2], []).append(exercise)
    parts, right, total = [], 0, 0
    for number, (chapter, members) in enumerate(panels.items()):
        left, top = number % 2 * _SIDE, number // 2 * _HEIGHT
        body, diagonal, handed_in = _confusion_panel(int(chapter), members)
        parts.append(f'<g transform="translate({left} {top})">{body}</g>')
        right, total = right + diagonal, total + handed_in
    names = sum(len(e["confusion"]["names"]) for members in panels.values() for e in members)
    title = (
        f"{names} wrong answers (rows) by the diagnosis that they got (columns), a panel for each "
        f"chapter: {right} of {total} are on the diagonal."
    )
    height = (len(panels) + 1) // 2 * _HEIGHT
    return Drawing(
        _themed(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * _SIDE} {height}"'
            f' width="{2 * _SIDE}" height="{height}" role="img"'
            ' font-family="system-ui, sans-serif" font-size="11">'
            f"<title>{title}</title>{''.join(parts)}</svg>"
        )
    )


def _confusion_panel(chapter: int, members: Sequence[Mapping[str, Any]]) -> tuple[str, int, int]:
    """One chapter's squares, how many answers are on the diagonal, and how many there are."""
    sizes = [len(e["confusion"]["names"]) for e in members]
    rows = sum(sizes)
    side = round(_CELLS / (rows + 4), 2)  # a gap of one column, then the last three
    blue, red, frames = [], [], []
    first = right = total = 0
    lowest = 0.0  # where the last label stands
    for number, (exercise, size) in enumerate(zip(members, sizes, strict=True), start=1):
        counts = np.asarray(exercise["confusion"]["counts"])
        if counts.shape != (size, size + 3):
            raise ValueError(f"{exercise['id']} has counts of shape {counts.shape}.")
        for (row, column), count in np.ndenumerate(counts):
            total += int(count)
            if not count:
                continue
            place = first + column if column < size else rows + 1 + column - size
            square = _square(place, first + row, 1, side)
            if row == column:
                right += int(count)
                blue.append(square)
            else:
                red.append(square)
        frames.append(_square(first, first, size, side))
        lowest = max(lowest + 11, _TOP + (first + size / 2) * side + 4)
        label = f'<text x="{_LEFT - 5}" y="{lowest:.1f}" text-anchor="end">{chapter}.{number}'
        frames.append(label)
        first += size
    drawn = "".join(f for f in frames if f.startswith("M"))
    labels = "".join(f"{f}</text>" for f in frames if f.startswith("<"))
    edge = _square(0, 0, rows, side) + _square(rows + 1, 0, 3, side, rows)
    return (
        f'<text x="{_LEFT}" y="20" font-size="13" font-weight="bold">Chapter {chapter}: '
        f"{right} of {total}</text>"
        f'<path d="{edge}" fill="none" stroke="{COLORS["grey"]}" stroke-width="0.5"/>'
        f'<path d="{drawn}" fill="none" stroke="{COLORS["grey"]}"/>'
        f'<path d="{"".join(blue)}" fill="{COLORS["blue"]}"/>'
        f'<path d="{"".join(red)}" fill="{COLORS["red"]}"/>{labels}',
        right,
        total,
    )


def _square(column: int, row: int, size: int, side: float, high: int | None = None) -> str:
    """A path around ``size`` columns and ``high`` rows, or as many rows as columns."""
    left, top = _LEFT + column * side, _TOP + row * side
    width, height = size * side, (size if high is None else high) * side
    return f"M{left:.1f} {top:.1f}h{width:.1f}v{height:.1f}h-{width:.1f}z"
