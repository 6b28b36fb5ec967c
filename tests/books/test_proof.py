"""Each fault that somebody plants in books that prove is found, under the invariant that it breaks."""

import itertools
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import audit_log, immutability, proof, tables
from dormpower.books.database import Books

USED = {date(2026, 2, day): 4000 for day in (1, 2, 3, 4)}


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
    "a transaction tells another balance than its answer": (
        "UPDATE transactions SET balance_after_wh = balance_after_wh + 1 WHERE kind = 'refund'",
        6,
    ),
    "an answer is gone": ("UPDATE transactions SET answer = NULL WHERE kind = 'grant'", 6),
    "an answer is another transaction's": (
        (
            "UPDATE transactions SET answer = (SELECT answer FROM transactions WHERE kind = 'grant') "
            "WHERE kind = 'transfer' AND energy_wh < 0"
        ),
        6,
    ),
    "a recharge tells another note than was asked for": (
        "UPDATE transactions SET note = 'other' WHERE kind = 'recharge'",
        6,
    ),
    "a segment is put on another circuit's channel": (
        f"UPDATE segments SET span_id = 1 WHERE segment_id = {SECOND_SEGMENT}",
        10,
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


ON_POSTGRESQL = "FOR EACH ROW EXECUTE FUNCTION"
ON_SQLITE = "BEGIN SELECT RAISE(ABORT, 'update of postings refused'); END"

# What takes the place of a trigger under its name: on SQLite, on PostgreSQL.
STAND_INS = {
    "it does nothing": (
        "CREATE TRIGGER immutable_postings_update BEFORE UPDATE ON postings BEGIN SELECT 1; END",
        f"CREATE TRIGGER immutable_postings_update BEFORE UPDATE ON postings {ON_POSTGRESQL} nothing()",
    ),
    "it looks at another column": (
        f"CREATE TRIGGER immutable_postings_update BEFORE UPDATE OF unit ON postings {ON_SQLITE}",
        (
            "CREATE TRIGGER immutable_postings_update BEFORE UPDATE OF unit ON postings "
            f"{ON_POSTGRESQL} dormpower_refuse_change()"
        ),
    ),
    "it waits for what never comes": (
        f"CREATE TRIGGER immutable_postings_update BEFORE UPDATE ON postings WHEN 0 {ON_SQLITE}",
        (
            "CREATE TRIGGER immutable_postings_update BEFORE UPDATE ON postings FOR EACH ROW WHEN (false) "
            "EXECUTE FUNCTION dormpower_refuse_change()"
        ),
    ),
}
NOTHING = "FUNCTION {}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$"


@pytest.mark.parametrize("stand_in", STAND_INS.values(), ids=STAND_INS)
def test_what_bears_a_triggers_name_and_lets_changes_pass_is_found(proven: Books, stand_in: tuple[str, str]):
    with proven.write() as connection:
        if not proven.is_sqlite:
            connection.exec_driver_sql(f"CREATE {NOTHING.format('nothing')}")
        on = "" if proven.is_sqlite else " ON postings"
        connection.exec_driver_sql(f"DROP TRIGGER immutable_postings_update{on}")
        connection.exec_driver_sql(stand_in[0 if proven.is_sqlite else 1])
    assert [str(one) for one in proof.prove(proven)] == [
        "invariant 3: immutable_postings_update: the trigger is not the one that refuses changes"
    ]


@pytest.mark.needs("postgres", "initdb")
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_triggers_that_are_switched_off_or_gutted_are_found(books: Books):
    with books.write() as connection:
        connection.exec_driver_sql("ALTER TABLE postings DISABLE TRIGGER immutable_postings_delete")
        connection.exec_driver_sql(f"CREATE OR REPLACE {NOTHING.format('dormpower_refuse_change')}")
    assert [str(one) for one in proof.prove(books)] == [
        "invariant 3: dormpower_refuse_change: the function of the triggers does not refuse changes",
        "invariant 3: immutable_postings_delete: the trigger is missing",
    ]


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("lot_moves", "cost_fen"),
        ("lots", "remaining_wh"),
        ("lots", "price_millifen_per_kwh"),
        ("ledger_accounts", "balance"),
        ("meter_points", "metered_wh"),
        ("transactions", "balance_after_wh"),
        ("segments", "to_register_wh"),
    ],
)
def test_a_float_in_the_path_of_money_or_energy_is_found_where_the_database_takes_it(
    proven: Books, table: str, column: str
):
    plant(proven, f"UPDATE {table} SET {column} = {column} - 0.4 WHERE {column} > 0")
    found = proof.prove(proven)
    if proven.is_sqlite:
        assert f"{column} is real, no integer" in {one.text for one in found if one.invariant == 2}
    else:  # it rounds a fraction to an integer, so that none is ever stored
        assert 2 not in {one.invariant for one in found}


def test_an_answer_that_cant_be_read_is_found(proven: Books):
    nonsense = "X'7B'" if proven.is_sqlite else "'\\x7b'"
    plant(proven, f"UPDATE transactions SET answer = {nonsense} WHERE kind = 'grant'")
    assert [one.text for one in proof.prove(proven)] == ["its answer can't be read"]


def test_a_cached_balance_that_is_gone_is_found(proven: Books):
    off, on = (
        ("PRAGMA foreign_keys=OFF", "PRAGMA foreign_keys=ON")
        if proven.is_sqlite
        else ("SET session_replication_role = replica", "SET session_replication_role = origin")
    )
    with proven.engine.connect() as connection:
        raw = connection.connection.cursor()
        raw.execute(off)
        trigger, gone = "DROP TRIGGER immutable_ledger_accounts_delete", "DELETE FROM ledger_accounts WHERE "
        if proven.is_sqlite:
            raw.execute(trigger)
        raw.execute(f"{gone} ledger_account_id = 'fen:sales'")
        raw.execute(on)
        connection.connection.commit()
    with proven.write() as connection:
        immutability.enforce(connection)
    (found,) = proof.prove(proven)
    assert str(found).startswith(
        "invariant 4: fen:sales: the cached balance is missing, the sum of its postings "
    )


def test_channels_that_serve_twice_at_a_time_are_found_and_a_handover_is_not(proven: Books):
    numbers = itertools.count(10)

    def add(channel: int, from_at: datetime, to_at: datetime) -> None:
        with proven.write() as connection:
            connection.execute(
                sa.insert(tables.channel_spans).values(
                    span_id=next(numbers),
                    circuit_id="r1-lighting",
                    module_id="m1",
                    channel=channel,
                    from_at=from_at,
                    to_at=to_at,
                )
            )

    begun_at = datetime(2026, 1, 1, tzinfo=UTC)  # of both circuits' present channels, 0 and 1
    add(1, begun_at - timedelta(days=1), begun_at)
    assert proof.prove(proven) == []
    add(5, begun_at, begun_at + timedelta(days=1))
    assert [str(one) for one in proof.prove(proven)] == [
        "invariant 10: r1-lighting: two channels serve the circuit at the same time"
    ]
    add(1, begun_at + timedelta(days=1), begun_at + timedelta(days=2))
    assert "the channel serves two circuits at the same time" in {one.text for one in proof.prove(proven)}


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
