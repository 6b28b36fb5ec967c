"""What is written in the books stays written: the database itself refuses to change it (invariants 3 and 38).

The triggers are no part of a schema version. SQLite alters a table by copying it, which loses its triggers, so
`migration.upgrade` puts all of them in place anew after each upgrade. `trigger_faults` tells the proof which of
them somebody took away, or left there by name and made to let changes pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

# Rows that are never changed and never deleted.
APPEND_ONLY = (
    "audit_log",
    "audit_seals",
    "lot_moves",
    "postings",
    "state_changes",
    "transactions",
)

# Rows that are never deleted, and columns of theirs that are never changed: facts of the day a row was written,
# beside the few columns that keep its present standing (a cached balance, what is left of a lot).
FIXED_COLUMNS: Mapping[str, Sequence[str]] = {
    "ledger_accounts": ("ledger_account_id", "unit"),
    "lots": (
        "lot_id",
        "account_id",
        "transaction_id",
        "origin",
        "payment_id",
        "issued_at",
        "energy_wh",
        "cost_fen",
        "price_millifen_per_kwh",
        "expires_at",
    ),
    "settled_days": ("circuit_id", "used_on", "account_id"),
}

_PREFIX = "immutable"
_FUNCTION = "dormpower_refuse_change"
_BODY = (
    " BEGIN RAISE EXCEPTION '% of % refused: these rows are immutable, post a correction instead', "
    "TG_OP, TG_TABLE_NAME; END "
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trigger:
    """One trigger, and the statement that makes it: the text that both databases give back for it."""

    name: str
    table: str
    sql: str


def enforce(connection: Connection) -> None:
    """Put every trigger in place, replacing what is there."""
    postgresql = connection.dialect.name == "postgresql"
    if postgresql:
        body = _BODY.replace("%", "%%")
        connection.exec_driver_sql(
            f"CREATE OR REPLACE FUNCTION {_FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS $${body}$$"
        )
    for trigger in _triggers(connection):
        on_table = f" ON {trigger.table}" if postgresql else ""
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {trigger.name}{on_table}")
        connection.exec_driver_sql(trigger.sql)


def trigger_faults(connection: Connection) -> dict[str, str]:
    """Return what is wrong with each trigger that is not as it ought to be, by its name."""
    if connection.dialect.name == "postgresql":
        found = connection.execute(
            sa.text(
                "SELECT tgname, pg_get_triggerdef(pg_trigger.oid, true) FROM pg_trigger "
                "JOIN pg_class ON pg_class.oid = tgrelid "
                "WHERE tgenabled IN ('O', 'A') AND pg_table_is_visible(pg_class.oid)"
            )
        )
    else:
        found = connection.execute(sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
    definitions = {row[0]: row[1] for row in found}
    faults = {
        trigger.name: "the trigger is not the one that refuses changes"
        if trigger.name in definitions
        else "the trigger is missing"
        for trigger in _triggers(connection)
        if definitions.get(trigger.name) != trigger.sql
    }
    if connection.dialect.name == "postgresql":
        bodies = connection.execute(
            sa.text("SELECT prosrc FROM pg_proc WHERE proname = :name AND pg_function_is_visible(oid)"),
            {"name": _FUNCTION},
        ).scalars()
        if list(bodies) != [_BODY]:
            faults[_FUNCTION] = "the function of the triggers does not refuse changes"
    return faults


def _triggers(connection: Connection) -> Iterator[_Trigger]:
    make = _on_postgresql if connection.dialect.name == "postgresql" else _on_sqlite
    for table in APPEND_ONLY:
        yield from make(table, ())
    for table, columns in FIXED_COLUMNS.items():
        yield from make(table, columns)


def _on_postgresql(table: str, columns: Sequence[str]) -> Iterator[_Trigger]:
    update = f"UPDATE OF {', '.join(columns)}" if columns else "UPDATE"
    for action, event, each in (
        ("update", update, "ROW"),
        ("delete", "DELETE", "ROW"),
        ("truncate", "TRUNCATE", "STATEMENT"),
    ):
        name = f"{_PREFIX}_{table}_{action}"
        sql = f"CREATE TRIGGER {name} BEFORE {event} ON {table} FOR EACH {each} EXECUTE FUNCTION {_FUNCTION}()"
        yield _Trigger(name=name, table=table, sql=sql)


def _on_sqlite(table: str, columns: Sequence[str]) -> Iterator[_Trigger]:
    update = f"UPDATE OF {', '.join(columns)}" if columns else "UPDATE"
    for action, event in (("update", update), ("delete", "DELETE")):
        name = f"{_PREFIX}_{table}_{action}"
        sql = (
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, "
            f"'{action} of {table} refused: these rows are immutable, post a correction instead'); END"
        )
        yield _Trigger(name=name, table=table, sql=sql)
