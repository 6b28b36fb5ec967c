"""What commands share: the `--config` option, opening a site and its books, and who is at the keyboard."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer

from config.settings import Settings
from dormpower.books import migration
from dormpower.books.database import Books, open_books
from dormpower.clock import load_clock

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="The site file; else DORMPOWER_CONFIG, else ./dormpower.yaml."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else.")]


@contextmanager
def site_books(settings: Settings) -> Iterator[Books]:
    """Open the books of a site; refuses books of another version (`dormpower migrate`)."""
    books = open_books(settings.database, base=settings.folder)
    try:
        migration.require_current(books)
        yield books
    finally:
        books.close()


def campus_now(settings: Settings) -> tuple[datetime, date]:
    """Return the campus instant and the campus day."""
    now = load_clock(settings.folder).now()
    return now, now.astimezone(settings.zone).date()


def operator() -> str:
    """Return who runs the command, for the audit log: `cli:alice`."""
    try:
        return f"cli:{getpass.getuser()}"
    except (OSError, KeyError):  # a container's user without a name
        return f"cli:uid-{os.getuid()}"
