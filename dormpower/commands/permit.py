"""`dormpower permit`: appliances that a room may use for a time although they look prohibited."""

from typing import Annotated

import typer

from config.settings import load
from dormpower.books import permits
from dormpower.commands.opening import ConfigOption, JsonOption, campus_now, operator, site_books
from dormpower.commands.showing import CursorOption, LimitOption, instant, show_json, show_table
from dormpower.wake import send_wake

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.command("list")
def list_permits(
    room: Annotated[str | None, typer.Option(metavar="ROOM_ID", help="Only this room.")] = None,
    limit: LimitOption = 50,
    cursor: CursorOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show permits, ended ones too, newest first."""
    settings = load(config)
    with site_books(settings) as books, books.read() as connection:
        found, next_cursor = permits.listing(connection, room_id=room, limit=limit, cursor=cursor)
    if as_json:
        show_json({"items": found, "next_cursor": next_cursor})
        return
    show_table(
        ("permit", "room", "appliance", "W", "from", "to", "by", "revoked"),
        (
            (
                one.permit_id,
                one.room_id,
                one.appliance,
                f"{one.from_w}–{one.to_w}",
                one.from_at,
                one.to_at,
                one.granted_by,
                one.revoked_at,
            )
            for one in found
        ),
        zone=settings.zone,
        next_cursor=next_cursor,
    )


@app.command("grant")
def grant(
    room: Annotated[str, typer.Argument(metavar="ROOM_ID")],
    *,
    appliance: Annotated[str, typer.Option(help="What is permitted.")],
    from_w: Annotated[int, typer.Option(min=0, help="Least power of its step.")],
    to_w: Annotated[int, typer.Option(min=1, help="Greatest power of its step.")],
    until: Annotated[str, typer.Option(metavar="INSTANT", help="Until when, in campus time.")],
    start: Annotated[
        str | None, typer.Option("--from", metavar="INSTANT", help="Since when; else now.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Permit an appliance in a room for a time; prints the permit's id."""
    settings = load(config)
    to_at = instant("--until", until, settings.zone)
    from_at = None if start is None else instant("--from", start, settings.zone)
    now, _ = campus_now(settings)
    with site_books(settings) as books, books.write() as connection:
        permit = permits.grant(
            connection,
            room_id=room,
            appliance=appliance,
            from_w=from_w,
            to_w=to_w,
            from_at=from_at,
            to_at=to_at,
            actor=operator(),
            now=now,
        )
    send_wake(settings.folder)
    typer.echo(permit.permit_id)


@app.command("revoke")
def revoke(permit_id: Annotated[str, typer.Argument(metavar="PERMIT_ID")], config: ConfigOption = None) -> None:
    """End a permit before its time."""
    settings = load(config)
    now, _ = campus_now(settings)
    with site_books(settings) as books, books.write() as connection:
        permits.revoke(connection, permit_id=permit_id, actor=operator(), now=now)
    send_wake(settings.folder)
    typer.echo(f"revoked {permit_id}", err=True)
