"""A run's curves over the band of healthy runs, as SVG and as letters.

The SVG is written by hand, as the course map is: it needs no plotting library, has no dates or
random ids, and takes its ink from the page that holds it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

# Of the course's figures (course_pkg/authoring/figures.py): 3:1 on light and on dark pages.
RUN, VALIDATION, SIGN, BAND = "#3d7edb", "#cf6a17", "#dd4f61", "#7d858f"
_INK_ON_LIGHT, _INK_ON_DARK = "#1f2328", "#e6edf3"

_WIDTH, _LEFT, _RIGHT = 480, 56, 12
_TOP, _PANEL, _BOTTOM, _GAP = 46, 190, 44, 40
_MOST_POINTS = 160

Number = int | float
Points = tuple[Sequence[Number], Sequence[Number]]


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        label: of the vertical axis.
        line: the run's curve, (steps, values).
        dots: the run's second curve, or None; in the first panel, the validation loss.
        band: (steps, lowest, highest) of the healthy runs, or None.
        levels: horizontal lines to compare with, by name.
        sign: the steps, first and last, between which the sign is seen, or None.
        logarithmic: whether the vertical axis is.
    """

    label: str
    line: Points
    dots: Points | None = None
    band: tuple[Sequence[Number], Sequence[Number], Sequence[Number]] | None = None
    levels: tuple[tuple[str, Number], ...] = ()
    sign: tuple[Number, Number] | None = None
    logarithmic: bool = False


class _Axes:
    """Where the values of a panel are on the page."""

    def __init__(self, panel: Panel, top: Number, last_step: Number) -> None:
        self.panel, self.top, self.last_step = panel, top, max(last_step, 1)
        values = [*panel.line[1], *(panel.dots[1] if panel.dots else ())]
        values += [value for _, value in panel.levels]
        if panel.band is not None:
            inside = np.asarray(panel.band[0]) <= last_step
            for edge in panel.band[1:]:
                values += list(np.asarray(edge)[inside])
        finite = [v for v in values if math.isfinite(v) and (v > 0 or not panel.logarithmic)]
        low, high = (min(finite), max(finite)) if finite else (0.1, 1.0)
        if panel.logarithmic:
            self.low, self.high = math.log10(low) - 0.1, math.log10(high) + 0.1
        else:
            self.low, self.high = 0.0, 1.12 * high if high > 0 else 1.0

    def x(self, step: Number) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * min(step, self.last_step) / self.last_step

    def y(self, value: Number) -> float:
        if self.panel.logarithmic:
            value = math.log10(value) if value > 0 else self.low
        share = (value - self.low) / (self.high - self.low)
        return self.top + _PANEL * (1 - min(max(share, 0.0), 1.0))

    def points(self, xs: Sequence[Number], ys: Sequence[Number]) -> str:
        pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if math.isfinite(y)]
        stride = max(1, len(pairs) // _MOST_POINTS)
        kept = pairs[::stride] + pairs[-1:]
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in kept)

    def ticks(self) -> list[Number]:
        if self.panel.logarithmic:
            powers = range(math.ceil(self.low), math.floor(self.high) + 1)
            marks = [float(10**p) for p in powers]
            return marks if len(marks) > 1 else _nice(10**self.low, 10**self.high)
        return _nice(self.low, self.high)


def _nice(low: Number, high: Number, most: int = 6) -> list[Number]:
    """Round numbers between two values, evenly spaced."""
    rough = (high - low) / most
    unit = 10.0 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= rough)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def svg(panels: Sequence[Panel], title: str, alt: str, *, inline: bool = False) -> str:
    """The panels below each other, with a common axis of steps.

    ``inline`` is for a page that holds the SVG itself and lends its colour of text. Otherwise the
    SVG is a file of its own, which asks the reader's system whether it is dark.
    """
    height = _TOP + len(panels) * _PANEL + (len(panels) - 1) * _GAP + _BOTTOM
    drawn = [step for panel in panels for step in panel.line[0]]
    drawn += [step for panel in panels if panel.dots for step in panel.dots[0]]
    last_step = max(drawn, default=1.0)
    parts = [_text(_LEFT, 16, title, weight="bold")]
    for i, panel in enumerate(panels):
        axes = _Axes(panel, _TOP + i * (_PANEL + _GAP), last_step)
        parts += _panel(axes, is_last=i == len(panels) - 1)
    # A page knows what an <svg> is; a file has to say so.
    kind = "" if inline else ' xmlns="http://www.w3.org/2000/svg" class="curve"'
    style = (
        ""
        if inline
        else f"<style>.curve{{color:{_INK_ON_LIGHT}}}"
        f"@media(prefers-color-scheme:dark){{.curve{{color:{_INK_ON_DARK}}}}}</style>"
    )
    return (
        f'<svg{kind} viewBox="0 0 {_WIDTH} {height}"'
        f' width="{_WIDTH}" style="max-width:100%;height:auto" role="img"'
        f' aria-label="{escape(alt)}" font-family="system-ui, sans-serif" font-size="13"'
        f' fill="currentColor">{style}<title>{escape(alt)}</title>{"".join(parts)}</svg>\n'
    )


def _panel(axes: _Axes, *, is_last: bool) -> list[str]:
    panel, bottom = axes.panel, axes.top + _PANEL
    right = _WIDTH - _RIGHT
    parts = []
    if panel.sign is not None:
        parts += _sign(axes, *panel.sign)
    if panel.band is not None:
        steps, low, high = (np.asarray(values, dtype=float) for values in panel.band)
        inside = steps <= axes.last_step
        there = axes.points(steps[inside].tolist(), high[inside].tolist())
        back = axes.points(steps[inside].tolist(), low[inside].tolist())
        around = " ".join([there, *reversed(back.split())])
        parts.append(
            f'<polygon points="{around}" fill="{BAND}" fill-opacity="0.45" stroke="{BAND}"/>'
        )
    for name, value in panel.levels:
        y = axes.y(value)
        parts.append(
            f'<path d="M{_LEFT} {y:.1f}H{right}" stroke="{BAND}" stroke-dasharray="2 3"/>'
            + _text(right, y - 4, name, anchor="end", size=11)
        )
    parts.append(_line(axes.points(*panel.line), RUN))
    if panel.dots is not None:
        parts.append(_line(axes.points(*panel.dots), VALIDATION, dashes="5 3"))
        for point in axes.points(*panel.dots).split():
            left, height = point.split(",")
            parts.append(f'<circle cx="{left}" cy="{height}" r="3" fill="{VALIDATION}"/>')
    parts.append(
        f'<path d="M{_LEFT} {axes.top}V{bottom}H{right}" fill="none" stroke="currentColor"/>'
    )
    for tick in axes.ticks():
        y = axes.y(tick)
        parts.append(f'<path d="M{_LEFT - 4} {y:.1f}H{_LEFT}" stroke="currentColor"/>')
        parts.append(_text(_LEFT - 7, y + 4, f"{tick:.4g}", anchor="end", size=12))
    for tick in _nice(0, axes.last_step):
        x = axes.x(tick)
        parts.append(f'<path d="M{x:.1f} {bottom}v4" stroke="currentColor"/>')
        if is_last:
            parts.append(_text(x, bottom + 17, f"{tick:g}", anchor="middle", size=12))
    middle = axes.top + _PANEL / 2
    parts.append(
        f'<text transform="translate(13 {middle:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(panel.label)}</text>"
    )
    if is_last:
        parts.append(_text((_LEFT + right) / 2, bottom + 36, "step", anchor="middle"))
    return parts + _legend(axes)


def _sign(axes: _Axes, first: Number, last: Number) -> list[str]:
    left, right = axes.x(first), axes.x(last)
    if right - left < 10:  # a few steps at the start must still be seen
        left = max(_LEFT, min(left, _WIDTH - _RIGHT - 10))
        right = left + 10
    bottom = axes.top + _PANEL
    return [
        f'<rect x="{left:.1f}" y="{axes.top}" width="{right - left:.1f}" height="{_PANEL}"'
        f' fill="{SIGN}" fill-opacity="0.16"/>',
        f'<path d="M{left:.1f} {axes.top}V{bottom}M{right:.1f} {axes.top}V{bottom}"'
        f' stroke="{SIGN}" stroke-dasharray="4 3"/>',
    ]


def _legend(axes: _Axes) -> list[str]:
    """In a row above the axes, where no curve is."""
    panel = axes.panel
    entries = [("this run", _swatch_line(RUN))]
    if panel.dots is not None:
        entries = [
            ("training", _swatch_line(RUN)),
            ("validation", _swatch_line(VALIDATION, "5 3")),
        ]
    if panel.band is not None:
        entries.append(("healthy runs", f'<rect width="22" height="9" y="-9" fill="{BAND}"/>'))
    if panel.sign is not None:
        box = f'width="22" height="10" y="-10" fill="{SIGN}" fill-opacity="0.16" stroke="{SIGN}"'
        entries.append(("the sign", f'<rect {box} stroke-dasharray="4 3"/>'))
    parts = []
    x: Number = _LEFT
    y = axes.top - 9
    for name, swatch in entries:
        parts.append(f'<g transform="translate({x:g} {y:g})">{swatch}</g>')
        parts.append(_text(x + 27, y, name, size=12))
        x += 36 + 6.5 * len(name)
    return parts


def _swatch_line(color: str, dashes: str = "") -> str:
    extra = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path d="M0 -4H22" stroke="{color}" stroke-width="2"{extra}/>'


def _line(points: str, color: str, dashes: str = "") -> str:
    extra = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="2"{extra}/>'


def _text(
    x: Number, y: Number, text: str, anchor: str = "start", size: int = 13, weight: str = "normal"
) -> str:
    bold = f' font-weight="{weight}"' if weight != "normal" else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{bold}>'
        f"{escape(text)}</text>"
    )


def letters(panel: Panel, width: int = 64, height: int = 14) -> str:
    """A panel for a terminal: ``*`` the run, ``o`` its dots, ``.`` the band, ``^`` the sign.

    Plain ASCII, because a terminal in an old encoding has nothing else.
    """
    steps = [*panel.line[0], *(panel.dots[0] if panel.dots else ())]
    last_step = max(max(steps, default=1.0), 1.0)
    axes = _Axes(panel, 0, last_step)
    grid = [[" "] * width for _ in range(height)]

    def column(step: Number) -> int:
        return round((width - 1) * min(step, last_step) / last_step)

    def row(value: Number) -> int:
        return round((height - 1) * axes.y(value) / _PANEL)

    if panel.band is not None:
        for x in range(width):
            step = x / (width - 1) * last_step
            low, high = (float(np.interp(step, panel.band[0], edge)) for edge in panel.band[1:])
            for y in range(row(high), row(low) + 1):
                grid[y][x] = "."
    for mark, curve in (("*", panel.line), ("o", panel.dots)):
        for step, value in zip(*(curve or ((), ())), strict=True):
            if math.isfinite(value):
                grid[row(value)][column(step)] = mark
    top, bottom = (10**v if panel.logarithmic else v for v in (axes.high, axes.low))
    names = {0: f"{top:.3g}", height - 1: f"{bottom:.3g}"}
    lines = [panel.label]
    lines += [f"{names.get(i, ''):>7} |{''.join(cells).rstrip()}" for i, cells in enumerate(grid)]
    lines.append(f"{'':>7} +{'-' * width}")
    if panel.sign is not None:
        first, last = column(panel.sign[0]), column(panel.sign[1])
        lines.append(f"{'':>9}{' ' * first}{'^' * (last - first + 1)}")
    lines.append(f"{'':>9}{'0':<{width - 8}}{f'{last_step:g}':>8}")
    key = ["* training, o validation" if panel.dots else "* this run"]
    key += [". healthy runs"] if panel.band else []
    key += ["^ the sign"] if panel.sign else []
    return "\n".join([*lines, f"{'':>9}{', '.join(key)}"])
