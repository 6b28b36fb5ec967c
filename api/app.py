"""The application: routers, errors, role matrix and the edge, put together. Does no I/O."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from api import docs, problems
from api.access import CSRF_HEADER, SESSION_COOKIE
from api.context import ApiContext
from api.event_feed import EventFeed
from api.gauges import read_gauges
from api.metrics import BooksCollector, Gauge, Requests
from api.middleware import Edge
from api.present import present_of
from api.problems import MEDIA_TYPE, ProblemDocument
from api.roles import MATRIX
from api.routers import (
    alarms,
    approvals,
    circuits,
    decisions,
    events,
    health,
    lockouts,
    meter_changes,
    outages,
    policies,
    quarantines,
    recharges,
    reports,
    rooms,
    scopes,
    session,
    timeline,
)
from api.sign_in import SignInGuard

VERSION = "1"

# Adds something to the finished application: the pages do. Routes that an extension adds are its own to guard.
Extension = Callable[[FastAPI], None]


class UnguardedRouteError(Exception):
    """A route is not in the role matrix, or the matrix names a route that is not there (invariant 35)."""


def create_app(context: ApiContext, *, extensions: Sequence[Extension] = ()) -> FastAPI:
    """Build the application on a context. Raises UnguardedRouteError for a route without a rule."""
    registry = CollectorRegistry(auto_describe=False)
    feed = _feed(context)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        yield
        feed.shut()

    app = FastAPI(title="Dormpower", version=VERSION, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.context = context
    app.state.registry = registry
    app.state.event_feed = feed
    app.state.sign_in_guard = SignInGuard(context.settings.sign_in)
    registry.register(BooksCollector(lambda: _gauges(context)))
    app.add_middleware(
        Edge,
        max_body_bytes=context.settings.max_body_bytes,
        max_open=context.settings.max_open_requests,
        requests=Requests(registry),
    )
    problems.install(app)
    answers: dict[int | str, dict[str, Any]] = {
        "default": {"description": "A problem document (RFC 9457).", "model": ProblemDocument}
    }
    app.include_router(health.router, responses=answers)
    for module in (
        session,
        rooms,
        circuits,
        recharges,
        lockouts,
        scopes,
        outages,
        decisions,
        policies,
        alarms,
        quarantines,
        meter_changes,
        approvals,
        reports,
        timeline,
        events,
    ):
        app.include_router(module.router, responses=answers)
    docs.install(app)
    check_matrix(app)
    app.mount("/static", StaticFiles(directory=docs.STATIC), name="static")
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    for extend in extensions:
        extend(app)
    return app


def check_matrix(app: FastAPI) -> None:
    """Compare the routes with the role matrix, both ways. Raises UnguardedRouteError."""
    present = {("GET", "/openapi.json")}
    for route in _api_routes(app.routes):
        present |= {(method, route.path) for method in route.methods or ()}
    missing, stale = present - set(MATRIX), set(MATRIX) - present
    if missing or stale:
        raise UnguardedRouteError(
            f"api/roles.py: routes without a rule: {sorted(missing)}; rules without a route: {sorted(stale)}"
        )


def _api_routes(routes: Iterable[BaseRoute]) -> Iterator[APIRoute]:
    """Walk into included routers. Each router has its whole prefix itself, so that paths are whole."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if isinstance(route, APIRoute):
            yield route
        elif included is not None:
            yield from _api_routes(included.routes)


def _feed(context: ApiContext) -> EventFeed:
    settings = context.settings
    return EventFeed(
        books=context.books,
        present=lambda connection: present_of(connection, context),
        poll_s=settings.event_poll_s,
        max_streams=settings.max_streams,
        max_streams_a_user=settings.max_streams_a_user,
    )


def _gauges(context: ApiContext) -> list[Gauge]:
    with context.books.read() as connection:
        return read_gauges(connection, now=context.clock.now())


def _openapi(app: FastAPI) -> dict[str, Any]:
    """Describe the API, with how requests prove who they are and problem documents as what they are."""
    if app.openapi_schema:
        return app.openapi_schema
    schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schema["components"]["securitySchemes"] = {
        "session": {"type": "apiKey", "in": "cookie", "name": SESSION_COOKIE},
        "forgery_proof": {"type": "apiKey", "in": "header", "name": CSRF_HEADER},
        "bearer": {"type": "http", "scheme": "bearer"},
    }
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            operation["responses"].pop("422", None)
            _as_problem(operation["responses"].get("default", {}))
            rule = MATRIX.get((method.upper(), path))
            if rule is not None and not rule.public:
                cookie: dict[str, list[str]] = {"session": []}
                operation["security"] = [
                    cookie if method == "get" else {**cookie, "forgery_proof": []},
                    {"bearer": []},
                ]
                roles = ", ".join(sorted(rule.roles))
                operation["description"] = f"{operation.get('description', '')}\n\nRoles: {roles}."
    app.openapi_schema = schema
    return schema


def _as_problem(answer: dict[str, Any]) -> None:
    content = answer.get("content", {})
    if "application/json" in content:
        content[MEDIA_TYPE] = content.pop("application/json")
