"""`dormpower alarm`: what is wrong now, taking note of it, putting it aside."""

import json
from datetime import timedelta
from typing import Annotated, Literal

import typer

from config.settings import load
from dormpower.books import alarms, shelving
from dormpower.books.alarms import Alarm
from dormpower.commands.opening import ConfigOption, JsonOption, campus_now, operator, site_books
from dormpower.commands.showing import BuildingOption, CursorOption, LimitOption, show_json, show_table
from dormpower.domain.alarms import LONGEST_SHELVING_S, AlarmKind

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

_MOST_HOURS = LONGEST_SHELVING_S // 3600


def _hours(typed: float) -> float:
    if not 0 < typed <= _MOST_HOURS:  # what is no number is refused too: every comparison with it is false
        raise typer.BadParameter(f"expected hours above 0, at most {_MOST_HOURS}, got {typed:g}")
    return typed


AlarmArgument = Annotated[str, typer.Argument(metavar="ALARM_ID")]


@app.command("list")
def list_alarms(
    *,
    kind: Annotated[AlarmKind | None, typer.Option(help="Only this kind.")] = None,
    state: Annotated[Literal["active", "cleared", "all"], typer.Option(help="Which of them.")] = "active",
    unacknowledged: Annotated[
        bool, typer.Option("--unacknowledged", help="Only what nobody has taken note of.")
    ] = False,
    shelved: Annotated[
        bool | None, typer.Option("--shelved/--not-shelved", help="Only what is put aside, or is not.")
    ] = None,
    building: BuildingOption = None,
    limit: LimitOption = 50,
    cursor: CursorOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show alarms, newest first."""
    settings = load(config)
    now, _ = campus_now(settings)
    with site_books(settings) as books, books.read() as connection:
        found, next_cursor = alarms.listing(
            connection,
            kinds=None if kind is None else (kind,),
            state=None if state == "all" else state,
            acknowledged=False if unacknowledged else None,
            shelved=None if shelved is None else (shelved, now),
            building=building,
            limit=limit,
            cursor=cursor,
        )
    if as_json:
        show_json({"items": found, "next_cursor": next_cursor})
        return
    show_table(
        ("alarm", "priority", "kind", "of", "raised", "cleared", "acknowledged by", "aside until"),
        (
            (
                one.alarm_id,
                one.priority,
                one.kind,
                one.subject_id,
                one.raised_at,
                one.cleared_at,
                one.acknowledged_by,
                one.shelved_until_at,
            )
            for one in found
        ),
        zone=settings.zone,
        next_cursor=next_cursor,
    )
    for one in found:
        if one.kind == AlarmKind.BUILDING_OPENED and one.cleared_at is None:
            typer.echo(_opened(one), err=True)


def _opened(alarm: Alarm) -> str:
    """Say how a building whose relays were found open comes back."""
    body = json.dumps(alarm.detail["reset"], ensure_ascii=False)
    return (
        f"{alarm.alarm_id}: {alarm.detail['standing']} of {alarm.detail['circuits']} circuits of "
        f"{alarm.subject_id} are still off; after a look at the building: POST /api/v1/resets {body}"
    )


@app.command("acknowledge")
def acknowledge(alarm_id: AlarmArgument, config: ConfigOption = None) -> None:
    """Take note of an alarm; the first person stays on record."""
    settings = load(config)
    now, _ = campus_now(settings)
    with site_books(settings) as books, books.write() as connection:
        alarm = alarms.acknowledge(connection, alarm_id=alarm_id, actor=operator(), now=now)
    typer.echo(f"{alarm_id}: acknowledged by {alarm.acknowledged_by}", err=True)


@app.command("shelve")
def shelve(
    alarm_id: AlarmArgument,
    hours: Annotated[float, typer.Option(help=f"For how long, at most {_MOST_HOURS} hours.", callback=_hours)],
    reason: Annotated[str, typer.Option(help="Why it is put aside.")],
    config: ConfigOption = None,
) -> None:
    """Put an active alarm aside for some hours; the condition is watched all the same."""
    settings = load(config)
    now, _ = campus_now(settings)
    with site_books(settings) as books, books.write() as connection:
        shelving.shelve(
            connection,
            alarm_id=alarm_id,
            until_at=now + timedelta(hours=hours),
            reason=reason,
            actor=operator(),
            now=now,
        )
    typer.echo(f"{alarm_id}: put aside for {hours:g} h", err=True)


@app.command("unshelve")
def unshelve(alarm_id: AlarmArgument, config: ConfigOption = None) -> None:
    """Bring an alarm back before its time."""
    settings = load(config)
    now, _ = campus_now(settings)
    with site_books(settings) as books, books.write() as connection:
        shelving.unshelve(connection, alarm_id=alarm_id, actor=operator(), now=now)
    typer.echo(f"{alarm_id}: back on the list", err=True)
