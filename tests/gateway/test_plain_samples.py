"""Samples that are judged together come to what they come to one by one, whatever comes between them.

Two gateways of one site on books of their own get the same samples: one as the answers that polling hands on,
the other as samples. What both know and have written at the end has to be the same.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from dormpower.books import proof
from dormpower.books.tables import meter_points
from gateway.ports import Rate
from tests.gateway.polled_answers import RELAY_CLOSED, Channel
from tests.gateway.two_ways import OTHERS, ROOMS, Campus, Poll, Site

OVER_TEMPERATURE = 0b1000


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[tuple[Site, Site]]:
    with ExitStack() as stack:
        both = [Site(tmp_path / name, packed=name == "together") for name in ("together", "one_by_one")]
        for site in both:
            stack.callback(site.close)
        yield both[0], both[1]


@pytest.mark.parametrize("seed", range(8))
def test_judged_together_or_one_by_one_it_comes_to_the_same(sites: tuple[Site, Site], seed: int) -> None:
    together, one_by_one = sites
    campus = Campus(seed)
    chance = campus.chance
    samples = 0
    for number in range(160):
        after_s = (
            9_000.0 if number == 90 else chance.choice((5.0, 5.0, 30.0, 30.0, 30.0, 200.0))
        )  # over midnight
        batch = campus.batch(after_s, together.switch)
        paid = f"r-{chance.randint(1, ROOMS)}-ac" if chance.random() < 0.05 else None
        others = chance.choice(OTHERS) if chance.random() < 0.05 else None
        sweeps = chance.random() < 0.05
        for site in sites:
            site.clock.advance(after_s)
            site.take(batch)
            if paid:
                site.grant(paid, 3_000)
            if number % 12 == 11:
                site.set_right()
            if others is not None:
                site.swap(others)
            if sweeps:
                site.run(site.gateway.control.sweep)
            if number == 120:
                site.start()
        samples += 2 * len(batch)
        if number % 8 == 0:
            assert together.known() == one_by_one.known(), f"after batch {number}"
    assert together.known() == one_by_one.known()
    assert one_by_one.plain == 0
    assert together.plain > 0.1 * samples, "hardly any sample was judged together: the test tests nothing"


@pytest.mark.parametrize("why", ["comes as a sample", "has a flag"])
def test_a_shared_balance_is_looked_at_with_all_that_a_batch_has_used(
    sites: tuple[Site, Site], why: str
) -> None:
    def of_batch(number: int) -> list[Poll]:
        lighting = Channel(register_wh=1_000 + 610 * number, power_w=3_600.0)
        cooling = Channel(
            register_wh=2_000 + 610 * number,
            power_w=3_600.0,
            status=RELAY_CLOSED | (OVER_TEMPERATURE if why == "has a flag" else 0),
        )
        idle = Channel(register_wh=1_000, power_w=0.0)
        poll = partial(Poll, offset_s=0.0, rate=Rate.FULL)
        return [
            poll(module_id="m-2", channels={0: idle, 1: cooling}, as_sample=why == "comes as a sample"),
            poll(module_id="m-1", channels={0: lighting, 1: idle}, as_sample=False),
        ]

    for site in sites:
        site.swap({"overload": {"mode": "off"}, "prohibited": {"mode": "off"}})
    told = []
    for number in range(32):
        for site in sites:
            site.clock.advance(600.0)
            site.take(of_batch(number))
        known = [
            [site.gateway.control.memory(one).warnings for one in ("r-1-lighting", "r-2-ac")] for site in sites
        ]
        assert known[0] == known[1], f"after batch {number}"
        told.append(known[0][1].first_at is not None)
    assert sorted(told) == told
    assert 0 < sum(told) < 10
    assert sites[0].plain > 20


def test_what_plain_samples_leave_in_the_books(database_url: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        site = Site(tmp_path / "site", packed=True, database=database_url)
        stack.callback(site.close)
        for number in range(8):
            site.clock.advance(30.0)
            shown = Channel(register_wh=1_000 + 10 * number, power_w=200.0 + number, power_factor=0.96)
            site.take(
                [
                    Poll(
                        module_id=f"m-{room}",
                        offset_s=0.0,
                        rate=Rate.FAST if number == 7 else Rate.FULL,
                        channels={0: shown, 1: shown},
                        as_sample=False,
                    )
                    for room in range(1, ROOMS + 1)
                ]
            )
        assert site.gateway.intake.counters.plain == 5 * 2 * ROOMS
        with site.books.read() as connection:
            rows = connection.execute(sa.select(meter_points)).all()
        assert {
            (row.register_wh, row.metered_wh, row.power_w, row.power_factor, row.relay, row.flags)
            for row in rows
        } == {(1_060, 60, 207.0, 0.96, "closed", "")}
        now = site.clock.now()
        assert {row.last_seen_at for row in rows} == {row.relay_at for row in rows} == {now}
        assert {row.register_at for row in rows} == {now - timedelta(seconds=30)}
        assert proof.prove(site.books) == []
