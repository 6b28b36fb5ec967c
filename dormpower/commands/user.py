"""`dormpower user`: who may sign in, where residents live, and bearer tokens for machines."""

import getpass
import sys
from typing import Annotated

import typer

from config.settings import load
from dormpower.books import audit_log, residencies, users
from dormpower.books.passwords import hash_password
from dormpower.clock import load_clock
from dormpower.commands.opening import ConfigOption, operator, site_books

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

DEFAULT_TOKEN_DAYS = 90


class UnableToReadPasswordError(Exception):
    """There is no password on standard input; the message says what was expected."""


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="User name, as typed to sign in.")],
    role: Annotated[users.Role, typer.Option(help="What the user may do.")],
    room: Annotated[
        list[str] | None,
        typer.Option(help="A room where a student lives from now on; more may follow, or repeat the option."),
    ] = None,
    more_rooms: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    config: ConfigOption = None,
) -> None:
    """Add a user. The password is the first line of standard input."""
    if more_rooms and not room:
        raise typer.BadParameter(f"expected one NAME, got also {' '.join(more_rooms)}")
    rooms = [*(room or []), *(more_rooms or [])]
    if rooms and role is not users.Role.STUDENT:
        raise typer.BadParameter(f"--room: only a student lives in a room, got the role {role.value}")
    settings = load(config)
    password_hash = hash_password(_read_password())
    clock = load_clock(settings.folder)
    with site_books(settings) as books, books.write() as connection:
        user_id = users.add_user(
            connection,
            username=name,
            role=role,
            password_hash=password_hash,
            now=clock.real_now(),
        )
        for room_id in rooms:
            residencies.begin_residency(connection, user_id=user_id, room_id=room_id, from_at=clock.now())
        audit_log.write(
            connection,
            actor=operator(),
            action="user.added",
            subject_kind="user",
            subject_id=name,
            detail={"role": role.value, "rooms": rooms},
            now=clock.now(),
        )
    typer.echo(f"added {name} ({role.value})", err=True)


@app.command("token")
def token(
    name: Annotated[str | None, typer.Argument(help="The user that the token acts for.")] = None,
    days: Annotated[
        int, typer.Option(min=1, max=users.MAX_TOKEN_DAYS, help="How long the token lives.")
    ] = DEFAULT_TOKEN_DAYS,
    revoke: Annotated[str | None, typer.Option(metavar="ID", help="End this token instead.")] = None,
    config: ConfigOption = None,
) -> None:
    """Issue a bearer token and print it once, or revoke one by its id."""
    if (name is None) == (revoke is None):
        raise typer.BadParameter("expected a user NAME or --revoke ID, one of them")
    settings = load(config)
    clock = load_clock(settings.folder)
    with site_books(settings) as books, books.write() as connection:
        if revoke is not None:
            users.revoke_token(connection, token_id=revoke, now=clock.real_now())
            issued = None
        else:
            user = users.find_user(connection, username=name or "")
            issued = users.issue_token(connection, user_id=user.user_id, days=days, now=clock.real_now())
        audit_log.write(
            connection,
            actor=operator(),
            action="token.revoked" if issued is None else "token.issued",
            subject_kind="token",
            subject_id=revoke or (issued.token_id if issued else ""),
            detail={} if issued is None else {"username": name, "days": days},
            now=clock.now(),
        )
    if issued is None:
        typer.echo(f"revoked {revoke}", err=True)
        return
    typer.echo(issued.secret)
    typer.echo(
        f"token {issued.token_id} of {name}, until {issued.expires_at:%Y-%m-%d}; it is not shown again",
        err=True,
    )


@app.command("disable")
def disable(name: Annotated[str, typer.Argument(help="User name.")], config: ConfigOption = None) -> None:
    """Shut a user out at once: sessions end and tokens are revoked."""
    settings = load(config)
    clock = load_clock(settings.folder)
    with site_books(settings) as books, books.write() as connection:
        users.disable_user(connection, username=name, now=clock.real_now())
        audit_log.write(
            connection,
            actor=operator(),
            action="user.disabled",
            subject_kind="user",
            subject_id=name,
            detail={},
            now=clock.now(),
        )
    typer.echo(f"disabled {name}", err=True)


def _read_password() -> str:
    if sys.stdin.isatty():
        return getpass.getpass("Password: ")
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise UnableToReadPasswordError(
            "password: expected it as the first line of standard input, got nothing"
        )
    return password
