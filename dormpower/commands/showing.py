"""What commands that list things share: tables for people, JSON for programs, days and instants as typed."""

import sys
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dormpower.domain.reach import day_within_reach, instant_within_reach
from dormpower.messages.catalogue import Language

USUAL_DAYS = 30
_PIPED_WIDTH = 200  # a table in a file or a pipe is not broken to a terminal's width

FromOption = Annotated[
    datetime | None,
    typer.Option(
        "--from", formats=["%Y-%m-%d"], metavar="DAY", help="First campus day; else 30 days up to --to."
    ),
]
ToOption = Annotated[
    datetime | None,
    typer.Option("--to", formats=["%Y-%m-%d"], metavar="DAY", help="Last campus day; else today."),
]
LimitOption = Annotated[int, typer.Option(min=1, max=200, help="How many at most.")]
CursorOption = Annotated[str | None, typer.Option(help="Go on where the last page ended.")]
LanguageOption = Annotated[Language, typer.Option(help="Language of the sentences.")]
CampusOption = Annotated[str | None, typer.Option(help="Only this campus.")]
BuildingOption = Annotated[str | None, typer.Option(help="Only this building.")]


def period(from_on: datetime | None, to_on: datetime | None, *, today: date) -> tuple[date, date]:
    """Return the first and the last day that were asked for. Raises BadParameter for none or out of reach."""
    last_on = _day("--to", to_on) or today
    first_on = _day("--from", from_on) or last_on - timedelta(days=USUAL_DAYS - 1)
    if first_on > last_on:
        raise typer.BadParameter(f"--from, --to: expected --from not after --to, got {first_on} and {last_on}")
    return first_on, last_on


def instant(option: str, text: str, zone: ZoneInfo) -> datetime:
    """Return a typed instant in UTC; without an offset it is the campus's, a day is its first instant.

    Raises BadParameter for what is none, or out of reach.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError as fault:
        raise typer.BadParameter(
            f"{option}: expected an instant such as 2026-06-30T18:00, got {text!r}"
        ) from fault
    try:
        return instant_within_reach(at.replace(tzinfo=zone) if at.tzinfo is None else at)
    except ValueError as fault:
        raise typer.BadParameter(f"{option}: {fault}") from fault


def _day(option: str, typed: datetime | None) -> date | None:
    try:
        return None if typed is None else day_within_reach(typed.date())
    except ValueError as fault:
        raise typer.BadParameter(f"{option}: {fault}") from fault


def show_json(content: Any) -> None:
    """Write one JSON document on standard output; instants in RFC 3339 UTC."""
    typer.echo(orjson.dumps(content, option=orjson.OPT_UTC_Z))


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, zone: ZoneInfo, next_cursor: str | None = None
) -> None:
    """Write a table on standard output, times as on campus; how to go on is told on standard error."""
    table = Table(*columns)
    for row in rows:
        table.add_row(*(Text(_written(cell, zone)) for cell in row))
    if table.row_count:
        Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH).print(table)
    else:
        typer.echo("there are none", err=True)
    if next_cursor is not None:
        typer.echo(f"there are more: --cursor {next_cursor}", err=True)


def picked(value: object, names: Sequence[str]) -> dict[str, Any]:
    """Return some attributes by name."""
    return {name: getattr(value, name) for name in names}


def _written(cell: object, zone: ZoneInfo) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, datetime):
        return cell.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S")
    return str(cell)
