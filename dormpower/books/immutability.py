"""What is written in the books stays written: the database itself refuses to change it (invariants 3 and 38).

The triggers are no part of a schema version. SQLite alters a table by copying it, which loses its triggers, so
`migration.upgrade` puts all of them in place anew after every upgrade, and `missing_triggers` tells the proof
which of them somebody took away.
"""

from collections.abc import Mapping, Sequence

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


def trigger_names(dialect_name: str) -> frozenset[str]:
    """Return the names of all triggers that the books must have on a database."""
    actions = ("update", "delete", "truncate") if dialect_name == "postgresql" else ("update", "delete")
    tables = (*APPEND_ONLY, *FIXED_COLUMNS)
    return frozenset(f"{_PREFIX}_{table}_{action}" for table in tables for action in actions)


def enforce(connection: Connection) -> None:
    """Put every trigger in place, replacing what is there."""
    dialect_name = connection.dialect.name
    if dialect_name == "postgresql":
        connection.exec_driver_sql(
            f"CREATE OR REPLACE FUNCTION {_FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION '%% of %% refused: these rows are immutable, post a correction instead', "
            "TG_OP, TG_TABLE_NAME; END $$"
        )
    for table in APPEND_ONLY:
        _guard(connection, table=table, columns=())
    for table, columns in FIXED_COLUMNS.items():
        _guard(connection, table=table, columns=columns)


def _guard(connection: Connection, *, table: str, columns: Sequence[str]) -> None:
    update = f"UPDATE OF {', '.join(columns)}" if columns else "UPDATE"
    if connection.dialect.name == "postgresql":
        for action, event, each in (
            ("update", update, "ROW"),
            ("delete", "DELETE", "ROW"),
            ("truncate", "TRUNCATE", "STATEMENT"),
        ):
            name = f"{_PREFIX}_{table}_{action}"
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name} ON {table}")
            connection.exec_driver_sql(
                f"CREATE TRIGGER {name} BEFORE {event} ON {table} "
                f"FOR EACH {each} EXECUTE FUNCTION {_FUNCTION}()"
            )
        return
    for action, event in (("update", update), ("delete", "DELETE")):
        name = f"{_PREFIX}_{table}_{action}"
        connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
        connection.exec_driver_sql(
            f"CREATE TRIGGER {name} BEFORE {event} ON {table} BEGIN SELECT RAISE(ABORT, "
            f"'{action} of {table} refused: these rows are immutable, post a correction instead'); END"
        )


def missing_triggers(connection: Connection) -> frozenset[str]:
    """Return the names of triggers that ought to be there and are not (or are switched off)."""
    if connection.dialect.name == "postgresql":
        found = connection.execute(
            sa.text(
                "SELECT tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid "
                "WHERE tgenabled IN ('O', 'A') AND pg_table_is_visible(pg_class.oid)"
            )
        )
    else:
        found = connection.execute(sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'"))
    return trigger_names(connection.dialect.name) - {name for (name,) in found}
