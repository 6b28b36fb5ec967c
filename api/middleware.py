"""What wraps every request: bounded bodies, security headers, one log line, and no traceback to anybody."""

import time
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import unquote_to_bytes

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import Requests
from api.problems import Problem, problem_response

log = structlog.get_logger()

_CSP = "; ".join(
    (
        "default-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "img-src 'self' data:",
        "object-src 'none'",
    )
)
# swagger-ui sets styles of its own.
_DOCS_CSP = _CSP + "; style-src 'self' 'unsafe-inline'"
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})


class Edge:
    """The outermost layer (pure ASGI, so that streams pass through unbuffered)."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int, max_open: int, requests: Requests) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._max_open = max_open
        self._open = 0
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, send)
        started = time.perf_counter()
        self._open += 1
        try:
            refusal = self._refuse_more() or _refuse_unread(scope, self._max_body_bytes)
            if refusal is not None:
                await refusal(scope, receive, exchange.send)
            else:
                await self._app(scope, _bounded(receive, self._max_body_bytes), exchange.send)
        except _BodyTooLargeError:
            await _answer(exchange, scope, receive, Problem.BODY_TOO_LARGE, _too_large(self._max_body_bytes))
        except Exception:  # the edge: whatever went wrong is logged with its traceback and answered as 500
            log.exception("request.failed", method=scope["method"], route=_route(scope))
            await _answer(
                exchange, scope, receive, Problem.INTERNAL, "The fault is on record; try again later."
            )
        finally:
            self._open -= 1
            self._record(scope, exchange.status, time.perf_counter() - started)

    def _refuse_more(self) -> ASGIApp | None:
        """Refuse what comes beyond the bound of requests at once: a quick "later" instead of a long queue."""
        if self._open <= self._max_open:
            return None
        return problem_response(
            Problem.UNAVAILABLE, "Too many requests at this moment; try again.", headers={"Retry-After": "1"}
        )

    def _record(self, scope: Scope, status: int, duration_s: float) -> None:
        route = _route(scope)
        self._requests.observe(method=scope["method"], route=route, status=status, duration_s=duration_s)
        if scope["path"] not in _QUIET:
            log.info(
                "request.done",
                method=scope["method"],
                route=route,
                status=status,
                duration_ms=round(duration_s * 1000, 1),
                user_id=scope.get("state", {}).get("user_id"),
            )


class _Exchange:
    """One answer on its way out: adds the headers, remembers the status."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._send = send
        self._path: str = scope["path"]
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), *self._extra(message)]
        await self._send(message)

    def _extra(self, message: MutableMapping[str, Any]) -> list[tuple[bytes, bytes]]:
        present = {name.lower() for name, _value in message.get("headers", [])}
        csp = _DOCS_CSP if self._path == "/docs" else _CSP
        extra = [*_HEADERS, (b"content-security-policy", csp.encode())]
        if not self._path.startswith("/static/"):
            extra.append((b"cache-control", b"no-store"))
        return [(name, value) for name, value in extra if name not in present]


class _BodyTooLargeError(HTTPException):
    """An HTTPException, because FastAPI passes only those on while it reads a body."""


def _refuse_unread(scope: Scope, max_body_bytes: int) -> ASGIApp | None:
    """Refuse what no route could use: a declared body beyond the bound, a NUL in path or query."""
    if "\0" in scope["path"]:
        return problem_response(Problem.NOT_FOUND, "There is nothing here for you; check the address.")
    if b"\0" in unquote_to_bytes(scope.get("query_string", b"")):
        return problem_response(Problem.UNUSABLE_REQUEST, "The query holds a NUL character.")
    for name, value in scope["headers"]:
        if name == b"content-length" and (not value.isdigit() or int(value) > max_body_bytes):
            return problem_response(Problem.BODY_TOO_LARGE, _too_large(max_body_bytes))
    return None


def _bounded(receive: Receive, max_body_bytes: int) -> Receive:
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        if message["type"] == "http.request":
            taken += len(message.get("body", b""))
            if taken > max_body_bytes:
                raise _BodyTooLargeError(413, detail=_too_large(max_body_bytes).rstrip("."))
        return message

    return bounded


async def _answer(exchange: _Exchange, scope: Scope, receive: Receive, problem: Problem, detail: str) -> None:
    if exchange.status == 0:
        await problem_response(problem, detail)(scope, receive, exchange.send)


def _too_large(max_body_bytes: int) -> str:
    return f"A body may have at most {max_body_bytes} bytes."


def _route(scope: Scope) -> str:
    """Return the route's template, never the path itself: ids and search words stay out of logs and metrics."""
    route = scope.get("route")
    return getattr(route, "path", None) or "(none)"
