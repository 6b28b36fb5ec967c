"""Closings as the gateway composes them from a site file: by building in batches, by their feeder's room."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from dormpower.books import holds
from dormpower.books.tables import commands
from dormpower.domain.holds import Reason
from tests.gateway.composed_site import ComposedSite, site_document

ROOMS = 5
LAMPS = [f"r-{number}-lighting" for number in range(1, ROOMS + 1)]
HAND = "rule:test"


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[Any]:
    opened: list[ComposedSite] = []

    def build(document: dict[str, Any]) -> ComposedSite:
        opened.append(ComposedSite(tmp_path, document, at=datetime(2026, 3, 2, 4, 0, tzinfo=UTC)))
        return opened[0]

    yield build
    for site in opened:
        site.close()


def all_dark(site: ComposedSite) -> None:
    """Have all lamps held off and reported open."""
    for _ in range(4):  # registers are believed from the third on
        site.sample()
    with site.books.write() as connection:
        for circuit_id in LAMPS:
            holds.place(
                connection,
                circuit_id=circuit_id,
                reason=Reason.CURFEW,
                placed_by=HAND,
                evidence={},
                now=site.clock.now(),
            )
    site.pass_time(0)
    site.sample(opened=LAMPS)


def let_go(site: ComposedSite) -> None:
    with site.books.write() as connection:
        for circuit_id in LAMPS:
            holds.release(
                connection,
                circuit_id=circuit_id,
                reason=Reason.CURFEW,
                released_by=HAND,
                evidence={},
                now=site.clock.now(),
            )
    site.pass_time(0)


def told_to_close(site: ComposedSite) -> set[str]:
    with site.books.read() as connection:
        return set(connection.scalars(sa.select(commands.c.circuit_id).where(commands.c.relay == "closed")))


def test_a_building_comes_back_in_the_batches_of_its_site_file(open_site: Any) -> None:
    site = open_site(site_document({"closings": {"at_once": 2, "every_s": 10}}, rooms=ROOMS))
    all_dark(site)
    let_go(site)
    assert len(told_to_close(site)) == 2

    async def tick() -> None:
        site.gateway.control.reconciler.kick_due()
        await site.gateway.control.settle()

    site.clock.advance(10)
    site.run(tick)
    assert len(told_to_close(site)) == 4


def test_closings_below_a_feeder_of_the_site_file_wait_for_its_room(open_site: Any) -> None:
    document = site_document(
        {"shedding": {"mode": "enforce"}}, rooms=ROOMS, feeders=[{"id": "f", "limit_kw": 1}]
    )
    document["rooms"] = [{**room, "feeder": "f"} for room in document["rooms"]]
    site = open_site(document)
    all_dark(site)
    site.run(site.gateway.feeders.cycle)
    let_go(site)
    assert len(told_to_close(site)) == 3  # of 970 W, 250 W each
