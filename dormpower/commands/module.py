"""`dormpower module`: modules that were replaced or newly commissioned, put on record with what they read."""

from typing import Annotated

import typer

from config.limits import channel_limits
from config.settings import load
from dormpower.books import meter_changes
from dormpower.books.meter_change_checks import Change, Kind
from dormpower.clock import load_clock
from dormpower.commands.opening import ConfigOption, JsonOption, operator, site_books
from dormpower.commands.showing import CursorOption, LimitOption, instant, show_json, show_table
from dormpower.domain.spans import UnableToChangeMeterError
from dormpower.domain.units import MAX_ENERGY_WH
from dormpower.wake import send_wake

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

CircuitArgument = Annotated[str, typer.Argument(metavar="CIRCUIT")]
AtOption = Annotated[str, typer.Option("--at", metavar="INSTANT", help="When, in campus time.")]
NoteOption = Annotated[str, typer.Option(help="Why, for the record.")]
_REGISTER = {"min": 0, "max": MAX_ENERGY_WH, "metavar": "WH"}


@app.command("replaced")
def replaced(
    circuit: CircuitArgument,
    *,
    at: AtOption,
    note: NoteOption,
    final_wh: Annotated[
        int | None,
        typer.Option(help="What the old module read last; else what it used since is lost.", **_REGISTER),
    ] = None,
    first_wh: Annotated[
        int | None, typer.Option(help="What the new one read first; else three readings tell.", **_REGISTER)
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Record that the module of a circuit was replaced; prints the record's id.

    The new module is the one that the site file names for the circuit: the same id where new hardware took the
    old address, else describe the site with it before.
    """
    _record(circuit, Kind.REPLACEMENT, at=at, note=note, final_wh=final_wh, first_wh=first_wh, config=config)


@app.command("commissioned")
def commissioned(
    circuit: CircuitArgument,
    *,
    at: AtOption,
    note: NoteOption,
    first_wh: Annotated[int, typer.Option(help="What the module read then.", **_REGISTER)],
    config: ConfigOption = None,
) -> None:
    """Record what the module of a new circuit read when it went into service; prints the record's id."""
    _record(circuit, Kind.COMMISSIONING, at=at, note=note, final_wh=None, first_wh=first_wh, config=config)


@app.command("changes")
def changes(
    *,
    circuit: Annotated[str | None, typer.Option(metavar="CIRCUIT", help="Only this circuit.")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only what is not carried out yet.")] = False,
    limit: LimitOption = 50,
    cursor: CursorOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what was recorded, newest first, and what became of it."""
    settings = load(config)
    with site_books(settings) as books, books.read() as connection:
        found, next_cursor = meter_changes.listing(
            connection, circuit_id=circuit, closed=False if waiting else None, limit=limit, cursor=cursor
        )
    if as_json:
        show_json({"items": found, "next_cursor": next_cursor})
        return
    show_table(
        ("record", "circuit", "kind", "module", "channel", "at", "final Wh", "first Wh", "by", "outcome"),
        (
            (
                one.meter_change_id,
                one.circuit_id,
                one.kind.value,
                one.module_id,
                one.channel,
                one.changed_at,
                one.final_register_wh,
                one.first_register_wh,
                one.recorded_by,
                one.refusal or one.outcome or "waits",
            )
            for one in found
        ),
        zone=settings.zone,
        next_cursor=next_cursor,
    )


def _record(
    circuit_id: str,
    kind: Kind,
    *,
    at: str,
    note: str,
    final_wh: int | None,
    first_wh: int | None,
    config: ConfigOption,
) -> None:
    settings = load(config)
    changed_at = instant("--at", at, settings.zone)
    clock = load_clock(settings.folder)
    described = {circuit.circuit_id: circuit for circuit in settings.site.circuits()}.get(circuit_id)
    if described is None:
        raise UnableToChangeMeterError(f"{circuit_id}: the site file describes no such circuit")
    change = Change(
        kind=kind,
        module_id=described.module_id,
        channel=described.channel,
        changed_at=changed_at,
        final_register_wh=final_wh,
        first_register_wh=first_wh,
        note=note,
    )
    limits = channel_limits(settings.site, settings.profiles, speed=clock.speed)[circuit_id]
    with site_books(settings) as books, books.write() as connection:
        recorded = meter_changes.record(
            connection, circuit_id=circuit_id, change=change, limits=limits, actor=operator(), now=clock.now()
        )
    send_wake(settings.folder)
    typer.echo(recorded.meter_change_id)
