"""Draws an evening as SVG: demand with and without control, the limit, and how many circuits are off."""

from collections.abc import Callable, Sequence
from datetime import datetime

WIDTH, HEIGHT, LEFT, RIGHT, TOP = 960, 520, 64, 20, 44
DEMAND_BOTTOM, OFF_TOP, OFF_BOTTOM = 340, 380, 480
POINTS = 600  # more than a screen shows of a curve is dropped


def draw(
    *,
    times: Sequence[datetime],
    demand_w: Sequence[float],
    natural_w: Sequence[float],
    off: Sequence[int],
    limit_w: int,
    control_index: int,
) -> str:
    """Return the picture; the three series have one value a sample."""
    count = len(times)
    top_kw = max(*demand_w, *natural_w) / 1000 * 1.05
    most_off = max(*off, 1) * 1.1

    def x(index: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * index / max(count - 1, 1)

    def y(kw: float) -> float:
        return DEMAND_BOTTOM - (DEMAND_BOTTOM - TOP) * kw / top_kw

    def y_off(rooms: float) -> float:
        return OFF_BOTTOM - (OFF_BOTTOM - OFF_TOP) * rooms / most_off

    def line(values: Sequence[float]) -> str:
        return " ".join(f"{x(index):.1f},{value:.1f}" for index, value in _extremes(values))

    limit_y = y(limit_w / 1000)
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
            'font-size="12" role="img" aria-label="Demand, limit and circuits off">'
        ),
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-size="14">Demand of the feeder (kW) and air conditioners off</text>',
        *_legend(),
        *_scale(range(0, int(top_kw) + 1, _step(top_kw)), y),
        *_scale(range(0, int(most_off) + 1, _step(most_off)), y_off),
        *_hours(times, x),
        (
            f'<line x1="{x(control_index):.1f}" x2="{x(control_index):.1f}" y1="{TOP}" y2="{OFF_BOTTOM}" '
            'stroke="#888" stroke-dasharray="2 3"/>'
        ),
        f'<text x="{x(control_index) + 4:.1f}" y="{TOP + 10}" fill="#555">control begins</text>',
        f'<polyline points="{line([y(value / 1000) for value in natural_w])}" fill="none" stroke="#bbb"/>',
        f'<polyline points="{line([y(value / 1000) for value in demand_w])}" fill="none" stroke="#1f5fa8"/>',
        (
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{limit_y:.1f}" y2="{limit_y:.1f}" stroke="#b3261e" '
            'stroke-width="1.5" stroke-dasharray="6 3"/>'
        ),
        f'<polyline points="{line([y_off(value) for value in off])}" fill="none" stroke="#8a5a00"/>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _extremes(values: Sequence[float]) -> list[tuple[int, float]]:
    """Thin a curve without losing its peaks: of each stretch its lowest and its highest."""
    stretch = max(1, 2 * len(values) // POINTS)
    kept: list[tuple[int, float]] = []
    for start in range(0, len(values), stretch):
        part = list(enumerate(values[start : start + stretch], start))
        both = {min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])}
        kept += sorted(both)
    return kept


def _legend() -> list[str]:
    entries = [
        ("#1f5fa8", "with control"),
        ("#bbb", "without"),
        ("#b3261e", "limit"),
        ("#8a5a00", "circuits off (below)"),
    ]
    found, left = [], LEFT + 330
    for colour, name in entries:
        found.append(f'<line x1="{left}" x2="{left + 18}" y1="14" y2="14" stroke="{colour}" stroke-width="3"/>')
        found.append(f'<text x="{left + 24}" y="18">{name}</text>')
        left += 60 + 7 * len(name)
    return found


def _step(most: float) -> int:
    return next((step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500) if most / step <= 6), 1000)


def _scale(ticks: Sequence[int], y: Callable[[float], float]) -> list[str]:
    found = []
    for tick in ticks:
        at = y(tick)
        found.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#eee"/>')
        found.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end" fill="#555">{tick}</text>')
    return found


def _hours(times: Sequence[datetime], x: Callable[[int], float]) -> list[str]:
    return [
        f'<text x="{x(index):.1f}" y="{HEIGHT - 18}" text-anchor="middle" fill="#555">{at:%H:%M}</text>'
        for index, at in enumerate(times)
        if at.minute in {0, 30} and at.second == 0
    ]
