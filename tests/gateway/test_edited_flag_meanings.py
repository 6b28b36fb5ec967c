"""A gateway starts with an edited profile while flags, holds and alarms of the old one stand: none is stuck."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dormpower.books import alarms, holds
from dormpower.domain.samples import Flag
from tests.gateway.composed_site import ComposedSite
from tests.gateway.own_profiles import own_document, write_own

NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
LIGHTING, AC = "r-1-lighting", "r-1-ac"
COVER = frozenset({Flag.COVER_OPEN})
Edit = Callable[..., None]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Callable[..., tuple[ComposedSite, Edit]]]:
    """A site whose modules' flags mean what is given, and the way to start it with another meaning."""
    opened: list[ComposedSite] = []

    def open_one(**meanings: str) -> tuple[ComposedSite, Edit]:
        write_own(tmp_path, flag_meanings=meanings)
        site = ComposedSite(tmp_path, own_document({}), at=NOON)
        opened.append(site)
        for _ in range(4):
            site.sample()

        def edit(**meanings: str) -> None:
            write_own(tmp_path, flag_meanings=meanings)
            site.write(own_document({}))
            site.start()

        return site, edit

    yield open_one
    for site in opened:
        site.close()


def active(site: ComposedSite) -> list[tuple[str, str]]:
    with site.books.read() as connection:
        return sorted((one.kind, one.subject_id) for one in alarms.active(connection))


def reasons(site: ComposedSite, circuit_id: str = AC) -> list[str]:
    return [hold.reason.value for hold in site.holds(circuit_id)]


@pytest.mark.parametrize("meaning", ["trip", "ignored"])
@pytest.mark.parametrize("seen_by", [(AC,), (LIGHTING, AC)])
def test_an_alarm_of_the_module_ends_that_the_new_profile_does_not_make(
    open_site: Callable[..., tuple[ComposedSite, Edit]], meaning: str, seen_by: tuple[str, ...]
) -> None:
    site, edit = open_site(cover_open="alarm")
    flags = dict.fromkeys(seen_by, COVER)
    site.sample(flags=flags)
    assert active(site) == [("cover_open", "m-1")]
    edit(cover_open=meaning)
    site.sample(flags={} if meaning == "ignored" else flags)  # an ignored flag is not taken in
    assert active(site) == []
    assert reasons(site) == []
    edit(cover_open="alarm")
    site.sample(flags=flags)
    assert active(site) == [("cover_open", "m-1")]


@pytest.mark.parametrize("flag", [Flag.RELAY_FAULT, Flag.OVERLOAD_TRIP, Flag.PROHIBITED_TRIP])
def test_an_alarm_of_a_circuit_comes_and_goes_with_the_meaning_of_the_flag_that_stands(
    open_site: Callable[..., tuple[ComposedSite, Edit]], flag: Flag
) -> None:
    site, edit = open_site(**{flag.value: "trip"})
    flags = {AC: frozenset({flag})}
    site.sample(flags=flags)
    assert active(site) == []
    edit(**{flag.value: "alarm"})
    site.sample(flags=flags)
    assert active(site) == [(flag.value, AC)]
    edit(**{flag.value: "trip"})
    site.sample(flags=flags)
    assert active(site) == []


@pytest.mark.parametrize(
    ("first", "then", "held"),
    [("trip", "alarm", "module_trip"), ("trip", "ignored", "module_trip"), ("alarm", "trip", "opened_locally")],
)
def test_a_hold_stays_what_it_was_and_maintenance_ends_it(
    open_site: Callable[..., tuple[ComposedSite, Edit]], first: str, then: str, held: str
) -> None:
    site, edit = open_site(cover_open=first)
    flags = {AC: COVER}
    site.sample(opened=[AC], flags=flags)
    assert reasons(site) == [held]
    edit(cover_open=then)
    seen = {} if then == "ignored" else flags
    for _ in range(3):
        site.sample(opened=[AC], flags=seen)
    assert reasons(site) == [held]
    with site.books.write() as connection:
        holds.reset(connection, AC, "maintenance", site.clock.now())
    for _ in range(3):
        site.sample(opened=[AC], flags=seen)
    assert reasons(site) == []
    assert ("load_off", AC) not in active(site)
