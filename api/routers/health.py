"""Health, readiness and metrics: for machines, outside /api/v1, without sign-in and without anybody's data."""

from typing import Literal

import sqlalchemy as sa
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import Response

from api.access import Context
from api.json_response import Json
from api.problems import Problem, Refusal
from dormpower.books import migration
from dormpower.books.tables import leases

router = APIRouter(tags=["service"])


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """The API can answer from the books. A gateway that is away is reported, not a reason to be unready."""

    status: Literal["ready"]
    books: Literal["reachable"]
    schema_version: str
    gateway: Literal["running", "away"]


@router.get("/healthz", response_model=Health, summary="Is the process alive")
def healthz() -> Response:
    """Answer without touching anything."""
    return Json({"status": "ok"})


@router.get("/readyz", response_model=Readiness, summary="Can requests be answered")
def readyz(context: Context) -> Response:
    """Check that the books can be reached and have this program's schema."""
    try:
        migration.require_current(context.books)
        with context.books.read() as connection:
            fresh = connection.execute(
                sa.select(sa.func.count())
                .select_from(leases)
                .where(leases.c.name.like("gateway%"), leases.c.until_at > context.clock.real_now())
            ).scalar_one()
    except migration.UnableToUseBooksError as refusal:
        raise Refusal(Problem.UNAVAILABLE, str(refusal)) from refusal
    except SQLAlchemyError as fault:
        raise Refusal(Problem.UNAVAILABLE, "The books can't be reached.") from fault
    return Json(
        {
            "status": "ready",
            "books": "reachable",
            "schema_version": migration.head(),
            "gateway": "running" if fresh else "away",
        }
    )


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """Return this process's metrics and gauges read from the books."""
    body = generate_latest(request.app.state.registry)
    return Response(body, headers={"Content-Type": CONTENT_TYPE_LATEST})
