"""`dormpower restore FILE`: checked whole before anything is touched, then put in place, then in shadow.

What refuses leaves everything as it was. A dump for PostgreSQL is proven in the database itself, with the books
that were there set aside (`restore_postgresql`), before the first file is put in place.

A backup is older than the world: meanwhile people paid, relays were switched, modules replaced. So a restored
site starts in shadow (policies decide and record, nothing is cut) until `dormpower restore --confirm`.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from config.settings import load, places_of, resolve_path
from dormpower.books import migration
from dormpower.books.database import Books, open_books
from dormpower.books.in_use import UnableToLockBooksError, alone
from dormpower.books.shadow import confirm, require_confirmation
from dormpower.books.tables import leases
from dormpower.clock import load_clock
from dormpower.commands.archive import ArchivedFile, Manifest, unpack
from dormpower.commands.ledger import broken_rules
from dormpower.commands.opening import ConfigOption, operator, site_books
from dormpower.commands.restore_postgresql import loaded_dump
from dormpower.commands.restore_targets import targets_of

_SIDE_FILES = ("-wal", "-shm")


class UnableToRestoreError(Exception):
    """Nothing was restored; the message says why and what to do."""


def restore(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="The archive to restore.")] = None,
    config: ConfigOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is there; it is moved aside, not deleted.")
    ] = False,
    confirmed: Annotated[
        bool, typer.Option("--confirm", help="End the shadow: the restored site may cut again.")
    ] = False,
) -> None:
    """Check a backup whole, put it beside the site file, start in shadow; --confirm ends the shadow."""
    if (file is None) == (not confirmed):
        raise typer.BadParameter("expected either FILE or --confirm")
    if file is None:
        _confirm(config)
        return
    site_path = resolve_path(config).resolve()
    site_path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=site_path.parent, prefix=".dormpower-restore-") as name:
        folder = Path(name)
        manifest = unpack(file, folder)
        targets = targets_of(manifest, site_path)
        _refuse_overwriting(targets.values(), force=force)
        with _alone_in(site_path.parent):
            _refuse_running(targets.get("books"))
            _check_databases(manifest, folder)
            with _database_of_dump(manifest, folder, force=force) as schema:
                aside = _replace(manifest, folder, targets, site_path.parent)
    typer.echo(f"{site_path.parent}: restored the backup of {manifest.site_id} made at {manifest.made_at}")
    if aside is not None:
        typer.echo(f"what was there is in {aside}", err=True)
    if schema is not None:
        typer.echo(f"the books that were there are in the schema {schema} of the database", err=True)
    for missing in manifest.not_included:
        typer.echo(f"not in the backup, put it back yourself: {missing}", err=True)
    typer.echo("The site is in shadow: nothing is cut until you run `dormpower restore --confirm`.", err=True)


@contextmanager
def _database_of_dump(manifest: Manifest, folder: Path, *, force: bool) -> Iterator[str | None]:
    """Load the dump, where the backup has one, for a body that puts the files in place."""
    dump, site = manifest.of_role("books_dump"), manifest.of_role("site")
    if dump is None or site is None:
        yield None
        return

    def accept(books: Books) -> None:
        _put_in_shadow(books)
        _prove(books)

    database = places_of(folder / site.name).database
    with loaded_dump(database, folder / dump.name, force=force, accept=accept) as schema:
        yield schema


def _replace(manifest: Manifest, folder: Path, targets: Mapping[str, Path], beside: Path) -> Path | None:
    """Put the files in place of what is there, which is moved aside; returns to where, None where nothing was.

    What fails half way is undone: on another disk there may be no room.
    """
    aside = beside / f"before-restore-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    moved: dict[Path, Path] = {}
    placed: list[Path] = []
    try:
        _move_aside(targets.values(), aside, moved)
        _put_in_place(manifest, folder, targets, placed)
    except BaseException:
        for target in placed:  # nothing else: what could not be moved aside is still in its place
            target.unlink(missing_ok=True)
        for place, kept in moved.items():
            shutil.move(kept, place)
        with suppress(OSError):  # there was none, or half a copy is left in it
            aside.rmdir()
        raise
    return aside if moved else None


def _put_in_place(manifest: Manifest, folder: Path, targets: Mapping[str, Path], placed: list[Path]) -> None:
    """Move the files where they belong; `placed` is told of each target before it is written."""
    for entry in manifest.files:
        if entry.role != "books_dump":
            target = targets[entry.role]
            target.parent.mkdir(parents=True, exist_ok=True)
            placed.append(target)
            shutil.move(folder / entry.name, target)  # the target may be on another disk


def _refuse_overwriting(targets: Iterable[Path], *, force: bool) -> None:
    present = [str(path) for path in targets if path.exists()]
    if present and not force:
        raise UnableToRestoreError(
            f"{present[0]}: exists already; restore into an empty folder, "
            "or use --force, which moves aside what is there"
        )


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    try:
        with alone(folder):
            yield
    except UnableToLockBooksError as refusal:
        raise UnableToRestoreError(str(refusal)) from refusal


def _refuse_running(books_path: Path | None) -> None:
    """Refuse while a process of the present site holds a lease: it would go on writing to the old books."""
    if books_path is None or not books_path.is_file():
        return
    now = datetime.now(UTC)
    with closing(sqlite3.connect(f"file:{books_path}?mode=ro", uri=True)) as connection:
        try:
            rows = connection.execute(
                "SELECT name, holder FROM leases WHERE until_at > ?", (int(now.timestamp() * 1000),)
            ).fetchall()
        except sqlite3.Error:
            return  # not books that anybody could be running on
    if rows:
        name, holder = rows[0]
        raise UnableToRestoreError(
            f"{books_path}: in use: {holder} holds {name}; stop `dormpower serve` first, then wait a minute"
        )


def _check_databases(manifest: Manifest, folder: Path) -> None:
    """Check integrity, bring the books to this version, prove them and put them in shadow; all in the copy."""
    for role in ("books", "readings"):
        entry = manifest.of_role(role)
        if entry is not None:
            _check_integrity(folder / entry.name, entry)
    entry = manifest.of_role("books")
    if entry is None:
        return
    books = open_books(f"sqlite:///{folder / entry.name}")
    try:
        migration.upgrade(books)
        _prove(books)
        _put_in_shadow(books)
        with books.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        books.close()


def _check_integrity(path: Path, entry: ArchivedFile) -> None:
    try:
        with closing(sqlite3.connect(path)) as connection:
            answer = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.Error as fault:
        answer = str(fault)
    if answer != "ok":
        raise UnableToRestoreError(f"{entry.name}: the database is damaged: {answer}; use another backup")


def _prove(books: Books) -> None:
    broken = broken_rules(books)
    if broken:
        raise UnableToRestoreError("\n".join(["the books of this backup don't prove:", *broken]))


def _put_in_shadow(books: Books) -> None:
    with books.write() as connection:
        require_confirmation(connection)
        connection.execute(sa.delete(leases))  # of processes that are not here


def _move_aside(targets: Iterable[Path], aside: Path, moved: dict[Path, Path]) -> None:
    """Move what is there into a folder; `moved` is told of each file when it has gone."""
    for path in targets:
        for present in (path, *(path.with_name(path.name + side) for side in _SIDE_FILES)):
            if present.exists():
                aside.mkdir(exist_ok=True)
                shutil.move(present, aside / present.name)
                moved[present] = aside / present.name


def _confirm(config: Path | None) -> None:
    settings = load(config)
    with site_books(settings) as books, books.write() as connection:
        now = load_clock(settings.folder).now()
        if not confirm(connection, actor=operator(), site_id=settings.site.site_id, now=now):
            raise UnableToRestoreError("the site is not in shadow; there is nothing to confirm")
    typer.echo("confirmed: policies act again; a gateway that runs goes by it within seconds")
