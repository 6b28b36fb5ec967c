"""Every error as an RFC 9457 problem document, and the one table of HTTP codes.

Code elsewhere raises `Refusal(Problem.X, "what was wrong and what to do")` or a refusal of the books; which
HTTP code that is, is decided here alone.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.json_response import dump
from dormpower.books.database import is_away

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:dormpower:problem:"
_MAX_ERRORS = 20

log = structlog.get_logger()


class Problem(StrEnum):
    """Kinds of refusal. The value is the last part of the document's `type`."""

    UNUSABLE_REQUEST = "unusable-request"
    NO_IDEMPOTENCY_KEY = "no-idempotency-key"
    NOT_SIGNED_IN = "not-signed-in"
    WRONG_SIGN_IN = "wrong-sign-in"
    NO_RIGHT = "no-right"
    FORGERY_PROOF_MISSING = "forgery-proof-missing"
    NOT_FOUND = "not-found"
    WRONG_METHOD = "wrong-method"
    KEY_REUSED = "key-reused"
    CONFLICT = "conflict"
    BODY_TOO_LARGE = "body-too-large"
    WRONG_MEDIA_TYPE = "wrong-media-type"
    INVALID = "invalid"
    TOO_MANY_REQUESTS = "too-many-requests"
    INTERNAL = "internal"
    READINGS_UNREACHABLE = "readings-unreachable"
    UNAVAILABLE = "unavailable"


CODES: Mapping[Problem, tuple[int, str]] = {
    Problem.UNUSABLE_REQUEST: (400, "The request can't be read"),
    Problem.NO_IDEMPOTENCY_KEY: (400, "The Idempotency-Key header is missing or unusable"),
    Problem.NOT_SIGNED_IN: (401, "Sign in first"),
    Problem.WRONG_SIGN_IN: (401, "User name or password is wrong"),
    Problem.NO_RIGHT: (403, "Your role may not do this"),
    Problem.FORGERY_PROOF_MISSING: (403, "The proof against forgery is missing"),
    Problem.NOT_FOUND: (404, "Not found"),
    Problem.WRONG_METHOD: (405, "This address does not take that method"),
    Problem.KEY_REUSED: (409, "The idempotency key was used for something else"),
    Problem.CONFLICT: (409, "The present state does not allow this"),
    Problem.BODY_TOO_LARGE: (413, "The request is too large"),
    Problem.WRONG_MEDIA_TYPE: (415, "The body must be application/json"),
    Problem.INVALID: (422, "Something in the request is not valid"),
    Problem.TOO_MANY_REQUESTS: (429, "Too many attempts"),
    Problem.INTERNAL: (500, "Something went wrong here"),
    Problem.READINGS_UNREACHABLE: (503, "The readings can't be reached"),
    Problem.UNAVAILABLE: (503, "Not available now"),
}
_BY_STATUS = {
    400: Problem.UNUSABLE_REQUEST,
    401: Problem.NOT_SIGNED_IN,
    403: Problem.NO_RIGHT,
    404: Problem.NOT_FOUND,
    405: Problem.WRONG_METHOD,
    413: Problem.BODY_TOO_LARGE,
    415: Problem.WRONG_MEDIA_TYPE,
    429: Problem.TOO_MANY_REQUESTS,
}


class InvalidField(BaseModel):
    """One fault of a request."""

    where: str = Field(description="Where the fault is: body.amount_fen, query.limit …")
    message: str


class ProblemDocument(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[InvalidField] | None = None


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not a fault of the program
    """Ends a request with a problem document."""

    def __init__(
        self,
        problem: Problem,
        detail: str,
        *,
        errors: list[dict[str, str]] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail
        self.errors = errors
        self.headers = dict(headers or {})


def not_found() -> Refusal:
    """Return the one refusal for what is not there and for what the user may not know of (invariant 34)."""
    return Refusal(Problem.NOT_FOUND, "There is nothing here for you; check the address.")


def problem_response(
    problem: Problem,
    detail: str,
    *,
    errors: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build the document."""
    status, title = CODES[problem]
    document: dict[str, Any] = {
        "type": TYPE_PREFIX + problem.value,
        "title": title,
        "status": status,
        "detail": detail,
    }
    if errors is not None:
        document["errors"] = errors
    extra = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    return Response(
        dump(document), status_code=status, media_type=MEDIA_TYPE, headers={**extra, **(headers or {})}
    )


def install(app: FastAPI) -> None:
    """Make every error of the application a problem document."""

    async def on_refusal(_request: Request, refusal: Exception) -> Response:
        assert isinstance(refusal, Refusal)  # noqa: S101 - registered for this type only
        return problem_response(refusal.problem, refusal.detail, errors=refusal.errors, headers=refusal.headers)

    async def on_http(_request: Request, fault: Exception) -> Response:
        assert isinstance(fault, HTTPException)  # noqa: S101 - registered for this type only
        problem = _BY_STATUS.get(fault.status_code, Problem.UNUSABLE_REQUEST)
        if problem is Problem.NOT_FOUND:
            return problem_response(problem, not_found().detail)
        return problem_response(problem, f"{fault.detail}.", headers=fault.headers)

    async def on_invalid(_request: Request, fault: Exception) -> Response:
        assert isinstance(fault, RequestValidationError)  # noqa: S101 - registered for this type only
        return _invalid(fault)

    async def on_books(request: Request, fault: Exception) -> Response:
        if not is_away(fault):
            raise fault
        log.warning("request.books_away", method=request.method, exc_info=fault)
        return problem_response(
            Problem.UNAVAILABLE,
            "The books are busy or out of reach at this moment; send the request again.",
            headers={"Retry-After": "1"},
        )

    app.add_exception_handler(sa.exc.DBAPIError, on_books)
    app.add_exception_handler(Refusal, on_refusal)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)


def _invalid(fault: RequestValidationError) -> Response:
    """Name each fault by place and rule; what was sent is not repeated, it may be a password."""
    errors = [
        {"where": ".".join(str(part) for part in one["loc"]), "message": str(one["msg"])}
        for one in fault.errors()[:_MAX_ERRORS]
    ]
    kinds = {one["type"] for one in fault.errors()}
    if "json_invalid" in kinds:
        return problem_response(Problem.UNUSABLE_REQUEST, "The body is not JSON.")
    if any(one["where"].lower() == "header.idempotency-key" for one in errors):
        return problem_response(
            Problem.NO_IDEMPOTENCY_KEY,
            "Send a header Idempotency-Key of 1 to 200 visible ASCII characters, the same one when you repeat.",
        )
    detail = "; ".join(f"{one['where']}: {one['message']}" for one in errors)
    return problem_response(Problem.INVALID, detail, errors=errors)
