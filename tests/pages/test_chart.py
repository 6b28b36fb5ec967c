from datetime import date, timedelta
from xml.etree import ElementTree as ET

import pytest

from api.pages.chart import HEIGHT, ChartTexts, DayBar, axis_step_wh, usage_chart

TEXTS = ChartTexts(
    title="Daily usage of <AC>", unit="kWh", unknown="not known yet", qualities={"measured": "measured"}
)


def drawn(bars: list[DayBar]) -> ET.Element:
    return ET.fromstring(usage_chart(bars, texts=TEXTS))


def days(*energies_wh: int | None, quality: str = "measured") -> list[DayBar]:
    first = date(2026, 11, 1)
    return [DayBar(first + timedelta(days=n), energy, quality) for n, energy in enumerate(energies_wh)]


@pytest.mark.parametrize(
    ("highest_wh", "step_wh"), [(1, 10), (50, 10), (51, 20), (251, 100), (4_000, 1_000), (10_001, 5_000)]
)
def test_the_axis_has_round_steps_and_at_most_five_lines(highest_wh: int, step_wh: int) -> None:
    assert axis_step_wh(highest_wh) == step_wh


def test_every_known_day_is_a_bar_as_high_as_its_energy() -> None:
    bars = drawn(days(1000, 2000)).findall(".//rect[@class='bar measured']")
    heights = [float(bar.attrib["height"]) for bar in bars]
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.2)


def test_an_unknown_day_is_a_mark_and_never_a_bar_of_zero() -> None:
    chart = drawn(days(1000, None))
    assert len(chart.findall(".//rect[@class='bar measured']")) == 1
    assert "2026-11-02: not known yet" in [title.text for title in chart.iter("title")]


def test_each_bar_tells_its_day_energy_and_quality() -> None:
    titles = [title.text for title in drawn(days(1234)).iter("title")]
    assert "2026-11-01: 1.234 kWh (measured)" in titles


def test_texts_are_escaped() -> None:
    assert drawn(days(5)).attrib["aria-label"] == "Daily usage of <AC>"


def test_a_negative_adjustment_never_draws_outside_the_chart() -> None:
    bar = drawn(days(-5, 100)).find(".//rect[@class='bar measured']")
    assert bar is not None
    assert 0 <= float(bar.attrib["y"]) <= HEIGHT


def test_no_days_draw_an_empty_chart() -> None:
    assert drawn([]).findall(".//rect[@class='bar measured']") == []
