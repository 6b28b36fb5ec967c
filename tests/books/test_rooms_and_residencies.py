"""Balances, levels and residencies behind the rooms' view."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from dormpower.books import circuits_view, rooms
from dormpower.books.circuits_view import Present
from dormpower.books.residencies import (
    Span,
    UnableToAddResidencyError,
    any_covers,
    begin_residency,
    clip_all,
    end_residency,
    spans_by_room,
)
from dormpower.books.sites import sync_site
from dormpower.books.tables import account_links, ledger_accounts, meter_points, settled_days
from dormpower.books.users import Role, add_user
from dormpower.domain.arrears import ArrearsPolicy
from dormpower.domain.scopes import Scoped
from dormpower.domain.site import Circuit, CircuitKind, Module, Room, Site

NOW = datetime(2026, 5, 20, 4, tzinfo=UTC)
TODAY = date(2026, 5, 20)
PRESENT = Present(
    now=NOW, today=TODAY, stale_after_s=150, arrears=Scoped(base=ArrearsPolicy(zone=ZoneInfo("Asia/Shanghai")))
)
LIGHTING, AC = "r-1-lighting", "r-1-ac"


def hours(number):
    return NOW + timedelta(hours=number)


@pytest.fixture
def described(books):
    room = Room(
        room_id="r-1",
        campus="south",
        building="01",
        floor="1",
        name="101",
        rated_current_a=20,
        feeder=None,
        circuits=tuple(
            Circuit(circuit_id=f"r-1-{kind}", room_id="r-1", kind=CircuitKind(kind), module_id="m", channel=n)
            for n, kind in enumerate(("lighting", "ac"))
        ),
    )
    site = Site(
        site_id="s",
        name="S",
        zone=ZoneInfo("Asia/Shanghai"),
        rooms=(room,),
        modules=(Module(module_id="m", profile="p"),),
        lines=(),
    )
    sync_site(books=books, site=site, now=NOW - timedelta(days=30), today=TODAY - timedelta(days=30))
    return books


def set_up(books, circuit_id, *, posted_wh, metered_wh=0, settled_wh=0):
    with books.write() as connection:
        connection.execute(
            sa.update(ledger_accounts)
            .where(ledger_accounts.c.ledger_account_id == f"wh:account:acc-{circuit_id}")
            .values(balance=posted_wh)
        )
        connection.execute(
            sa.update(meter_points)
            .where(meter_points.c.circuit_id == circuit_id)
            .values(metered_wh=metered_wh, settled_wh=settled_wh)
        )


def view(books, circuit_id=LIGHTING, present=PRESENT):
    with books.read() as connection:
        return circuits_view.of_circuits(connection, circuit_ids=[circuit_id], present=present)[circuit_id]


def test_what_is_metered_and_not_settled_is_off_the_balance(described):
    set_up(described, LIGHTING, posted_wh=30_000, metered_wh=9_500, settled_wh=8_000)
    assert view(described).balance_wh == 28_500


def test_an_account_that_feeds_both_circuits_has_one_balance(described):
    set_up(described, LIGHTING, posted_wh=10_000, metered_wh=1_000)
    set_up(described, AC, posted_wh=777, metered_wh=2_000)
    with described.write() as connection:
        connection.execute(sa.update(account_links).where(account_links.c.circuit_id == AC).values(to_on=TODAY))
        connection.execute(
            account_links.insert().values(account_id=f"acc-{LIGHTING}", circuit_id=AC, from_on=TODAY)
        )
    assert view(described, LIGHTING).balance_wh == view(described, AC).balance_wh == 7_000
    assert view(described, AC).account_id == f"acc-{LIGHTING}"


@pytest.mark.parametrize(
    ("posted_wh", "level"),
    [
        (20_001, "ok"),
        (20_000, "low"),
        (5_001, "low"),
        (5_000, "critical"),
        (1, "critical"),
        (0, "arrears"),
        (-1, "arrears"),
    ],
)
def test_the_level_follows_the_balance(described, posted_wh, level):
    set_up(described, LIGHTING, posted_wh=posted_wh)
    assert view(described).level == level


def test_days_left_goes_by_the_last_seven_settled_days(described):
    set_up(described, LIGHTING, posted_wh=25_000)
    with described.write() as connection:
        connection.execute(
            settled_days.insert(),
            [
                {
                    "circuit_id": LIGHTING,
                    "used_on": TODAY - timedelta(days=ago),
                    "account_id": f"acc-{LIGHTING}",
                    "energy_wh": 2_000 if ago <= 7 else 99_000,
                    "estimated": False,
                    "settled_at": NOW,
                }
                for ago in range(1, 10)
            ],
        )
    assert view(described).days_left == 12
    assert view(described, AC).days_left == 0


def test_a_closed_room_is_not_found(described):
    empty = Site(site_id="s", name="S", zone=ZoneInfo("Asia/Shanghai"), rooms=(), modules=(), lines=())
    with described.read() as connection:
        assert rooms.find_room(connection, room_id="r-1", present=PRESENT) is not None
        assert rooms.room_of_circuit(connection, circuit_id=AC) == "r-1"
    sync_site(books=described, site=empty, now=NOW, today=TODAY)
    with described.read() as connection:
        assert rooms.find_room(connection, room_id="r-1", present=PRESENT) is None
        assert rooms.room_of_circuit(connection, circuit_id=AC) is None


def test_a_residency_shows_a_room_while_it_lasts_with_all_former_spans(described):
    with described.write() as connection:
        user_id = add_user(connection, username="li", role=Role.STUDENT, password_hash=None, now=NOW)
        for first, last in ((-100, -50), (-10, None)):
            begin_residency(
                connection,
                user_id=user_id,
                room_id="r-1",
                from_at=hours(first),
                to_at=None if last is None else hours(last),
            )
        both = (
            Span(from_at=hours(-100), to_at=hours(-50)),
            Span(from_at=hours(-10)),
        )
        assert spans_by_room(connection, user_id=user_id, now=NOW) == {"r-1": both}
        assert spans_by_room(connection, user_id=user_id, now=hours(-20)) == {}
        assert end_residency(connection, user_id=user_id, room_id="r-1", at=hours(1)) == 1
        assert spans_by_room(connection, user_id=user_id, now=hours(1)) == {}, "the end is not within"


def test_a_residency_names_a_room_and_does_not_end_before_it_begins(described):
    with described.write() as connection:
        user_id = add_user(connection, username="li", role=Role.STUDENT, password_hash=None, now=NOW)
        with pytest.raises(UnableToAddResidencyError, match="r-9"):
            begin_residency(connection, user_id=user_id, room_id="r-9", from_at=NOW)
        with pytest.raises(UnableToAddResidencyError, match="end after"):
            begin_residency(connection, user_id=user_id, room_id="r-1", from_at=NOW, to_at=NOW)


def test_clipping_keeps_what_is_within_the_spans_once():
    spans = (
        Span(from_at=hours(0), to_at=hours(2)),
        Span(from_at=hours(1), to_at=hours(3)),
        Span(from_at=hours(5)),
    )
    assert clip_all(spans, hours(-1), hours(6)) == [(hours(0), hours(3)), (hours(5), hours(6))]
    assert clip_all(spans, hours(3), hours(5)) == []
    assert clip_all(None, hours(0), hours(1)) == [(hours(0), hours(1))]


def test_a_day_is_covered_only_as_a_whole():
    spans = (Span(from_at=hours(0), to_at=hours(24)),)
    assert any_covers(spans, hours(0), hours(24))
    assert not any_covers(spans, hours(-1), hours(23))
    assert not any_covers(spans, hours(1), hours(25))
    assert any_covers(None, hours(-1000), hours(1000))
