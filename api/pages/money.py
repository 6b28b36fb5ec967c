"""The finance counter: find a room, take money once, give a receipt, add up the day."""

import csv
import io
import json
import re
from dataclasses import dataclass
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import TypeAdapter, ValidationError
from starlette.responses import Response

from api.counter import RechargeOrder
from api.pages.visit import Form, PageRoute, Visit, Visitor, path_of, see_other
from api.present import present_of
from api.problems import Problem, Refusal, not_found
from api.queries import Cursor, Line
from api.routers.recharges import Channel, RechargeRequest
from dormpower.books import rooms, takings
from dormpower.books.circuits_view import CircuitView
from dormpower.books.passwords import new_secret
from dormpower.books.rooms import RoomView
from dormpower.domain.days import CampusDays
from dormpower.domain.ledger import MAX_RECHARGE_FEN
from dormpower.domain.site import CircuitKind
from dormpower.domain.tariff import UnableToPriceError, price_at
from dormpower.domain.units import energy_bought_wh, format_price_yuan, format_yuan

router = APIRouter(route_class=PageRoute, include_in_schema=False)

CHANNELS: tuple[str, ...] = ("cash", "card", "transfer", "campus_card")
_YUAN = re.compile(r"[0-9]{1,9}(\.[0-9]{1,2})?", re.ASCII)
_KEY = re.compile(r"[\x21-\x7e]{1,200}", re.ASCII)
_ROOMS = 25
_CHANNEL: TypeAdapter[Channel] = TypeAdapter(Channel)
_NOTE: TypeAdapter[Line] = TypeAdapter(Line)


@dataclass(frozen=True, slots=True, kw_only=True)
class Till:
    """The circuit that money is taken for, in its room."""

    room: RoomView
    view: CircuitView


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """What an amount buys at this moment."""

    wanted: RechargeRequest
    price_millifen_per_kwh: int
    energy_wh: int


class UnableToQuoteError(Exception):
    """The form can't be taken as it is; the message is the sentence to show."""


@router.get("/rooms")
def find_rooms(
    visit: Visitor,
    q: Annotated[str, Query(max_length=200)] = "",
    building: Annotated[str, Query(max_length=200)] = "",
    cursor: Annotated[Cursor | None, Query()] = None,
) -> Response:
    """Find rooms by id, name or building."""
    wanted = rooms.RoomFilter(building=building.strip() or None, text=q.strip() or None)
    try:
        with visit.context.books.read() as connection:
            page = rooms.list_rooms(
                connection,
                wanted=wanted,
                present=present_of(connection, visit.context),
                limit=_ROOMS,
                cursor=cursor,
            )
    except rooms.UnableToReadCursorError as refusal:
        raise Refusal(Problem.INVALID, str(refusal)) from refusal
    return visit.page("rooms.html", page=page, q=q, building=building)


@router.get("/circuits/{circuit_id}/recharge")
def show_form(visit: Visitor, circuit_id: str) -> Response:
    """Show the form, with the key that makes what is posted from it happen once."""
    return _form(visit, _till(visit, circuit_id), {"key": new_secret()})


@router.post("/circuits/{circuit_id}/recharge/check")
def check(visit: Visitor, circuit_id: str) -> Response:
    """Read the recharge back before it is posted; nothing is posted here."""
    till = _till(visit, circuit_id)
    if "change" in visit.form:
        return _form(visit, till, visit.form)
    try:
        quote = _quote(visit, till)
    except UnableToQuoteError as fault:
        return _form(visit, till, visit.form, str(fault))
    return visit.page(
        "recharge_check.html",
        till=till,
        quote=quote,
        price=format_price_yuan(quote.price_millifen_per_kwh),
        amount=format_yuan(quote.wanted.amount_fen),
        key=_key(visit),
    )


@router.post("/circuits/{circuit_id}/recharge")
def post_recharge(visit: Visitor, circuit_id: str) -> Response:
    """Post once for one form, however often it is sent, and go to the receipt."""
    till = _till(visit, circuit_id)
    try:
        wanted = _quote(visit, till).wanted
    except UnableToQuoteError as fault:
        return _form(visit, till, visit.form, str(fault))
    try:
        posted = visit.context.counter(
            RechargeOrder(
                circuit_id=circuit_id,
                amount_fen=wanted.amount_fen,
                channel=wanted.channel,
                note=wanted.note,
                idempotency_key=_key(visit),
                actor=visit.principal.user.username,
                now=visit.context.clock.now(),
            )
        )
    except Refusal as refusal:
        if refusal.problem is not Problem.KEY_REUSED:
            raise
        sentence = visit.say.t("page.recharge.key_reused")
        return _form(visit, till, {"key": new_secret()}, sentence, status_code=409)
    visit.context.wake()
    transaction_id = json.loads(posted.answer)["transaction_id"]
    return see_other(path_of("/receipts/{transaction_id}", transaction_id=transaction_id))


@router.get("/receipts/{transaction_id}")
def show_receipt(visit: Visitor, transaction_id: str) -> Response:
    """Show a receipt."""
    with visit.context.books.read() as connection:
        receipt = takings.find_receipt(connection, transaction_id=transaction_id)
    if receipt is None:
        raise not_found()
    price = receipt.price_millifen_per_kwh
    return visit.page(
        "receipt.html", receipt=receipt, price=None if price is None else format_price_yuan(price)
    )


@router.get("/takings")
def show_takings(visit: Visitor) -> Response:
    """Show what the campus day has taken so far, by channel."""
    on, rows = _today(visit)
    return visit.page("takings.html", on=on, rows=rows, total_fen=sum(row.amount_fen for row in rows))


@router.get("/takings.csv")
def download_takings(visit: Visitor) -> Response:
    """Return the same as CSV, amounts in yuan."""
    on, rows = _today(visit)
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(["campus_day", "kind", "channel", "count", "amount_yuan"])
    writer.writerows(
        [on.isoformat(), row.kind, row.channel, row.count, format_yuan(row.amount_fen)] for row in rows
    )
    return Response(
        written.getvalue(),
        media_type="text/csv",
        headers={"Content-Disposition": f'attachment; filename="takings-{on.isoformat()}.csv"'},
    )


def _today(visit: Visit) -> tuple[date, list[takings.Taking]]:
    days = CampusDays(visit.context.zone)
    on = days.day_of(visit.context.clock.now())
    with visit.context.books.read() as connection:
        return on, takings.takings(connection, start=days.start_of(on), end=days.end_of(on))


def _till(visit: Visit, circuit_id: str) -> Till:
    with visit.context.books.read() as connection:
        room = rooms.find_room(
            connection, room_id=visit.allowed.room_id, present=present_of(connection, visit.context)
        )
    view = next((one for one in room.circuits if one.circuit_id == circuit_id), None) if room else None
    if room is None or view is None:
        raise not_found()
    return Till(room=room, view=view)


def _form(visit: Visit, till: Till, given: Form, fault: str = "", *, status_code: int = 200) -> Response:
    return visit.page(
        "recharge.html",
        status_code=422 if fault and status_code == 200 else status_code,
        till=till,
        fault=fault,
        channels=CHANNELS,
        given={name: given.get(name, "") for name in ("amount", "channel", "note", "key")},
    )


def _quote(visit: Visit, till: Till) -> Quote:
    """Read the form to the fen. Raises UnableToQuoteError with the sentence that says what to change."""
    say = visit.say.t
    amount = visit.form.get("amount", "").strip()
    amount_fen = _fen(amount) if _YUAN.fullmatch(amount) else 0
    if amount_fen <= 0:
        raise UnableToQuoteError(say("page.recharge.amount_wrong"))
    if amount_fen > MAX_RECHARGE_FEN:
        raise UnableToQuoteError(say("page.recharge.too_much", limit=visit.say.yuan(MAX_RECHARGE_FEN)))
    try:
        channel = _CHANNEL.validate_python(visit.form.get("channel", ""))
    except ValidationError as fault:
        raise UnableToQuoteError(say("page.recharge.channel_wrong")) from fault
    note = visit.form.get("note", "").strip() or None
    try:
        note = None if note is None else _NOTE.validate_python(note)
    except ValidationError as fault:
        raise UnableToQuoteError(say("page.recharge.note_wrong")) from fault
    on = visit.context.clock.now().astimezone(visit.context.zone).date()
    try:
        price = price_at(visit.context.prices, kind=CircuitKind(till.view.kind), on=on)
    except UnableToPriceError as fault:
        raise UnableToQuoteError(say("page.recharge.no_price")) from fault
    millifen = price.price_millifen_per_kwh
    energy_wh = energy_bought_wh(amount_fen=amount_fen, price_millifen_per_kwh=millifen)
    if energy_wh < 1:
        raise UnableToQuoteError(say("page.recharge.nothing_bought"))
    return Quote(
        wanted=RechargeRequest(amount_fen=amount_fen, channel=channel, note=note),
        price_millifen_per_kwh=millifen,
        energy_wh=energy_wh,
    )


def _fen(amount: str) -> int:
    """Return the fen of a decimal string that `_YUAN` matches, exactly."""
    yuan, _, rest = amount.partition(".")
    return int(yuan) * 100 + int(rest.ljust(2, "0"))


def _key(visit: Visit) -> str:
    key = visit.form.get("key", "")
    if not _KEY.fullmatch(key):
        raise Refusal(Problem.INVALID, "key: expected the one that the form was shown with")
    return key
