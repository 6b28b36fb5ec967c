"""A room: its circuits as cards, recharge history, daily usage, and what maintenance may do there."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from markupsafe import Markup
from pydantic import ValidationError
from starlette.responses import Response

from api.circuit_json import circuit_json
from api.pages import record
from api.pages.chart import ChartTexts, DayBar, usage_chart
from api.pages.visit import PageRoute, Visit, Visitor, path_of, see_other
from api.pages.wording import Wording
from api.present import present_of
from api.problems import Problem, Refusal, not_found
from api.queries import Cursor
from api.routers import lockouts
from api.routers.circuits import usage_items
from dormpower.books import recharges, rooms
from dormpower.books.circuits_view import CircuitView
from dormpower.books.rooms import RoomView
from dormpower.domain.holds import RESETTABLE, Reason
from dormpower.domain.site import CircuitKind
from dormpower.domain.tariff import UnableToPriceError, price_at
from dormpower.domain.units import amount_needed_fen

router = APIRouter(route_class=PageRoute, include_in_schema=False)

PERIODS = (7, 30, 90)
_HISTORY = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A circuit as its card shows it. `pay_fen` is the least that ends arrears, None where none is told."""

    view: CircuitView
    shown: dict[str, Any]
    pay_fen: int | None
    only_arrears: bool
    resettable: bool


@router.get("/my-room")
def my_room(visit: Visitor) -> Response:
    """Go to the resident's room; with several, choose; with none, say so."""
    own = sorted(visit.principal.rooms)
    if len(own) == 1:
        return see_other(path_of("/rooms/{room_id}", room_id=own[0]))
    found = [_find(visit, room_id) for room_id in own]
    return visit.page("my_room.html", rooms=found)


@router.get("/rooms/{room_id}")
def show_room(
    visit: Visitor,
    room_id: str,
    days: Annotated[Literal["7", "30", "90"], Query()] = "30",
    lighting_cursor: Annotated[Cursor | None, Query()] = None,
    ac_cursor: Annotated[Cursor | None, Query()] = None,
) -> Response:
    """Show the room; a resident sees the time of the own residency."""
    room = _find(visit, room_id)
    cursors = {"lighting": lighting_cursor, "ac": ac_cursor}
    cards = _cards(visit, room)
    return visit.page(
        "room.html",
        room=room,
        cards=cards,
        announcements=record.announcements(visit, room),
        off=record.minutes_off(visit, room),
        off_days=record.OFF_DAYS,
        questions=record.questions(visit, room, {card.view.circuit_id: card.shown for card in cards}),
        kinds={view.circuit_id: view.kind for view in room.circuits},
        histories=[_history(visit, one, cursors.get(one.kind)) for one in room.circuits],
        usages=[_usage(visit, one, int(days), first=index == 0) for index, one in enumerate(room.circuits)],
        days=int(days),
        periods=PERIODS,
    )


@router.get("/rooms/{room_id}/cards")
def show_cards(visit: Visitor, room_id: str) -> Response:
    """Return the cards alone: what the room's page reads again when a circuit has changed."""
    room = _find(visit, room_id)
    return visit.page("cards.html", room=room, cards=_cards(visit, room))


@router.post("/circuits/{circuit_id}/lockouts")
def lock_out(visit: Visitor, circuit_id: str) -> Response:
    """Lock a circuit out in the own name."""
    try:
        wanted = lockouts.LockoutRequest(reason=visit.form.get("reason", "").strip())
    except ValidationError as fault:
        raise Refusal(Problem.INVALID, "reason: expected 1 to 200 characters on one line") from fault
    lockouts.place_lockout(circuit_id, wanted, visit.allowed, visit.context)
    return _back(visit)


@router.post("/lockouts/{lockout_id}/lift")
def lift(visit: Visitor, lockout_id: str) -> Response:
    """Lift a lock-out; an admin lifts another's with a reason."""
    try:
        wanted = lockouts.LiftQuery(reason=visit.form.get("reason", "").strip() or None)
    except ValidationError as fault:
        raise Refusal(Problem.INVALID, "reason: expected at most 200 characters on one line") from fault
    lockouts.lift_lockout(lockout_id, wanted, visit.allowed, visit.context)
    # One over a scope has many rooms: back to the one on whose page it was lifted.
    with visit.context.books.read() as connection:
        lifted_at = rooms.open_room(connection, room_id=visit.form.get("room_id", ""))
    return _back(visit) if lifted_at is None else _to_room(lifted_at)


@router.post("/circuits/{circuit_id}/reset")
def reset(visit: Visitor, circuit_id: str) -> Response:
    """Release latched trips and `opened_locally`."""
    lockouts.reset(circuit_id, visit.allowed, visit.context)
    return _back(visit)


def _back(visit: Visit) -> Response:
    return _to_room(visit.allowed.room_id)


def _to_room(room_id: str) -> Response:
    return see_other(path_of("/rooms/{room_id}", room_id=room_id))


def _find(visit: Visit, room_id: str) -> RoomView:
    with visit.context.books.read() as connection:
        room = rooms.find_room(connection, room_id=room_id, present=present_of(connection, visit.context))
    if room is None:
        raise not_found()
    return room


def _cards(visit: Visit, room: RoomView) -> list[Card]:
    reader = record.reader_of(visit)
    return [
        Card(
            view=view,
            shown=circuit_json(view, reader),
            pay_fen=_pay_fen(visit, view),
            only_arrears={hold.reason for hold in view.holds} == {Reason.ARREARS},
            resettable=any(hold.reason in RESETTABLE for hold in view.holds),
        )
        for view in room.circuits
    ]


def _pay_fen(visit: Visit, view: CircuitView) -> int | None:
    """Return the least amount that lifts the balance above the floor at which the hold was placed."""
    held = next((hold for hold in view.holds if hold.reason is Reason.ARREARS), None)
    if held is None:
        return None
    floor_wh = int(held.evidence.get("floor_wh", 0))
    try:
        price = price_at(
            visit.context.prices,
            kind=CircuitKind(view.kind),
            on=visit.context.clock.now().astimezone(visit.context.zone).date(),
        )
    except UnableToPriceError:
        return None
    needed_wh = max(1, floor_wh - view.balance_wh + 1)
    return amount_needed_fen(energy_wh=needed_wh, price_millifen_per_kwh=price.price_millifen_per_kwh)


def _history(visit: Visit, view: CircuitView, cursor: str | None) -> dict[str, object]:
    try:
        with visit.context.books.read() as connection:
            items, next_cursor = recharges.history(
                connection,
                circuit_id=view.circuit_id,
                spans=visit.allowed.spans,
                limit=_HISTORY,
                cursor=cursor,
            )
    except recharges.UnableToReadCursorError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    return {"kind": view.kind, "items": items, "next_cursor": next_cursor, "cursor": cursor}


def _usage(visit: Visit, view: CircuitView, days: int, *, first: bool) -> dict[str, object]:
    last_on = visit.context.clock.now().astimezone(visit.context.zone).date()
    items = usage_items(
        visit.context,
        circuit_id=view.circuit_id,
        first_on=last_on - timedelta(days=days - 1),
        last_on=last_on,
        spans=visit.allowed.spans,
    )
    kind = visit.say.t(f"page.kind.{view.kind}")
    bars = [DayBar(item["on"], item["energy_wh"], str(item["quality"])) for item in items]
    chart = usage_chart(bars, texts=_texts(visit.say, kind), with_hatch=first)
    return {
        "kind": view.kind,
        "items": items,
        "total_wh": sum(item["energy_wh"] or 0 for item in items),
        "chart": Markup(chart),  # noqa: S704 - the chart escapes all that it is given
    }


def _texts(say: Wording, kind: str) -> ChartTexts:
    return ChartTexts(
        title=say.t("page.usage.of", kind=kind),
        unit=say.t("page.room.kwh"),
        unknown=say.t("page.usage.unknown"),
        qualities={name: say.t(f"page.usage.{name}") for name in ("measured", "estimated", "open")},
    )
