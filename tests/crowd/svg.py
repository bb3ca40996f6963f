"""Plots as inline SVG. Colours are classes, so that a style sheet can make them light or dark."""

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 560
HEIGHT: Final = 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 24, 12, 40
_TICKS: Final = 5

Point = tuple[float, float]


class Line(NamedTuple):
    """A series; gaps where it breaks off are gaps of `points`."""

    name: str
    style: str
    points: Sequence[Point]


class Dots(NamedTuple):
    """Single points. `bars` are (x, low, high)."""

    name: str
    style: str
    points: Sequence[Point]
    bars: Sequence[tuple[float, float, float]] = ()


class Bands(NamedTuple):
    """Stretches of the x axis."""

    name: str
    style: str
    stretches: Sequence[Point]


NO_BANDS: Final = Bands("", "", ())


def plot(
    title: str,
    x_label: str,
    y_label: str,
    series: Sequence[Line | Dots],
    *,
    bands: Bands = NO_BANDS,
    square: bool = False,
    diagonal: bool = False,
) -> str:
    """A figure with a caption, a legend and axes from 0. `square`: both axes are as long."""
    x_most, y_most = _most(series, 0), _most(series, 1)
    if square:
        x_most = y_most = max(x_most, y_most)
    x_ticks, y_ticks = _ticks(x_most), _ticks(y_most)
    across, up = _scale(x_ticks[-1], _LEFT, WIDTH - _RIGHT), _scale(y_ticks[-1], HEIGHT - _BOTTOM, _TOP)
    parts = [
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{up(tick):.1f}" y2="{up(tick):.1f}"/>'
        f'<text class="tick" x="{_LEFT - 6}" y="{up(tick) + 4:.1f}" text-anchor="end">{_number(tick)}</text>'
        for tick in y_ticks
    ]
    parts += [
        f'<text class="tick" x="{across(tick):.1f}" y="{HEIGHT - _BOTTOM + 16}" text-anchor="middle">'
        f"{_number(tick)}</text>"
        for tick in x_ticks
    ]
    for begin, end in bands.stretches:
        where = f'x="{across(begin):.1f}" y="{_TOP}" width="{across(end) - across(begin):.1f}"'
        parts.append(f'<rect class="band {bands.style}" {where} height="{HEIGHT - _BOTTOM - _TOP}"/>')
    if diagonal:
        end = min(x_ticks[-1], y_ticks[-1])
        parts.append(_path("diagonal", [(across(0), up(0)), (across(end), up(end))]))
    for one in series:
        points = [(across(x), up(y)) for x, y in one.points]
        if isinstance(one, Line):
            parts.append(_path(one.style, points))
            continue
        bars = "".join(f"M{across(x):.1f} {up(low):.1f}V{up(high):.1f}" for x, low, high in one.bars)
        parts.append(f'<path class="bar {one.style}" d="{bars}"/>' if bars else "")
        # A dot is a line of no length with round ends: a tenth of the size of circles.
        parts.append(f'<path class="dots {one.style}" d="{"".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)}"/>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(f'<text class="axis" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    legend = [(one.name, one.style) for one in (*series, *([bands] if bands.stretches else []))]
    return _figure(title, y_label, parts, HEIGHT, legend)


def spans(title: str, rows: Sequence[tuple[str, Sequence[float]]], marks: Sequence[tuple[str, str]]) -> str:
    """For each row its values (ms) on a logarithmic axis, joined by a line. `marks`: what they are, and the styles."""
    known = [(name, [max(value, 0.1) for value in values]) for name, values in rows]
    most = max((max(values) for _, values in known), default=1.0)
    decades = max(math.ceil(math.log10(most)), 0)
    height = _TOP + 26 * len(known) + _BOTTOM

    def across(value: float) -> float:
        return 70 + (math.log10(value) + 1) / (decades + 1) * (WIDTH - 70 - 24)

    parts = []
    for power in range(-1, decades + 1):
        x = across(10.0**power)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{height - _BOTTOM}"/>')
        label = (
            f'<text class="tick" x="{x:.1f}" y="{height - _BOTTOM + 16}" text-anchor="middle">{10.0**power:g}</text>'
        )
        parts.append(label)
    for number, (name, values) in enumerate(known):
        y = _TOP + 26 * number + 13
        parts.append(f'<text class="tick" x="62" y="{y + 4}" text-anchor="end">{escape(name)}</text>')
        parts.append(_path("span", [(across(values[0]), y), (across(values[-1]), y)]))
        for (mark, style), value in zip(marks, values, strict=True):
            parts.append(f'<circle class="{style}" cx="{across(value):.1f}" cy="{y}" r="4.5">')
            parts.append(f"<title>{escape(name)}, {escape(mark)}: {value:,.1f} ms</title></circle>")
    parts.append(f'<text class="axis" x="{WIDTH / 2}" y="{height - 6}" text-anchor="middle">milliseconds</text>')
    return _figure(title, "", parts, height, marks)


def shares(title: str, rows: Sequence[tuple[str, int, str]]) -> str:
    """One bar, divided: (name, count, style)."""
    total, x, parts = sum(count for _, count, _ in rows) or 1, 0.0, []
    for name, count, style in rows:
        wide = count / total * WIDTH
        parts.append(f'<rect class="{style}" x="{x:.2f}" y="0" width="{wide:.2f}" height="26">')
        parts.append(f"<title>{escape(name)}: {count:,}</title></rect>")
        x += wide
    legend = [(f"{name} {count:,}", style) for name, count, style in rows if count]
    return _figure(title, "", parts, 26, legend, stretch=True)


def _figure(
    title: str,
    y_label: str,
    parts: Iterable[str],
    height: float,
    legend: Iterable[tuple[str, str]],
    *,
    stretch: bool = False,
) -> str:
    keys = "".join(f'<li><i class="{style}"></i>{escape(name)}</li>' for name, style in legend)
    unit = f'<span class="unit">{escape(y_label)}</span>' if y_label else ""
    fit = ' preserveAspectRatio="none"' if stretch else ""
    drawing = f'viewBox="0 0 {WIDTH} {height:g}"{fit} role="img" aria-label="{escape(title)}"'
    return (
        f"<figure><figcaption>{escape(title)}{unit}</figcaption><ul>{keys}</ul>"
        f"<svg {drawing}>{''.join(parts)}</svg></figure>"
    )


def _path(style: str, points: Sequence[Point]) -> str:
    drawn = "".join(f"{'L' if number else 'M'}{x:.1f} {y:.1f}" for number, (x, y) in enumerate(points))
    return f'<path class="line {style}" d="{drawn}"/>' if drawn else ""


def _most(series: Sequence[Line | Dots], axis: int) -> float:
    found = [point[axis] for one in series for point in one.points]
    if axis:
        found += [high for one in series if isinstance(one, Dots) for _, _, high in one.bars]
    return max(found, default=1.0) or 1.0


def _scale(most: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: start + value / most * (end - start)


def _ticks(most: float) -> list[float]:
    """Round numbers from 0 to beyond the most."""
    raw = most / _TICKS
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:g}"
