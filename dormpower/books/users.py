"""Users, their sessions and bearer tokens.

Who asks is read from the books at every request, so that a disabled user, a removed role, a revoked token or an
ended session is gone at the next one (invariant 35). Sessions, tokens and sign-in follow real time.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.passwords import digest, new_secret
from dormpower.books.tables import sessions, sign_in_origins, tokens, users

MAX_USERNAME_LENGTH = 64
MAX_TOKEN_DAYS = 3650
MAX_ORIGINS_A_USER = 20
TOKEN_PREFIX = "dpt_"  # noqa: S105 - a public prefix, so that scanners recognise a leaked token


class Role(StrEnum):
    """What a user may do; the matrix of rights is `api/roles.py`."""

    STUDENT = "student"
    FINANCE = "finance"
    MAINTENANCE = "maintenance"
    ADMIN = "admin"


STAFF = frozenset({Role.FINANCE, Role.MAINTENANCE, Role.ADMIN})


class UnableToAddUserError(Exception):
    """The user can't be added; the message says why."""


class UnableToFindUserError(Exception):
    """There is no such user, or it is disabled."""


class UnableToFindTokenError(Exception):
    """There is no such token, or it is already revoked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user that may act now."""

    user_id: int
    username: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What sign-in compares a password with."""

    user: User
    password_hash: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedSession:
    """A new session. The secret is shown to the browser once and kept only as a digest."""

    secret: str
    csrf_token: str
    expires_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUser:
    """A user who acts through a session, and the token that proves an unsafe request is meant."""

    user: User
    csrf_token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A new bearer token; `secret` is shown once."""

    token_id: str
    secret: str
    expires_at: datetime


def add_user(
    connection: Connection,
    *,
    username: str,
    role: Role,
    password_hash: str | None,
    now: datetime,
    demo: bool = False,
) -> int:
    """Add a user and return its id; `now` is real time. Raises UnableToAddUserError for an unusable name."""
    if (
        not 0 < len(username) <= MAX_USERNAME_LENGTH
        or not username.isprintable()
        or username != username.strip()
    ):
        raise UnableToAddUserError(
            f"username: expected 1 to {MAX_USERNAME_LENGTH} printable characters without outer spaces, "
            f"got {username!r}"
        )
    taken = connection.execute(sa.select(users.c.user_id).where(users.c.username == username)).first()
    if taken is not None:
        raise UnableToAddUserError(f"username: {username} exists already; choose another name")
    user_id = connection.execute(
        users.insert()
        .values(username=username, role=role.value, password_hash=password_hash, demo=demo, created_at=now)
        .returning(users.c.user_id)
    ).scalar_one()
    return int(user_id)


def find_user(connection: Connection, *, username: str) -> User:
    """Return an enabled user by name. Raises UnableToFindUserError."""
    row = connection.execute(_active_users().where(users.c.username == username)).one_or_none()
    if row is None:
        raise UnableToFindUserError(f"username: {username} does not exist or is disabled")
    return User(user_id=row.user_id, username=row.username, role=Role(row.role))


def disable_user(connection: Connection, *, username: str, now: datetime) -> None:
    """Shut a user out at once: sessions end, tokens are revoked. Raises UnableToFindUserError."""
    user = find_user(connection, username=username)
    connection.execute(users.update().where(users.c.user_id == user.user_id).values(disabled_at=now))
    connection.execute(sessions.delete().where(sessions.c.user_id == user.user_id))
    connection.execute(
        tokens.update()
        .where(tokens.c.user_id == user.user_id, tokens.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )


def demo_usernames(connection: Connection) -> list[str]:
    """Return the enabled users that only a demo may have; a real site refuses to start with them."""
    rows = connection.execute(
        sa.select(users.c.username)
        .where(users.c.demo.is_(True), users.c.disabled_at.is_(None))
        .order_by(users.c.username)
    )
    return [row.username for row in rows]


def find_credentials(connection: Connection, *, username: str) -> Credentials | None:
    """Return what sign-in needs, or None for a user that does not exist or is disabled."""
    row = connection.execute(
        _active_users().add_columns(users.c.password_hash).where(users.c.username == username)
    ).one_or_none()
    if row is None:
        return None
    user = User(user_id=row.user_id, username=row.username, role=Role(row.role))
    return Credentials(user=user, password_hash=row.password_hash)


# --- sessions ----------------------------------------------------------------------------------------------


def open_session(connection: Connection, *, user_id: int, now: datetime, lifetime: timedelta) -> OpenedSession:
    """Open a session, dropping the user's expired ones."""
    connection.execute(sessions.delete().where(sessions.c.user_id == user_id, sessions.c.expires_at <= now))
    opened = OpenedSession(secret=new_secret(), csrf_token=new_secret(), expires_at=now + lifetime)
    connection.execute(
        sessions.insert().values(
            secret_sha256=digest(opened.secret),
            user_id=user_id,
            csrf_token=opened.csrf_token,
            created_at=now,
            expires_at=opened.expires_at,
        )
    )
    return opened


def close_session(connection: Connection, *, secret: str) -> None:
    """End a session; one that is gone already stays gone."""
    connection.execute(sessions.delete().where(sessions.c.secret_sha256 == digest(secret)))


def session_user(connection: Connection, *, secret: str, now: datetime) -> SessionUser | None:
    """Return who a session's secret stands for, or None where it is unknown, expired or its user disabled."""
    row = connection.execute(_OF_SESSION, {"secret_sha256": digest(secret), "now": now}).one_or_none()
    if row is None:
        return None
    user = User(user_id=row.user_id, username=row.username, role=Role(row.role))
    return SessionUser(user=user, csrf_token=row.csrf_token)


def csrf_matches(*, expected: str, given: str) -> bool:
    """Compare two tokens in constant time."""
    return hmac.compare_digest(expected.encode(), given.encode("utf-8", "surrogateescape"))


# --- bearer tokens -----------------------------------------------------------------------------------------


def issue_token(connection: Connection, *, user_id: int, days: int, now: datetime) -> IssuedToken:
    """Issue a bearer token that lives `days`. Raises ValueError outside 1 to 3650 days."""
    if not 1 <= days <= MAX_TOKEN_DAYS:
        raise ValueError(f"days: expected 1 to {MAX_TOKEN_DAYS}, got {days}")
    issued = IssuedToken(
        token_id=new_secret()[:12].lower().replace("_", "0").replace("-", "1"),
        secret=TOKEN_PREFIX + new_secret(),
        expires_at=now + timedelta(days=days),
    )
    connection.execute(
        tokens.insert().values(
            token_id=issued.token_id,
            user_id=user_id,
            secret_sha256=digest(issued.secret),
            created_at=now,
            expires_at=issued.expires_at,
        )
    )
    return issued


def revoke_token(connection: Connection, *, token_id: str, now: datetime) -> None:
    """Make a token worthless from the next request on. Raises UnableToFindTokenError."""
    revoked = connection.execute(
        tokens.update()
        .where(tokens.c.token_id == token_id, tokens.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    if revoked.rowcount == 0:
        raise UnableToFindTokenError(f"token: {token_id} does not exist or is revoked already")


def token_user(connection: Connection, *, secret: str, now: datetime) -> User | None:
    """Return who a bearer token stands for, or None where it is worth nothing (any more)."""
    row = connection.execute(_OF_TOKEN, {"secret_sha256": digest(secret), "now": now}).one_or_none()
    return None if row is None else User(user_id=row.user_id, username=row.username, role=Role(row.role))


# --- where a user signed in from before (invariant 37) -----------------------------------------------------


def knows_origin(connection: Connection, *, username: str, origins: list[str]) -> list[str]:
    """Return those of the origins (addresses, devices) from which this user has signed in before."""
    digests = {digest(f"{username}\n{origin}"): origin for origin in origins}
    rows = connection.execute(
        sa.select(sign_in_origins.c.origin_sha256).where(sign_in_origins.c.origin_sha256.in_(list(digests)))
    )
    return [digests[row.origin_sha256] for row in rows]


def remember_origins(connection: Connection, *, user: User, origins: list[str], now: datetime) -> None:
    """Record from where a user signed in, the latest 20 of them; kept as digests only."""
    keys = [digest(f"{user.username}\n{origin}") for origin in origins]
    connection.execute(sign_in_origins.delete().where(sign_in_origins.c.origin_sha256.in_(keys)))
    connection.execute(
        sign_in_origins.insert(),
        [{"origin_sha256": key, "user_id": user.user_id, "used_at": now} for key in keys],
    )
    newest = (
        sa.select(sign_in_origins.c.origin_sha256)
        .where(sign_in_origins.c.user_id == user.user_id)
        .order_by(sign_in_origins.c.used_at.desc(), sign_in_origins.c.origin_sha256)
        .limit(MAX_ORIGINS_A_USER)
    )
    connection.execute(
        sign_in_origins.delete().where(
            sign_in_origins.c.user_id == user.user_id, sign_in_origins.c.origin_sha256.not_in(newest)
        )
    )


def _active_users() -> sa.Select[tuple[int, str, str]]:
    """Select who may sign in; a role that this version does not know (a newer one's) has no rights here."""
    return sa.select(users.c.user_id, users.c.username, users.c.role).where(
        users.c.disabled_at.is_(None), users.c.role.in_([role.value for role in Role])
    )


# Asked with every request: built once.
_OF_SESSION = (
    _active_users()
    .add_columns(sessions.c.csrf_token)
    .join(sessions, sessions.c.user_id == users.c.user_id)
    .where(
        sessions.c.secret_sha256 == sa.bindparam("secret_sha256"), sessions.c.expires_at > sa.bindparam("now")
    )
)
_OF_TOKEN = (
    _active_users()
    .join(tokens, tokens.c.user_id == users.c.user_id)
    .where(
        tokens.c.secret_sha256 == sa.bindparam("secret_sha256"),
        tokens.c.expires_at > sa.bindparam("now"),
        tokens.c.revoked_at.is_(None),
    )
)
