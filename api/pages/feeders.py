"""Feeders with their live demand, and the reports: who was shed, who would have been off, false trips."""

from datetime import timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.circuit_json import Reader, evidence_json
from api.pages.visit import PageRoute, Visit, Visitor
from dormpower.books import fairness, feeders, reports, reviews
from dormpower.domain.days import CampusDays
from dormpower.domain.evidence import shown_evidence
from dormpower.domain.holds import reason_of

router = APIRouter(route_class=PageRoute, include_in_schema=False)

PERIODS = (7, 30, 90)
_LISTED = 50


@router.get("/feeders")
def show_feeders(visit: Visitor) -> Response:
    """Show every feeder's demand beside its limit, as of the gateway's last decision."""
    return visit.page("feeders.html", feeders=_feeders(visit))


@router.get("/feeders/list")
def show_list(visit: Visitor) -> Response:
    """Return the list alone: what the page reads again."""
    return visit.page("feeder_list.html", feeders=_feeders(visit))


@router.get("/reports")
def show_reports(visit: Visitor, days: Annotated[Literal["7", "30", "90"], Query()] = "7") -> Response:
    """Show the reports of the last days, today among them."""
    campus_days, now = CampusDays(visit.context.zone), visit.context.clock.now()
    last_on = campus_days.day_of(now)
    first_on = last_on - timedelta(days=int(days) - 1)
    since, until = campus_days.start_of(first_on), campus_days.end_of(last_on)
    with visit.context.books.read() as connection:
        shed = fairness.report(
            connection,
            from_on=first_on,
            to_on=last_on,
            which=fairness.Which(),
            now=now,
            days=campus_days,
            limit=_LISTED,
        )
        would, more = reports.would_have_been_off(connection, since=since, until=until, limit=_LISTED)
        trips = reviews.false_trips(connection, since=since, until=until)
    reader = Reader(language=visit.language, zone=visit.context.zone, spans=None)
    told = [
        (
            one,
            evidence_json(
                shown_evidence(reason_of(one.reason), one.evidence), decided_at=one.from_at, reader=reader
            ),
        )
        for one in would
    ]
    return visit.page(
        "reports.html",
        days=int(days),
        periods=PERIODS,
        shed=shed,
        would=told,
        would_is_cut=more is not None,
        trips=trips,
    )


def _feeders(visit: Visit) -> list[feeders.FeederNow]:
    with visit.context.books.read() as connection:
        return feeders.feeders_now(connection)
