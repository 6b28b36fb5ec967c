"""Books with one room whose meters ran, for the tests of the ledger and of its proof."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from dormpower.books import audit_log, corrections, journal, proof, settlement, tables, transfers
from dormpower.books.database import Books
from dormpower.domain.days import CampusDays
from dormpower.domain.tariff import Price

ZONE = ZoneInfo("Asia/Shanghai")
DAYS = CampusDays(ZONE)
LINKED_ON = date(2026, 1, 1)
NOW = datetime(2026, 2, 5, 4, tzinfo=UTC)
PRICE = Price(from_on=date(2026, 1, 1), kind="all", price_millifen_per_kwh=56530)

Meter = Callable[[dict[date, int]], None]


@pytest.fixture
def one_room(books: Books) -> Books:
    """A room with two circuits, an account each, on both databases."""
    return furnish(books)


def furnish(books: Books) -> Books:
    """Put a room `r1` with its circuits, accounts and channels into books."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with books.write() as connection:
        connection.execute(
            sa.insert(tables.rooms).values(
                room_id="r1", campus="c", building="b", floor="1", name="r1", rated_current_a=10
            )
        )
        connection.execute(sa.insert(tables.modules).values(module_id="m1", profile="p"))
        for channel, kind in enumerate(("lighting", "ac")):
            circuit_id = f"r1-{kind}"
            account_id = f"acc-{circuit_id}"
            connection.execute(
                sa.insert(tables.circuits).values(circuit_id=circuit_id, room_id="r1", kind=kind)
            )
            connection.execute(sa.insert(tables.accounts).values(account_id=account_id, opened_at=now))
            connection.execute(
                sa.insert(tables.account_links).values(
                    account_id=account_id, circuit_id=circuit_id, from_on=LINKED_ON
                )
            )
            connection.execute(
                sa.insert(tables.channel_spans).values(
                    span_id=channel + 1, circuit_id=circuit_id, module_id="m1", channel=channel, from_at=now
                )
            )
            connection.execute(
                sa.insert(tables.meter_points).values(circuit_id=circuit_id, span_id=channel + 1)
            )
    return books


@pytest.fixture
def meter(one_room: Books) -> Meter:
    """Give a function that lets the AC circuit use energy on following days, as metering would write it."""

    def run(energies_wh: dict[date, int]) -> None:
        meter_days(one_room, energies_wh)

    return run


def meter_days(books: Books, energies_wh: dict[date, int]) -> None:
    """Write a measured segment for each day, in order, and the position at the end of the last."""
    register_wh = 0
    with books.write() as connection:
        for on, energy_wh in sorted(energies_wh.items()):
            connection.execute(
                sa.insert(tables.segments).values(
                    circuit_id="r1-ac",
                    span_id=2,
                    used_on=on,
                    from_at=DAYS.end_of(on - timedelta(days=1)),
                    to_at=DAYS.end_of(on),
                    from_register_wh=register_wh,
                    to_register_wh=register_wh + energy_wh,
                    energy_wh=energy_wh,
                    cause="measured",
                )
            )
            connection.execute(sa.insert(tables.day_changes).values(circuit_id="r1-ac", used_on=on))
            register_wh += energy_wh
        last_on = max(energies_wh)
        end_at = DAYS.end_of(last_on)
        connection.execute(
            sa.update(tables.meter_points)
            .where(tables.meter_points.c.circuit_id == "r1-ac")
            .values(
                standing="accepted",
                register_wh=register_wh,
                register_at=end_at,
                segment_from_wh=register_wh,
                segment_from_at=end_at,
                metered_wh=register_wh,
                open_on=last_on + timedelta(days=1),
            )
        )


@pytest.fixture
def proven(one_room: Books, meter: Meter) -> Books:
    """Books with each kind of transaction, which prove."""

    def asked(key: str) -> dict[str, object]:
        return {"source": "test", "idempotency_key": key, "actor": "finance", "note": None, "now": NOW}

    with one_room.write() as connection:
        paid = [
            journal.post_recharge(
                connection, circuit_id="r1-ac", amount_fen=1000, channel="cash", price=PRICE, **asked(key)
            ).item["transaction_id"]
            for key in ("a", "b")
        ]
        journal.post_grant(connection, circuit_id="r1-ac", energy_wh=5000, expires_at=None, **asked("c"))
    meter({date(2026, 2, day): 4000 for day in (1, 2, 3, 4)})
    settlement.settle(one_room, now=NOW, zone=ZONE)
    with one_room.write() as connection:
        transfers.post_transfer(
            connection, from_circuit_id="r1-ac", to_circuit_id="r1-lighting", energy_wh=700, **asked("d")
        )
        corrections.post_refund(
            connection, circuit_id="r1-ac", payment_id=paid[0], energy_wh=500, channel="cash", **asked("e")
        )
        corrections.post_reversal(connection, transaction_id=paid[1], **asked("f"))
        while audit_log.seal(connection):
            pass
    assert proof.prove(one_room) == []
    return one_room
