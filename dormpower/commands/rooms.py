"""`dormpower rooms import|export`: the list of rooms as a CSV file or a workbook."""

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from config.rooms_file import COLUMNS, UnableToWriteRoomsError, write_rooms
from config.settings import load, load_with_rooms, rooms_of
from config.site_file import RoomRow
from dormpower.books.sites import sync_site
from dormpower.commands.opening import ConfigOption, JsonOption, campus_now, operator, site_books

app = typer.Typer(no_args_is_help=True, help="Import and export the list of rooms (CSV or XLSX).")
FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A .csv or .xlsx file.")]
_SUFFIXES = (".csv", ".xlsx")
_SHOWN = 40


class UnableToImportRoomsError(Exception):
    """The rooms can't be taken over; the message says why."""


@app.command("export")
def export_rooms(file: FileArgument, config: ConfigOption = None) -> None:
    """Write all rooms to FILE; importing it again changes nothing."""
    _require_table(file)
    rooms = rooms_of(load(config))
    write_rooms(file, (room.row for room in rooms))
    typer.echo(f"{file}: {len(rooms)} rooms", err=True)


@app.command("import")
def import_rooms(
    file: FileArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
) -> None:
    """Check FILE whole, show what changes, replace the site's rooms_file and sync the books."""
    _require_table(file)
    present = load(config)
    if present.rooms_path is None:
        raise UnableToImportRoomsError(
            f"{present.path}: rooms are inline; expected rooms_file: rooms.csv to import into"
        )
    settings, sourced = load_with_rooms(config, file)
    rows = {room.row.room_id: room.row for room in sourced}
    before = {room.row.room_id: room.row for room in rooms_of(present)}
    changes = compare(before, rows)
    if as_json:
        typer.echo(json.dumps({**changes, "dry_run": dry_run}, ensure_ascii=False))
    else:
        _show(changes)
    if dry_run:
        return
    with site_books(settings) as books:
        # The books refuse first, the file is replaced last and in one step: what stands in it was accepted.
        now, today = campus_now(settings)
        prepared = _prepare(present.rooms_path, list(rows.values()))
        try:
            sync_site(books=books, site=settings.site, now=now, today=today, actor=operator())
            prepared.replace(present.rooms_path)
        finally:
            prepared.unlink(missing_ok=True)
    if not as_json:
        typer.echo(f"{present.rooms_path}: {len(rows)} rooms; the gateway takes them over when it is restarted")


def compare(before: dict[str, RoomRow], after: dict[str, RoomRow]) -> dict[str, list[str]]:
    """Return the ids of rooms that are added, changed and removed."""
    return {
        "added": [room_id for room_id in after if room_id not in before],
        "changed": [
            f"{room_id} ({', '.join(_differing(before[room_id], row))})"
            for room_id, row in after.items()
            if room_id in before and before[room_id] != row
        ],
        "removed": [room_id for room_id in before if room_id not in after],
    }


def _differing(before: RoomRow, after: RoomRow) -> list[str]:
    return [column for column in COLUMNS if getattr(before, column) != getattr(after, column)]


def _prepare(target: Path, rows: list[RoomRow]) -> Path:
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".rooms-", suffix=target.suffix)
    os.close(handle)
    prepared = Path(name)
    write_rooms(prepared, rows)
    if target.exists():
        prepared.chmod(target.stat().st_mode & 0o777)
    return prepared


def _require_table(file: Path) -> None:
    if file.suffix.lower() not in _SUFFIXES:
        raise UnableToWriteRoomsError(f"{file}: expected a name that ends in .csv or .xlsx")


def _show(changes: dict[str, list[str]]) -> None:
    if not any(changes.values()):
        typer.echo("no room changes")
        return
    table = Table("change", "rooms", "which")
    for kind, rooms in changes.items():
        more = f" … and {len(rooms) - _SHOWN} more" if len(rooms) > _SHOWN else ""
        table.add_row(kind, str(len(rooms)), ", ".join(rooms[:_SHOWN]) + more)
    Console().print(table)
