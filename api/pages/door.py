"""Sign in, sign out, the language, and where each role begins."""

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from api.pages.rights import HOMES
from api.pages.visit import LANGUAGE_COOKIE, PageRoute, Visit, Visitor, see_other
from api.problems import CODES, Problem, Refusal
from api.routers import session

router = APIRouter(route_class=PageRoute, include_in_schema=False)

_LANGUAGE_LIFETIME_S = 400 * 86400


@router.get("/")
def start(visit: Visitor) -> Response:
    """Go where the role begins."""
    return see_other(HOMES[visit.principal.user.role])


@router.get("/sign-in")
def show_sign_in(visit: Visitor, next: str = "") -> Response:  # noqa: A002 - the parameter's usual name
    """Show the form; who is signed in already goes on."""
    if visit.access is not None:
        return see_other("/")
    return visit.page("sign_in.html", next=_local(next), fault="", given="")


@router.post("/sign-in")
def sign_in(visit: Visitor) -> Response:
    """Check as the API does, under the same limits, and go to the page that was asked for."""
    given = visit.form.get("username", "")
    target = _local(visit.form.get("next", ""))
    try:
        wanted = session.SignIn(username=given, password=visit.form.get("password", ""))
    except ValidationError:
        return _again(visit, target, given, Problem.WRONG_SIGN_IN, visit.say.t("page.sign_in.wrong"))
    try:
        answer = session.sign_in(visit.request, wanted, visit.context)
    except Refusal as refusal:
        return _again(visit, target, given, refusal.problem, _sentence(visit, refusal), retry=refusal.headers)
    gone_on = see_other(target or "/")
    gone_on.raw_headers.extend(
        (name, value) for name, value in answer.raw_headers if name.lower() == b"set-cookie"
    )
    return gone_on


@router.post("/sign-out")
def sign_out(visit: Visitor) -> Response:
    """End the session."""
    answer = session.sign_out(visit.request, visit.allowed, visit.context)
    gone = see_other("/sign-in")
    gone.raw_headers.extend(
        (name, value) for name, value in answer.raw_headers if name.lower() == b"set-cookie"
    )
    return gone


@router.post("/language")
def choose_language(visit: Visitor) -> Response:
    """Keep the language in a cookie, and return to the page."""
    session.refuse_other_sites(visit.request)
    gone = see_other(_local(visit.form.get("next", "")) or "/")
    wanted = visit.form.get("language", "")
    if wanted not in visit.context.languages:
        raise Refusal(Problem.INVALID, f"language: expected one of {', '.join(visit.context.languages)}")
    gone.set_cookie(
        LANGUAGE_COOKIE,
        wanted,
        max_age=_LANGUAGE_LIFETIME_S,
        path="/",
        httponly=True,
        samesite="lax",
        secure=visit.request.url.scheme == "https",
    )
    return gone


def _again(
    visit: Visit,
    target: str,
    given: str,
    problem: Problem,
    sentence: str,
    *,
    retry: dict[str, str] | None = None,
) -> Response:
    answer = visit.page(
        "sign_in.html", status_code=CODES[problem][0], next=target, fault=sentence, given=given[:64]
    )
    answer.headers.update(retry or {})
    return answer


def _sentence(visit: Visit, refusal: Refusal) -> str:
    if refusal.problem is Problem.TOO_MANY_REQUESTS:
        return visit.say.t("page.sign_in.too_many", wait_s=refusal.headers.get("Retry-After", "60"))
    if refusal.problem is Problem.UNAVAILABLE:
        return visit.say.t("page.sign_in.busy")
    if refusal.problem is Problem.FORGERY_PROOF_MISSING:
        return visit.say.t("page.sign_in.elsewhere")
    return visit.say.t("page.sign_in.wrong")


def _local(target: str) -> str:
    """Return a path of this service, or nothing: a link must not send a signed-in browser elsewhere."""
    plain = target.isascii() and target.isprintable() and "\\" not in target and len(target) <= 500
    return target if plain and target.startswith("/") and not target.startswith("//") else ""
