"""Bringing a database to this version's schema, and refusing to work on another.

Only `dormpower migrate` and `dormpower serve` migrate; every other process calls `require_current`.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from dormpower.books import immutability
from dormpower.books.database import Books, lock_rows

_MIGRATIONS = Path(__file__).parent / "migrations"


class UnableToUseBooksError(Exception):
    """The books have another schema version than this program; the message says what to do."""


def head() -> str:
    """Return the schema version that this program works with."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    if newest is None:
        raise UnableToUseBooksError(f"{_MIGRATIONS}: no migrations found; install dormpower again")
    return newest


def current(books: Books) -> str | None:
    """Return the books' schema version; None for a database without the books' tables."""
    with books.read() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def upgrade(books: Books) -> None:
    """Bring the books to this program's version in one transaction; does nothing that is already done.

    Raises UnableToUseBooksError for books of a newer program.
    """
    version = current(books)
    _refuse_unknown(version)
    with books.write() as connection:
        lock_rows(connection, "migrate")
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        immutability.enforce(connection)


def require_current(books: Books) -> None:
    """Do nothing for books of this program's version; raise UnableToUseBooksError for any other."""
    version, expected = current(books), head()
    if version == expected:
        return
    _refuse_unknown(version)
    if version is None:
        raise UnableToUseBooksError(
            f"database: expected the books at version {expected}, found none; run `dormpower migrate`"
        )
    raise UnableToUseBooksError(
        f"database: expected the books at version {expected}, found {version}; run `dormpower migrate`"
    )


def _refuse_unknown(version: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if version is not None and version not in known:
        raise UnableToUseBooksError(
            f"database: the books are at version {version}, which this program (version {head()}) "
            "does not know; they belong to a newer dormpower: "
            "upgrade the program, or restore a backup of before its upgrade"
        )


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
