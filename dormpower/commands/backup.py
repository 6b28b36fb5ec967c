"""`dormpower backup FILE`: the books, the embedded readings and the site's files, while everything runs.

SQLite's online backup copies one snapshot and blocks no writer. The books are copied before the readings: what
a charge cites is in the books themselves, and readings that are newer than the books harm nobody. Secrets
(password and token files) are not included; the manifest names them.
"""

import os
import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from config.settings import EmbeddedReadingsSettings, Settings, load
from dormpower.books import audit_log, migration
from dormpower.clock import CLOCK_FILE, SEEN_FILE, load_clock
from dormpower.commands.archive import FORMAT, ArchivedFile, Manifest, describe, pack
from dormpower.commands.opening import ConfigOption, operator, site_books
from dormpower.commands.restore_postgresql import ASIDE_PREFIX


class UnableToBackUpError(Exception):
    """No backup was made; the message says why and what to do."""


@dataclass(slots=True)
class _Collection:
    """Files gathered in a folder, to be archived."""

    folder: Path
    data_folder: Path
    files: list[ArchivedFile] = field(default_factory=list)

    def add(self, name: str, *, belongs: Path, role: str) -> None:
        """Note a file that has been put into the folder."""
        path = belongs.relative_to(self.data_folder) if belongs.is_relative_to(self.data_folder) else belongs
        self.files.append(describe(self.folder / name, name=name, path=str(path), role=role))

    def copy(self, source: Path, *, name: str, role: str) -> None:
        """Put a plain file into the folder, where there is one."""
        if source.is_file():
            shutil.copyfile(source, self.folder / name)
            self.add(name, belongs=source, role=role)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive to write, a .tar.gz by any name.")],
    config: ConfigOption = None,
) -> None:
    """Back up the books, embedded readings and the site's files into one archive, while all runs."""
    if file.exists():
        raise UnableToBackUpError(f"{file}: exists already; choose another name")
    settings = load(config)
    with tempfile.TemporaryDirectory(dir=file.resolve().parent, prefix=".dormpower-backup-") as name:
        manifest = collect(settings, Path(name))
        archive = Path(name) / "archive"
        pack(archive, Path(name), manifest)
        archive.chmod(0o600)  # it holds password hashes and who lives where
        _sync_file(archive)
        archive.replace(file)
    _note(settings, file)
    typer.echo(f"{file}: {len(manifest.files)} files, {file.stat().st_size} bytes")
    for missing in manifest.not_included:
        typer.echo(f"not included, keep it yourself: {missing}", err=True)


def collect(settings: Settings, folder: Path) -> Manifest:
    """Copy everything into a folder and describe it."""
    collection = _Collection(folder, settings.folder)
    with site_books(settings) as books:
        books_version = migration.head()
        if books.is_sqlite:
            source = Path(books.engine.url.database or "")
            copy_sqlite(source, folder / "books.db")
            collection.add("books.db", belongs=source, role="books")
        else:
            dump_postgresql(books.engine.url, folder / "books.dump")
            collection.add("books.dump", belongs=settings.folder / "books.dump", role="books_dump")
    readings = settings.readings
    store = readings.path if isinstance(readings, EmbeddedReadingsSettings) else readings.outbox_path
    if store.is_file():
        copy_sqlite(store, folder / "readings.db")
        collection.add("readings.db", belongs=store, role="readings")
    collection.copy(settings.path, name="site.yaml", role="site")
    if settings.rooms_path is not None:
        collection.copy(settings.rooms_path, name=f"rooms{settings.rooms_path.suffix}", role="rooms")
    collection.copy(settings.folder / CLOCK_FILE, name=CLOCK_FILE, role="clock")
    collection.copy(settings.folder / SEEN_FILE, name=SEEN_FILE, role="clock_seen")
    return Manifest(
        format=FORMAT,
        site_id=settings.site.site_id,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        program_version=version("dormpower"),
        books_version=books_version,
        not_included=tuple(path.name for path in settings.secret_files),
        files=tuple(collection.files),
    )


def copy_sqlite(source: Path, target: Path) -> None:
    """Copy one snapshot of a database that others may be writing to."""
    with (
        closing(sqlite3.connect(f"file:{source}?mode=rw", uri=True, timeout=30)) as reader,
        closing(sqlite3.connect(target)) as writer,
    ):
        reader.backup(writer)  # all pages in one step: a single read transaction
        writer.execute("PRAGMA journal_mode=DELETE")  # one file, without a -wal beside it


def dump_postgresql(url: sa.URL, target: Path) -> None:
    """Dump a PostgreSQL database with its own tool. Raises UnableToBackUpError where the tool is missing.

    Books that a restore set aside stay out: loading them again would find them there.
    """
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    program = shutil.which("pg_dump")
    options = ["--format=custom", f"--exclude-schema={ASIDE_PREFIX}*"]
    if program is None:
        shown = url.set(drivername="postgresql")
        advice = f"pg_dump {' '.join(options)} --file=books.dump --dbname={shown}"
        raise UnableToBackUpError(
            f"this machine lacks pg_dump; install postgresql-client, or run where it is: {advice}"
        )
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own tool, no shell
        [program, *options, f"--file={target}", f"--dbname={address}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise UnableToBackUpError(f"pg_dump failed: {done.stderr.strip()}")


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _note(settings: Settings, file: Path) -> None:
    with site_books(settings) as books, books.write() as connection:
        audit_log.write(
            connection,
            actor=operator(),
            action="books.backed_up",
            subject_kind="site",
            subject_id=settings.site.site_id,
            detail={"file": file.name},
            now=load_clock(settings.folder).now(),
        )
