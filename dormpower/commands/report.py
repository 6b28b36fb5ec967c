"""`dormpower report`: who was shed, who would have been off, and the rate of false trips."""

from typing import Annotated, Any

import typer

from config.settings import load
from dormpower.books import fairness, reports, reviews, shadow_alarms
from dormpower.commands.opening import ConfigOption, JsonOption, campus_now, site_books
from dormpower.commands.showing import (
    BuildingOption,
    CampusOption,
    CursorOption,
    FromOption,
    LanguageOption,
    LimitOption,
    ToOption,
    period,
    picked,
    show_json,
    show_table,
)
from dormpower.domain.days import CampusDays
from dormpower.domain.evidence import prohibited_evidence, shown_evidence
from dormpower.domain.holds import Reason, reason_of
from dormpower.messages.catalogue import text

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Reports on what rules did, or would have done."
)

_SHADOW_FIELDS = (
    "hold_id",
    "circuit_id",
    "room_id",
    "campus",
    "building",
    "reason",
    "placed_by",
    "from_at",
    "to_at",
)
_SHADOW_ALARM_FIELDS = (
    "shadow_alarm_id",
    "kind",
    "circuit_id",
    "room_id",
    "campus",
    "building",
    "from_at",
    "to_at",
)
_RATE_FIELDS = ("campus", "building", "trips", "alarms", "reviewed", "false", "rate")


@app.command("fairness")
def fairness_report(
    *,
    from_on: FromOption = None,
    to_on: ToOption = None,
    campus: CampusOption = None,
    building: BuildingOption = None,
    feeder: Annotated[str | None, typer.Option(help="Only below this feeder.")] = None,
    shadow: Annotated[bool, typer.Option("--shadow", help="Turns that were only in shadow.")] = False,
    limit: LimitOption = 50,
    cursor: CursorOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who was shed for how long, longest off first."""
    settings = load(config)
    now, today = campus_now(settings)
    first_on, last_on = period(from_on, to_on, today=today)
    with site_books(settings) as books, books.read() as connection:
        found = fairness.report(
            connection,
            from_on=first_on,
            to_on=last_on,
            which=fairness.Which(campus=campus, building=building, feeder_id=feeder, shadow=shadow),
            now=now,
            days=CampusDays(settings.zone),
            limit=limit,
            cursor=cursor,
        )
    names = ("room_id", "circuit_id", "minutes_off", "turns")
    if as_json:
        figures = picked(found, ("circuits", "minutes_off", "longest_minutes_off"))
        items = [picked(one, names) for one in found.items]
        show_json({**figures, "items": items, "next_cursor": found.next_cursor})
        return
    show_table(
        ("room", "circuit", "minutes off", "turns"),
        (tuple(picked(one, names).values()) for one in found.items),
        zone=settings.zone,
        next_cursor=found.next_cursor,
    )
    typer.echo(
        f"{first_on} to {last_on}: {found.circuits} circuits, {found.minutes_off} minutes together, "
        f"{found.longest_minutes_off} at most",
        err=True,
    )


@app.command("shadow")
def shadow_report(
    *,
    from_on: FromOption = None,
    to_on: ToOption = None,
    reason: Annotated[Reason | None, typer.Option(help="Only for this reason.")] = None,
    campus: CampusOption = None,
    building: BuildingOption = None,
    limit: LimitOption = 50,
    cursor: CursorOption = None,
    language: LanguageOption = "en",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show who would have been off by rules in shadow, when and why, newest first."""
    settings = load(config)
    _, today = campus_now(settings)
    first_on, last_on = period(from_on, to_on, today=today)
    days = CampusDays(settings.zone)
    with site_books(settings) as books, books.read() as connection:
        found, next_cursor = reports.would_have_been_off(
            connection,
            since=days.start_of(first_on),
            until=days.end_of(last_on),
            reason=reason,
            campus=campus,
            building=building,
            limit=limit,
            cursor=cursor,
        )

    def why(one: reports.WouldHaveBeenOff) -> str | None:
        evidence = shown_evidence(reason_of(one.reason), one.evidence)
        return None if evidence is None else text(evidence.code, evidence.params, language, zone=settings.zone)

    if as_json:
        items: list[dict[str, Any]] = [{**picked(one, _SHADOW_FIELDS), "why": why(one)} for one in found]
        show_json({"items": items, "next_cursor": next_cursor})
        return
    show_table(
        ("circuit", "reason", "from", "to", "why"),
        ((one.circuit_id, one.reason, one.from_at, one.to_at, why(one)) for one in found),
        zone=settings.zone,
        next_cursor=next_cursor,
    )


@app.command("shadow-alarms")
def shadow_alarms_report(
    *,
    from_on: FromOption = None,
    to_on: ToOption = None,
    campus: CampusOption = None,
    building: BuildingOption = None,
    limit: LimitOption = 50,
    cursor: CursorOption = None,
    language: LanguageOption = "en",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what rules in shadow would have told without cutting anybody, newest first."""
    settings = load(config)
    _, today = campus_now(settings)
    first_on, last_on = period(from_on, to_on, today=today)
    days = CampusDays(settings.zone)
    with site_books(settings) as books, books.read() as connection:
        found, next_cursor = shadow_alarms.report(
            connection,
            since=days.start_of(first_on),
            until=days.end_of(last_on),
            campus=campus,
            building=building,
            limit=limit,
            cursor=cursor,
        )

    def why(one: shadow_alarms.WouldHaveBeenTold) -> str:
        evidence = prohibited_evidence(one.evidence)
        return text(evidence.code, evidence.params, language, zone=settings.zone)

    if as_json:
        items: list[dict[str, Any]] = [{**picked(one, _SHADOW_ALARM_FIELDS), "why": why(one)} for one in found]
        show_json({"items": items, "next_cursor": next_cursor})
        return
    show_table(
        ("circuit", "kind", "from", "to", "why"),
        ((one.circuit_id, one.kind, one.from_at, one.to_at, why(one)) for one in found),
        zone=settings.zone,
        next_cursor=next_cursor,
    )


@app.command("false-trips")
def false_trips(
    from_on: FromOption = None,
    to_on: ToOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show each building's prohibited-load decisions and the share of the reviewed ones that were false."""
    settings = load(config)
    _, today = campus_now(settings)
    first_on, last_on = period(from_on, to_on, today=today)
    days = CampusDays(settings.zone)
    with site_books(settings) as books, books.read() as connection:
        found = reviews.false_trips(connection, since=days.start_of(first_on), until=days.end_of(last_on))
    if as_json:
        show_json({"items": [picked(one, _RATE_FIELDS) for one in found]})
        return
    show_table(
        _RATE_FIELDS,
        (
            (*list(picked(one, _RATE_FIELDS).values())[:-1], None if one.rate is None else f"{one.rate:.1%}")
            for one in found
        ),
        zone=settings.zone,
    )
