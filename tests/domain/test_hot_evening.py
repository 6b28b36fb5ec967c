"""The proof of shedding: 500 rooms, four hours of a hot evening in virtual time, as the document tells it."""

from pathlib import Path

import pytest

from benchmarks.hot_evening import ZONE, Figures, draw, evening, told

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def documented() -> Figures:
    """The evening of the document's table and picture."""
    return evening(rooms=500, seed=1, hours=4.0, cycle_s=10.0)


def test_the_documented_evening_stays_within_its_bounds(documented: Figures) -> None:
    assert documented.failures() == []


@pytest.mark.parametrize("seed", [2, 3])
def test_other_evenings_stay_within_the_bounds_too(seed: int) -> None:
    assert evening(rooms=500, seed=seed, hours=4.0, cycle_s=10.0).failures() == []


def test_sixty_rooms_stay_within_the_bounds_at_this_seed() -> None:
    assert evening(rooms=60, seed=1, hours=2.0, cycle_s=10.0).failures() == []


def test_an_evening_that_proves_nothing_is_told() -> None:
    figures = Figures(demand_w=[900.0, 900.0], limit_w=1000, fairness=1.0)
    assert figures.failures() == ["control began within the limit: nothing was to be shed", "nobody was shed"]


def test_the_document_s_table_holds_the_figures(documented: Figures) -> None:
    one = told(documented)
    rows = {
        "peak without control, limit": f"{one['peak_without_control_kw']} kW, {one['limit_kw']} kW",
        "demand when control begins": f"{one['demand_at_the_start_kw']} kW",
        "decision cycles until under the limit": f"{one['cycles_to_recover']} (bound 2)",
        f"samples over the limit afterwards, of {one['samples'] - 1:,}": (
            f"{one['samples_over_afterwards']} (bound: never two in a row)"
        ),
        "highest and mean demand afterwards": (
            f"{one['highest_afterwards_share']:.1%} and {one['mean_afterwards_share']:.1%} of the limit"
        ).replace("%", " %"),
        "Jain's index of minutes off over the 500 circuits that drew": f"{one['jain_index']:.3f} (bound 0.95)",
        "minutes off: least, median, most": (
            f"{one['minutes_off_least']}, {one['minutes_off_median']}, {one['minutes_off_most']}"
        ),
        "shortest time off of an air conditioner": f"{one['shortest_off_s']:.0f} s (bound 300 s)",
        "circuits off at once, at most": f"{one['rooms_off_at_most']}",
        "sheds, of them swaps": f"{one['sheds']:,}, {one['of_them_swaps']:,}",
        "longest time off": f"{one['longest_off_s']:,.0f} s: nobody was left to swap with, the limit won",
    }
    table = (DOCS / "shedding.md").read_text(encoding="utf-8").partition("| figure (seed 1) |")[2]
    written = [line for line in table.partition("\n\n")[0].splitlines() if line.startswith("| ")][1:]
    assert written == [f"| {name} | {value} |" for name, value in rows.items()]


def test_the_document_s_picture_is_of_this_evening(documented: Figures) -> None:
    drawn = draw(
        times=[at.astimezone(ZONE) for at in documented.times],
        demand_w=documented.demand_w,
        natural_w=documented.natural_w,
        off=documented.off,
        limit_w=documented.limit_w,
        control_index=documented.from_index,
    )
    assert (DOCS / "hot-evening.svg").read_text(encoding="utf-8") == drawn
