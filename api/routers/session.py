"""Sign in, sign out, who am I."""

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.access import SESSION_COOKIE, Allowed, Context, Principal, Proof
from api.context import ApiContext
from api.json_response import Json
from api.problems import Problem, Refusal
from api.roles import PREFIX
from api.sign_in import SignInGuard
from dormpower.books.passwords import MAX_PASSWORD_LENGTH, new_secret, password_matches
from dormpower.books.residencies import spans_by_room
from dormpower.books.users import (
    MAX_USERNAME_LENGTH,
    STAFF,
    OpenedSession,
    User,
    close_session,
    find_credentials,
    knows_origin,
    open_session,
    remember_origins,
)

DEVICE_COOKIE = "dormpower_device"
_DEVICE_LIFETIME_S = 400 * 86400
_MAX_DEVICE_LENGTH = 100

router = APIRouter(prefix=PREFIX, tags=["session"])


class SignIn(BaseModel):
    """User name and password."""

    model_config = ConfigDict(extra="forbid")

    username: Annotated[str, Field(min_length=1, max_length=MAX_USERNAME_LENGTH, pattern=r"^[^\x00-\x1f]+$")]
    password: Annotated[str, Field(min_length=1, max_length=MAX_PASSWORD_LENGTH)]


class Me(BaseModel):
    """Who is signed in. `csrf_token` goes into X-CSRF-Token; empty for a bearer token, which needs none."""

    username: str
    role: Literal["student", "finance", "maintenance", "admin"]
    room_ids: list[str]
    csrf_token: str


@router.post("/session", response_model=Me, summary="Sign in")
def sign_in(request: Request, wanted: SignIn, context: Context) -> Response:
    """Check user name and password and set the session's cookie."""
    refuse_other_sites(request)
    guard: SignInGuard = request.app.state.sign_in_guard
    address = request.client.host if request.client else ""
    device = request.cookies.get(DEVICE_COOKIE, "")[:_MAX_DEVICE_LENGTH] or None
    with context.books.read() as connection:
        credentials = find_credentials(connection, username=wanted.username)
        origins = [f"device:{device}"] if device else []
        known = knows_origin(connection, username=wanted.username, origins=[*origins, f"address:{address}"])
    place = next((origin for origin in origins if origin in known), f"address:{address}")
    guard.admit(username=wanted.username, place=place, known=place in known, address=address)
    with guard:
        matches = password_matches(
            password=wanted.password, password_hash=credentials.password_hash if credentials else None
        )
    if credentials is None or not matches:
        guard.failed(address=address)
        raise Refusal(Problem.WRONG_SIGN_IN, "Check the user name and the password.")
    guard.succeeded(username=wanted.username, place=place)
    if device is None or place != f"device:{device}":
        device = new_secret()
    opened, room_ids = _open(request, context, credentials.user, [f"device:{device}", f"address:{address}"])
    request.state.user_id = credentials.user.user_id
    response = Json(_me(credentials.user, room_ids, opened.csrf_token))
    secure = _secure(request, context)
    _set_cookie(response, SESSION_COOKIE, opened.secret, secure=secure, max_age_s=_lifetime_s(context))
    _set_cookie(response, DEVICE_COOKIE, device, secure=secure, max_age_s=_DEVICE_LIFETIME_S)
    return response


@router.delete("/session", status_code=204, summary="Sign out")
def sign_out(request: Request, allowed: Allowed, context: Context) -> Response:
    """End the session. A bearer token has none: `dormpower user token --revoke` ends a token."""
    del allowed
    proof = Proof.of(request)
    if proof.token is not None:
        raise Refusal(Problem.CONFLICT, "A bearer token is no session; revoke it with dormpower user token.")
    if proof.session:
        with context.books.write() as connection:
            close_session(connection, secret=proof.session)
    response = Response(status_code=204)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


@router.get("/me", response_model=Me, summary="Who am I")
def me(allowed: Allowed) -> Response:
    """Return the signed-in user, with the rooms where they live now."""
    return Json(_of(allowed.principal))


def _of(principal: Principal) -> dict[str, object]:
    return _me(principal.user, sorted(principal.rooms), principal.csrf_token)


def _me(user: User, room_ids: list[str], csrf_token: str) -> dict[str, object]:
    return {
        "username": user.username,
        "role": user.role.value,
        "room_ids": room_ids,
        "csrf_token": csrf_token,
    }


def _open(
    request: Request, context: ApiContext, user: User, origins: list[str]
) -> tuple[OpenedSession, list[str]]:
    """Open a session; one that the browser still had ends, so that its secret can't be used on."""
    real_now = context.clock.real_now()
    former = request.cookies.get(SESSION_COOKIE)
    with context.books.write() as connection:
        if former:
            close_session(connection, secret=former)
        opened = open_session(
            connection, user_id=user.user_id, now=real_now, lifetime=context.settings.session_lifetime
        )
        remember_origins(connection, user=user, origins=origins, now=real_now)
        rooms = (
            {}
            if user.role in STAFF
            else spans_by_room(connection, user_id=user.user_id, now=context.clock.now())
        )
    return opened, sorted(rooms)


def refuse_other_sites(request: Request) -> None:
    """Refuse another site's form where nobody is signed in whose proof could be asked for.

    Such a page must not sign a browser in (as somebody else), nor change what it is shown.
    """
    if request.headers.get("sec-fetch-site", "same-origin") in {"cross-site", "same-site"}:
        raise Refusal(Problem.FORGERY_PROOF_MISSING, "Do this from a page of this service.")


def _secure(request: Request, context: ApiContext) -> bool:
    forced = context.settings.secure_cookies
    return request.url.scheme == "https" if forced is None else forced


def _lifetime_s(context: ApiContext) -> int:
    return int(context.settings.session_lifetime.total_seconds())


def _set_cookie(response: Response, name: str, value: str, *, secure: bool, max_age_s: int) -> None:
    response.set_cookie(name, value, max_age=max_age_s, path="/", httponly=True, samesite="lax", secure=secure)
