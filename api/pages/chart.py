"""Daily usage as an SVG bar chart, drawn on the server: no script, readable by screen readers, sharp in print.

A day that is not known is drawn as a gap with a mark, never as zero; an estimated day is hatched, a day that is
still open is outlined. Colours come from the page's style sheet through classes, so that the chart follows the
light and dark scheme.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from html import escape

from dormpower.domain.units import format_kwh

WIDTH = 720
HEIGHT = 240
LEFT = 56
BOTTOM = 26
TOP = 22
RIGHT = 6

# Steps of the energy axis are 1, 2 or 5 times a power of ten.
_STEPS = (1, 2, 5)
_MAX_TICKS = 5
_LABEL_WIDTH = 64

_HATCH = (
    '<defs><pattern id="estimated" width="6" height="6" patternTransform="rotate(45)"'
    ' patternUnits="userSpaceOnUse"><rect width="6" height="6" class="hatch-ground"/>'
    '<line x1="0" y1="0" x2="0" y2="6" class="hatch-line"/></pattern></defs>'
)


@dataclass(frozen=True, slots=True)
class DayBar:
    """One campus day: energy in Wh, None where it is not known yet; quality measured, estimated or open."""

    on: date
    energy_wh: int | None
    quality: str


@dataclass(frozen=True, slots=True)
class ChartTexts:
    """The sentences of a chart in one language; `day` is formatted with `on`, `kwh` and `quality`."""

    title: str
    unit: str
    unknown: str
    qualities: dict[str, str]


def axis_step_wh(highest_wh: int) -> int:
    """Return the distance between two lines of the energy axis in Wh: 1, 2 or 5 × 10ⁿ, at most five lines."""
    magnitude = 10
    while True:
        for step in _STEPS:
            if highest_wh <= step * magnitude * _MAX_TICKS:
                return step * magnitude
        magnitude *= 10


def usage_chart(bars: Sequence[DayBar], *, texts: ChartTexts, with_hatch: bool = True) -> str:
    """Return the chart as an SVG element; every bar carries its day, energy and quality as its title.

    The hatch has an id: of several charts in one page, one brings it (`with_hatch`).
    """
    highest_wh = max((bar.energy_wh or 0 for bar in bars), default=0)
    step_wh = axis_step_wh(max(highest_wh, 1))
    top_wh = max(step_wh, -(-highest_wh // step_wh) * step_wh)
    parts = [
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(texts.title)}">',
        f"<title>{escape(texts.title)}</title>",
        _HATCH if with_hatch else "",
    ]
    parts += _axis(step_wh=step_wh, top_wh=top_wh, unit=texts.unit)
    parts += _bars(bars, top_wh=top_wh, texts=texts)
    parts.append("</svg>")
    return "".join(parts)


def _y(energy_wh: int, top_wh: int) -> float:
    usable = HEIGHT - TOP - BOTTOM
    return round(TOP + usable * (1 - energy_wh / top_wh), 1)


def _axis(*, step_wh: int, top_wh: int, unit: str) -> list[str]:
    parts = []
    for tick_wh in range(0, top_wh + 1, step_wh):
        y = _y(tick_wh, top_wh)
        label = format_kwh(tick_wh).rstrip("0").rstrip(".")
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{label}</text>')
    # Above the highest line, where no day's label can run into it.
    parts.append(f'<text class="tick" x="{LEFT + 4}" y="{TOP - 6}">{escape(unit)}</text>')
    return parts


def _bars(bars: Sequence[DayBar], *, top_wh: int, texts: ChartTexts) -> list[str]:
    if not bars:
        return []
    slot = (WIDTH - LEFT - RIGHT) / len(bars)
    width = max(1.0, round(slot * 0.72, 2))
    label_every = max(1, -(-_LABEL_WIDTH // max(1, int(slot))))
    parts = []
    for index, bar in enumerate(bars):
        x = round(LEFT + slot * index + (slot - width) / 2, 2)
        middle = round(LEFT + slot * (index + 0.5), 2)
        parts.append(_bar(bar, x=x, width=width, middle=middle, top_wh=top_wh, texts=texts))
        if index % label_every == 0:
            parts.append(
                f'<text class="tick" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">'
                f"{bar.on.month}/{bar.on.day}</text>"
            )
    return parts


def _bar(bar: DayBar, *, x: float, width: float, middle: float, top_wh: int, texts: ChartTexts) -> str:
    if bar.energy_wh is None:
        title = escape(f"{bar.on.isoformat()}: {texts.unknown}")
        foot = HEIGHT - BOTTOM - 4
        mark = f'<text x="{middle}" y="{foot}" text-anchor="middle">?</text>'
        return f'<g class="unknown"><title>{title}</title>{mark}</g>'
    quality = texts.qualities.get(bar.quality, bar.quality)
    title = escape(f"{bar.on.isoformat()}: {format_kwh(bar.energy_wh)} kWh ({quality})")
    y = _y(max(bar.energy_wh, 0), top_wh)
    height = round(HEIGHT - BOTTOM - y, 1)
    return (
        f'<rect class="bar {escape(bar.quality)}" x="{x}" y="{y}" width="{width}" height="{height}">'
        f"<title>{title}</title></rect>"
    )
