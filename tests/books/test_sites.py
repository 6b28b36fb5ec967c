"""Syncing the site into the books: idempotent, nothing deleted, replacements dated."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from dormpower.books import leases
from dormpower.books import tables as t
from dormpower.books.sites import UnableToSyncSiteError, sync_site
from dormpower.domain.site import Circuit, CircuitKind, Module, Room, Site

NOW = datetime(2026, 3, 1, 4, tzinfo=UTC)
TODAY = date(2026, 3, 1)


def make_site(count: int = 3) -> Site:
    rooms, modules = [], []
    for number in range(count):
        room_id, module_id = f"south-01-{number}", f"m-{number}"
        modules.append(Module(module_id=module_id, profile="dormpower-mqtt"))
        circuits = tuple(
            Circuit(
                circuit_id=f"{room_id}-{kind}", room_id=room_id, kind=kind, module_id=module_id, channel=channel
            )
            for channel, kind in enumerate(CircuitKind)
        )
        rooms.append(
            Room(
                room_id=room_id,
                campus="south",
                building="south-01",
                floor="1",
                name=str(number),
                rated_current_a=32,
                feeder=None,
                circuits=circuits,
            )
        )
    return Site(
        site_id="s",
        name="S",
        zone=ZoneInfo("Asia/Shanghai"),
        rooms=tuple(rooms),
        modules=tuple(modules),
        lines=(),
    )


def swapped(room: Room) -> Room:
    first, second = room.circuits
    return replace(
        room, circuits=(replace(first, channel=second.channel), replace(second, channel=first.channel))
    )


def rows(books, table, *order):
    with books.read() as connection:
        return connection.execute(sa.select(table).order_by(*order)).all()


def test_every_circuit_gets_a_span_a_meter_point_a_control_point_and_an_account_of_its_own(books):
    report = sync_site(books=books, site=make_site(), now=NOW, today=TODAY)
    assert len(report.rooms_added) == 3
    spans = {row.circuit_id: row for row in rows(books, t.channel_spans)}
    assert len(spans) == 6
    assert {row.circuit_id: row.span_id for row in rows(books, t.meter_points)} == {
        circuit_id: span.span_id for circuit_id, span in spans.items()
    }
    assert {row.circuit_id for row in rows(books, t.control_points)} == set(spans)
    links = {row.circuit_id: (row.account_id, row.from_on, row.to_on) for row in rows(books, t.account_links)}
    assert links == {circuit_id: (f"acc-{circuit_id}", TODAY, None) for circuit_id in spans}
    assert {row.ledger_account_id for row in rows(books, t.ledger_accounts)} >= {
        f"wh:account:acc-{circuit_id}" for circuit_id in spans
    }


def test_syncing_again_changes_nothing_and_leaves_no_audit_row(books):
    sync_site(books=books, site=make_site(), now=NOW, today=TODAY)
    report = sync_site(books=books, site=make_site(), now=NOW + timedelta(days=1), today=date(2026, 3, 2))
    assert not report.changed
    assert [row.action for row in rows(books, t.audit_log)] == ["site.synced"]


def test_a_removed_room_is_closed_and_keeps_its_account_until_it_comes_back(books):
    sync_site(books=books, site=make_site(3), now=NOW, today=TODAY)
    report = sync_site(books=books, site=make_site(2), now=NOW + timedelta(hours=1), today=TODAY)
    assert report.rooms_closed == ["south-01-2"]
    assert report.modules_closed == ["m-2"]
    assert report.circuits_unserved == ["south-01-2-ac", "south-01-2-lighting"]
    assert {row.room_id: row.closed_at for row in rows(books, t.rooms)}["south-01-2"] == NOW + timedelta(
        hours=1
    )
    assert len(rows(books, t.accounts)) == 6

    back = sync_site(books=books, site=make_site(3), now=NOW + timedelta(hours=2), today=TODAY)
    assert back.rooms_reopened == ["south-01-2"]
    assert back.circuits_added == []
    assert all(row.closed_at is None for row in rows(books, t.rooms))


def test_two_circuits_that_swap_channels_end_their_spans_and_begin_new_ones(books):
    site = make_site(1)
    sync_site(books=books, site=site, now=NOW, today=TODAY)
    later = NOW + timedelta(hours=3)
    report = sync_site(books=books, site=replace(site, rooms=(swapped(site.rooms[0]),)), now=later, today=TODAY)
    assert [item.circuit_id for item in report.replacements] == ["south-01-0-lighting", "south-01-0-ac"]
    spans = rows(books, t.channel_spans, t.channel_spans.c.span_id)
    assert [(row.channel, row.from_at, row.to_at) for row in spans if row.circuit_id.endswith("-ac")] == [
        (1, NOW, later),
        (0, later, None),
    ]


def test_a_changed_name_is_an_update_of_the_same_room(books):
    site = make_site(1)
    sync_site(books=books, site=site, now=NOW, today=TODAY)
    renamed = replace(site, rooms=(replace(site.rooms[0], name="Warden"),))
    report = sync_site(books=books, site=renamed, now=NOW, today=TODAY)
    assert report.rooms_changed == ["south-01-0"]
    assert [row.name for row in rows(books, t.rooms)] == ["Warden"]


def test_books_of_another_site_or_zone_are_left_alone(books):
    sync_site(books=books, site=make_site(1), now=NOW, today=TODAY)
    with pytest.raises(UnableToSyncSiteError, match="begun with site_id 's' and the site file says 'other'"):
        sync_site(books=books, site=replace(make_site(2), site_id="other"), now=NOW, today=TODAY)
    with pytest.raises(UnableToSyncSiteError, match="zone"):
        sync_site(books=books, site=replace(make_site(2), zone=ZoneInfo("UTC")), now=NOW, today=TODAY)
    assert len(rows(books, t.rooms)) == 1


def test_ten_thousand_rooms_are_synced_whole(tmp_path, books):
    report = sync_site(books=books, site=make_site(10_000), now=NOW, today=TODAY)
    assert len(report.circuits_added) == 20_000
    with books.read() as connection:
        unpointed = connection.execute(
            sa.select(sa.func.count()).select_from(t.meter_points).where(t.meter_points.c.span_id.is_(None))
        ).scalar_one()
    assert unpointed == 0


def test_a_lease_has_one_holder_until_it_runs_out(books):
    def take(holder: str, after_s: float) -> bool:
        return leases.acquire(
            books=books, name="jobs", holder=holder, real_now=NOW + timedelta(seconds=after_s), for_s=10
        )

    assert take("g1", 0)
    assert not take("g2", 9)
    assert leases.renew(books=books, name="jobs", holder="g1", real_now=NOW + timedelta(seconds=9), for_s=10)
    assert not take("g2", 18)
    assert take("g2", 19)
    assert not leases.renew(
        books=books, name="jobs", holder="g1", real_now=NOW + timedelta(seconds=20), for_s=10
    )
    assert leases.holder_of(books=books, name="jobs", real_now=NOW + timedelta(seconds=20)) == "g2"
    leases.release(books=books, name="jobs", holder="g1")
    assert leases.holder_of(books=books, name="jobs", real_now=NOW + timedelta(seconds=20)) == "g2"
    leases.release(books=books, name="jobs", holder="g2")
    assert take("g1", 21)
