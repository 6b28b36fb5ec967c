"""Each fault that somebody plants in books that prove is found, under the invariant that it breaks."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from dormpower.books import audit_log, corrections, journal, proof, settlement, tables, transfers
from dormpower.books.database import Books
from dormpower.domain.tariff import Price

NOW = datetime(2026, 2, 5, 4, tzinfo=UTC)
ZONE = ZoneInfo("Asia/Shanghai")
PRICE = Price(from_on=date(2026, 1, 1), kind="all", price_millifen_per_kwh=56530)
USED = {date(2026, 2, day): 4000 for day in (1, 2, 3, 4)}


@pytest.fixture
def proven(one_room: Books, meter: Callable[[dict[date, int]], None]) -> Books:
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
    meter(USED)
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


def plant(books: Books, *statements: str) -> None:
    """Do what somebody with all rights on the database can do, without leaving a trigger out of place."""
    guarded = ("transactions", "postings", "lot_moves", "lots", "settled_days", "audit_log")
    with books.write() as connection:
        switches = []
        if connection.dialect.name == "postgresql":
            for table in guarded:
                connection.exec_driver_sql(f"ALTER TABLE {table} DISABLE TRIGGER USER")
                switches.append(f"ALTER TABLE {table} ENABLE TRIGGER USER")
        else:
            for name, sql in connection.exec_driver_sql(
                "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"
            ).all():
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
                switches.append(sql)
        for statement in statements:
            connection.exec_driver_sql(statement)
        for statement in switches:
            connection.exec_driver_sql(statement)


FIRST_POSTING = "(SELECT MIN(posting_id) FROM postings)"
LAST_MOVE = "(SELECT MAX(lot_move_id) FROM lot_moves)"
SECOND_SEGMENT = "(SELECT MIN(segment_id) + 1 FROM segments)"

FAULTS = {
    "a posting is changed": (f"UPDATE postings SET amount = amount + 1 WHERE posting_id = {FIRST_POSTING}", 1),
    "a cached balance is changed": (
        "UPDATE ledger_accounts SET balance = balance + 1 WHERE ledger_account_id = 'wh:account:acc-r1-ac'",
        4,
    ),
    "a cached sum of sales is changed": (
        "UPDATE ledger_accounts SET balance = balance + 1 WHERE ledger_account_id = 'fen:sales'",
        4,
    ),
    "a refund is paid twice": (
        (
            "INSERT INTO lot_moves (lot_id, transaction_id, cause, energy_wh, cost_fen) SELECT lot_id, "
            "transaction_id, cause, energy_wh, cost_fen + 1000 FROM lot_moves WHERE cause = 'refunded'"
        ),
        9,
    ),
    "a segment is lengthened": (
        f"UPDATE segments SET to_at = to_at + 1 WHERE segment_id = {SECOND_SEGMENT}",
        10,
    ),
    "a segment is shortened": (
        f"UPDATE segments SET to_at = to_at - 1 WHERE segment_id = {SECOND_SEGMENT}",
        10,
    ),
    "a segment is gone": (f"DELETE FROM segments WHERE segment_id = {SECOND_SEGMENT}", 10),
    "a segment's energy is changed": (
        f"UPDATE segments SET energy_wh = energy_wh - 1 WHERE segment_id = {SECOND_SEGMENT}",
        10,
    ),
    "a segment's register is changed": (
        f"UPDATE segments SET from_register_wh = from_register_wh + 1 WHERE segment_id = {SECOND_SEGMENT}",
        10,
    ),
    "the position is changed": ("UPDATE meter_points SET register_wh = register_wh + 1", 10),
    "metered energy is changed": ("UPDATE meter_points SET metered_wh = metered_wh + 1", 10),
    "the open segment begins elsewhere": (
        "UPDATE meter_points SET segment_from_wh = segment_from_wh - 1, register_wh = register_wh - 1",
        10,
    ),
    "a day is never charged": ("DELETE FROM settled_days WHERE used_on = '2026-02-02'", 10),
    "a second account is linked on the same days": (
        (
            "INSERT INTO account_links (account_id, circuit_id, from_on) "
            "VALUES ('acc-r1-lighting', 'r1-ac', '2026-01-05')"
        ),
        10,
    ),
    "settled energy is changed": ("UPDATE meter_points SET settled_wh = settled_wh + 1", 11),
    "a settled day is changed": (
        "UPDATE settled_days SET energy_wh = energy_wh + 1 WHERE used_on = '2026-02-02'",
        11,
    ),
    "a lot's remainder is changed": ("UPDATE lots SET remaining_wh = remaining_wh - 1 WHERE lot_id = 3", 12),
    "a lot's money is changed": (
        (
            "UPDATE lots SET remaining_fen = remaining_fen - 1 "
            "WHERE lot_id = (SELECT MIN(lot_id) FROM lots WHERE remaining_fen > 0)"
        ),
        12,
    ),
    "a move of a lot is changed": (
        f"UPDATE lot_moves SET energy_wh = energy_wh - 1 WHERE lot_move_id = {LAST_MOVE}",
        12,
    ),
    "a move's money is changed": (
        f"UPDATE lot_moves SET cost_fen = cost_fen + 1 WHERE lot_move_id = {LAST_MOVE}",
        12,
    ),
    "a move of a lot is gone": (f"DELETE FROM lot_moves WHERE lot_move_id = {LAST_MOVE}", 12),
    "a transaction says other energy": (
        "UPDATE transactions SET energy_wh = energy_wh + 1 WHERE kind = 'grant'",
        12,
    ),
    "half a transfer is gone": (
        "DELETE FROM postings WHERE ledger_account_id = 'wh:moved' AND amount < 0",
        12,
    ),
    "an audit row is changed": ("UPDATE audit_log SET actor = 'nobody' WHERE audit_id = 1", 38),
}


@pytest.mark.parametrize(("statement", "invariant"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_is_found(proven: Books, statement: str, invariant: int):
    plant(proven, statement)
    found = proof.prove(proven)
    assert invariant in {finding.invariant for finding in found}, [str(one) for one in found]


def test_a_missing_trigger_is_found(proven: Books):
    on = "" if proven.is_sqlite else " ON postings"
    with proven.write() as connection:
        connection.exec_driver_sql(f"DROP TRIGGER immutable_postings_update{on}")
    assert [str(one) for one in proof.prove(proven)] == [
        "invariant 3: immutable_postings_update: the trigger is missing"
    ]


def test_a_float_in_the_path_of_money_is_found_where_the_database_takes_it(proven: Books):
    plant(proven, "UPDATE lot_moves SET cost_fen = cost_fen + 0.6 WHERE lot_move_id = 1")
    expected = 2 if proven.is_sqlite else 12  # PostgreSQL rounds it to an integer, which is a false one
    assert expected in {finding.invariant for finding in proof.prove(proven)}


def test_a_head_that_was_exported_is_compared(proven: Books):
    forged = audit_log.Head(position=2, hash="0" * 64)
    assert [one.invariant for one in proof.prove(proven, heads=[forged])] == [38]


def test_the_proof_tells_how_far_it_is(proven: Books):
    told: list[str] = []
    proof.prove(proven, progress=told.append)
    assert "journal replayed: 2 of 2 accounts" in told
    assert "metering walked: 2 of 2 circuits" in told


def test_a_day_that_waits_for_settlement_is_no_fault(one_room: Books, meter: Callable[[dict[date, int]], None]):
    meter(USED)
    assert proof.prove(one_room) == []
    with one_room.write() as connection:
        connection.execute(sa.delete(tables.day_changes))
    assert {one.invariant for one in proof.prove(one_room)} == {10}
