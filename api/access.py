"""Who asks, and may they: one dependency for every route, driven by the role matrix.

Nothing is remembered between requests; user, role and residencies are read from the books each time
(invariants 34 to 36).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.engine import Connection

from api.context import ApiContext
from api.problems import Problem, Refusal, not_found
from api.roles import MATRIX, Rule, Subject
from dormpower.books.residencies import Span, spans_by_room
from dormpower.books.rooms import open_room, room_of_circuit, room_of_lockout
from dormpower.books.users import STAFF, User, csrf_matches, session_user, token_user

SESSION_COOKIE = "dormpower_session"
CSRF_HEADER = "X-CSRF-Token"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
MAX_ID_LENGTH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks. `rooms` are the rooms where a resident lives now, with the spans of the own residencies."""

    user: User
    rooms: Mapping[str, tuple[Span, ...]]
    csrf_token: str = ""

    @property
    def is_staff(self) -> bool:
        """Whether every room may be seen."""
        return self.user.role in STAFF

    def spans(self, room_id: str) -> tuple[Span, ...] | None:
        """Return the times of a room that may be seen; None means all of it.

        Raises the 404 refusal for a room that this user may not know of.
        """
        if self.is_staff:
            return None
        if room_id not in self.rooms:
            raise not_found()
        return self.rooms[room_id]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What a request shows: a bearer token, else a session's cookie."""

    token: str | None = None
    session: str | None = None

    @staticmethod
    def of(request: Request) -> "Proof":
        """Read the proof from the headers; a bearer token goes before a cookie."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and token:
            return Proof(token=token.strip())
        return Proof(session=request.cookies.get(SESSION_COOKIE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A request that was let in."""

    principal: Principal
    room_id: str = ""
    circuit_id: str = ""
    spans: tuple[Span, ...] | None = None


def context_of(request: Request) -> ApiContext:
    """Return what the application stands on."""
    context: ApiContext = request.app.state.context
    return context


def find_principal(
    connection: Connection, proof: Proof, *, now: datetime, real_now: datetime
) -> Principal | None:
    """Return who a proof stands for at this moment, or None."""
    csrf_token = ""
    user: User | None = None
    if proof.token is not None:
        user = token_user(connection, secret=proof.token, now=real_now)
    elif proof.session:
        found = session_user(connection, secret=proof.session, now=real_now)
        if found is not None:
            user, csrf_token = found.user, found.csrf_token
    if user is None:
        return None
    rooms = {} if user.role in STAFF else spans_by_room(connection, user_id=user.user_id, now=now)
    return Principal(user=user, rooms=rooms, csrf_token=csrf_token)


def authorize(request: Request) -> Access:
    """Let a request in by the matrix, or raise the refusal that it gets."""
    context = context_of(request)
    rule = MATRIX[(request.method, request.scope["route"].path)]
    with context.books.read() as connection:
        principal = authenticate(request, connection, context)
        return admit(connection, principal, rule, request.path_params)


def authenticate(request: Request, connection: Connection, context: ApiContext) -> Principal:
    """Return who asks; raises the refusals 401, and 403 for a browser's unsafe request without its proof."""
    proof = Proof.of(request)
    principal = find_principal(connection, proof, now=context.clock.now(), real_now=context.clock.real_now())
    if principal is None:
        raise Refusal(Problem.NOT_SIGNED_IN, "Sign in with POST /api/v1/session or send a bearer token.")
    if proof.token is None and request.method not in _SAFE_METHODS:
        given = request.headers.get(CSRF_HEADER, "")
        if not csrf_matches(expected=principal.csrf_token, given=given):
            raise Refusal(
                Problem.FORGERY_PROOF_MISSING,
                f"Send the header {CSRF_HEADER} with the csrf_token that GET /api/v1/me returns.",
            )
    request.state.user_id = principal.user.user_id
    return principal


def admit(connection: Connection, principal: Principal, rule: Rule, path: Mapping[str, str]) -> Access:
    """Let somebody in by a rule; raises the refusals 404 (another's room) and 403 (not this role)."""
    room_id = _room_of(connection, rule.subject, path)
    spans: tuple[Span, ...] | None = None
    if rule.subject is not Subject.NOTHING:
        if room_id is None:
            raise not_found()
        spans = principal.spans(room_id)  # before the right: another's room does not exist at all
    if principal.user.role not in rule.roles:
        raise Refusal(Problem.NO_RIGHT, f"The role {principal.user.role.value} may not do this.")
    return Access(
        principal=principal, room_id=room_id or "", circuit_id=path.get("circuit_id", ""), spans=spans
    )


def _room_of(connection: Connection, subject: Subject, path: Mapping[str, str]) -> str | None:
    if any(len(part) > MAX_ID_LENGTH for part in path.values()):
        return None
    if subject is Subject.ROOM:
        return open_room(connection, room_id=path["room_id"])
    if subject is Subject.CIRCUIT:
        return room_of_circuit(connection, circuit_id=path["circuit_id"])
    if subject is Subject.LOCKOUT:
        return room_of_lockout(connection, lockout_id=path["lockout_id"])
    return None


async def _context_of(request: Request) -> ApiContext:
    return context_of(request)  # async: FastAPI sends a plain function to a thread


Allowed = Annotated[Access, Depends(authorize)]
Context = Annotated[ApiContext, Depends(_context_of)]
