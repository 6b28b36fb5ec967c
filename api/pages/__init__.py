"""Server-rendered pages: the same functions of the books as the API's routers, shown to people."""

from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.app import UnguardedRouteError
from api.pages import alarms, buildings, door, feeders, money, questions, record, room
from api.pages.rights import PAGES
from api.pages.visit import error_page
from api.problems import Problem

ROUTERS: tuple[APIRouter, ...] = (
    door.router,
    room.router,
    record.router,
    money.router,
    buildings.router,
    feeders.router,
    alarms.router,
    questions.router,
)


def install(app: FastAPI) -> None:
    """Add the pages. Raises UnguardedRouteError for a page without a rule, or a rule without a page."""
    present = {
        (method, route.path)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    missing, stale = present - set(PAGES), set(PAGES) - present
    if missing or stale:
        raise UnguardedRouteError(
            f"api/pages/rights.py: pages without a rule: {sorted(missing)}; "
            f"rules without a page: {sorted(stale)}"
        )
    for router in ROUTERS:
        app.include_router(router)
    _answer_strangers(app)


def _answer_strangers(app: FastAPI) -> None:
    """An address that no route has is a page for a browser, and a problem document for all others."""
    others: Any = app.exception_handlers[HTTPException]

    async def on_http(request: Request, fault: Exception) -> Response:
        browser = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")
        if browser and isinstance(fault, HTTPException) and fault.status_code == 404:
            return error_page(request, Problem.NOT_FOUND)
        answer: Response = await others(request, fault)
        return answer

    app.add_exception_handler(HTTPException, on_http)
