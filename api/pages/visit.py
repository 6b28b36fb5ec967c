"""A browser's request: who asks, in which language, with which form; and every refusal as a page.

Pages take the session's cookie only. Unsafe requests are forms that carry the session's proof against forgery
in the field `csrf_token` (invariant 36); what a role may do is in `rights.py` (invariants 34 and 35).
"""

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote

import structlog
from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from api.access import SESSION_COOKIE, Access, Principal, Proof, admit, context_of, find_principal
from api.context import ApiContext
from api.languages import choose_language
from api.pages.rights import HOMES, PAGES, may
from api.pages.states import category_code, is_returning, sign_of, state_code
from api.pages.wording import Wording
from api.problems import CODES, Problem, Refusal
from dormpower.books.database import is_away
from dormpower.books.users import csrf_matches
from dormpower.messages.catalogue import Language

LANGUAGE_COOKIE = "dormpower_language"
FORM_TYPE = "application/x-www-form-urlencoded"
_MAX_FIELDS = 20

# Which sentence of the catalogue tells a refusal; the rest is "not valid".
_ERRORS: Mapping[Problem, str] = {
    Problem.NOT_FOUND: "not_found",
    Problem.NO_RIGHT: "no_right",
    Problem.FORGERY_PROOF_MISSING: "forgery",
    Problem.KEY_REUSED: "conflict",
    Problem.CONFLICT: "conflict",
    Problem.TOO_MANY_REQUESTS: "too_many",
    Problem.INTERNAL: "internal",
    Problem.UNAVAILABLE: "unavailable",
}

Form = Mapping[str, str]
log = structlog.get_logger()


class SignInFirst(Exception):  # noqa: N818 - an answer, not a fault of the program
    """Nobody is signed in: the browser is sent to the sign-in page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A request that was let in. `access` is None only on pages that need no sign-in."""

    request: Request
    context: ApiContext
    say: Wording
    language: Language
    form: Form = field(default_factory=dict)
    access: Access | None = None

    @property
    def allowed(self) -> Access:
        """The access of a signed-in visitor."""
        if self.access is None:
            raise SignInFirst
        return self.access

    @property
    def principal(self) -> Principal:
        """Who asks."""
        return self.allowed.principal

    def page(self, template: str, *, status_code: int = 200, **values: object) -> Response:
        """Return a page."""
        principal = self.access.principal if self.access else None
        return HTMLResponse(
            _fill(self.request, self.context, self.say, template, principal=principal, values=values),
            status_code=status_code,
        )


async def read_form(request: Request) -> Form:
    """Return the fields of a posted form; a field that comes twice counts once. Raises the 415 refusal."""
    if request.method != "POST":
        return {}
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if given != FORM_TYPE:
        raise Refusal(Problem.WRONG_MEDIA_TYPE, f"Send the form as {FORM_TYPE}.")
    try:
        fields = parse_qsl(
            (await request.body()).decode("utf-8"),
            keep_blank_values=True,
            max_num_fields=_MAX_FIELDS,
            errors="strict",
        )
    except ValueError as fault:
        raise Refusal(Problem.UNUSABLE_REQUEST, "The form can't be read.") from fault
    return dict(fields)


def receive(request: Request, form: Annotated[Form, Depends(read_form)]) -> Visit:
    """Let a request in by the pages' matrix, or raise what answers it instead."""
    context = context_of(request)
    rule = PAGES[(request.method, request.scope["route"].path)]
    access: Access | None = None
    with context.books.read() as connection:
        principal = find_principal(
            connection,
            Proof(session=request.cookies.get(SESSION_COOKIE)),
            now=context.clock.now(),
            real_now=context.clock.real_now(),
        )
        if principal is not None:
            request.state.user_id = principal.user.user_id
        if not rule.public:
            if principal is None:
                raise SignInFirst
            _require_proof(request, principal, form)
            access = admit(connection, principal, rule, request.path_params)
        elif principal is not None:
            access = Access(principal=principal)
    language = language_of(request, context)
    return Visit(
        request=request,
        context=context,
        say=Wording(language, context.zone),
        language=language,
        form=form,
        access=access,
    )


Visitor = Annotated[Visit, Depends(receive)]


def _require_proof(request: Request, principal: Principal, form: Form) -> None:
    if request.method == "GET":
        return
    if not csrf_matches(expected=principal.csrf_token, given=form.get("csrf_token", "")):
        raise Refusal(Problem.FORGERY_PROOF_MISSING, "The form's csrf_token is missing or out of date.")


def language_of(request: Request, context: ApiContext) -> Language:
    """Return the language that was chosen on a page, else the one that the browser asks for."""
    chosen = request.cookies.get(LANGUAGE_COOKIE)
    for language in context.languages:
        if language == chosen:
            return language
    return choose_language(request.headers.get("accept-language"), context.languages)


class PageRoute(APIRoute):
    """A route whose every refusal and fault is a page in the reader's language."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the route."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except SignInFirst:
                return _to_sign_in(request)
            except Refusal as refusal:
                return error_page(request, refusal.problem, headers=refusal.headers)
            except RequestValidationError:
                return error_page(request, Problem.INVALID)
            except HTTPException as fault:
                return error_page(request, Problem.INVALID, status=fault.status_code)
            except Exception as fault:  # the edge: it is logged with its traceback, the reader gets a page
                log.exception("page.failed", method=request.method, route=self.path)
                return error_page(request, Problem.UNAVAILABLE if is_away(fault) else Problem.INTERNAL)

        return answer


def error_page(
    request: Request,
    problem: Problem,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return a refusal as a page; the status is the one that the API gives too."""
    context = context_of(request)
    say = Wording(language_of(request, context), context.zone)
    code = _ERRORS.get(problem, "invalid")
    page = _fill(request, context, say, "error.html", values={"code": code})
    return HTMLResponse(page, status_code=status or CODES[problem][0], headers=dict(headers or {}))


def see_other(url: str) -> Response:
    """Send the browser on to a page after a form was taken."""
    return RedirectResponse(url, status_code=303)


def path_of(template: str, **names: str) -> str:
    """Fill a path in; names are written so that none of them can leave its place."""
    return template.format(**{key: quote(name, safe="") for key, name in names.items()})


def _to_sign_in(request: Request) -> Response:
    if request.headers.get("hx-request"):
        return Response(status_code=204, headers={"HX-Redirect": "/sign-in"})
    target = request.url.path if request.method == "GET" else "/"
    return see_other("/sign-in" if target == "/" else f"/sign-in?next={quote(target)}")


def _fill(
    request: Request,
    context: ApiContext,
    say: Wording,
    template: str,
    *,
    principal: Principal | None = None,
    values: Mapping[str, object],
) -> str:
    role = principal.user.role if principal else None
    given: dict[str, object] = {
        "site_name": context.site_name,
        "languages": context.languages,
        "here": request.url.path if request.method == "GET" else "/",
        "username": principal.user.username if principal else "",
        "role": role.value if role else "",
        "home": HOMES[role] if role else "/",
        "csrf_token": principal.csrf_token if principal else "",
        "may": (lambda method, path: may(role, method, path)) if role else (lambda _method, _path: False),
        "path_of": path_of,
        "state_code": state_code,
        "sign_of": sign_of,
        "is_returning": is_returning,
        "category_code": category_code,
    }
    return say.render(template, **{**given, **values})
