"""Rooms, circuits and holds as CONTRACT writes them: the schemas, and the one place that fills them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field

from dormpower.books.circuits_view import CircuitView
from dormpower.books.outages import AnnouncedOutage
from dormpower.books.rooms import RoomView
from dormpower.domain.curfew import Outage
from dormpower.domain.holds import Hold, Reason, Release, SupplyState, explain, wanted_relay
from dormpower.domain.units import format_kwh
from dormpower.messages.catalogue import Language, text


class HoldDetail(BaseModel):
    """Why, as a code with its parameters, and as a sentence in the reader's language."""

    code: str
    params: dict[str, Any]
    text: str


class HoldJson(BaseModel):
    """One reason why a circuit must be off."""

    reason: Reason
    since_at: datetime
    release: Release
    expected_release_at: datetime | None
    detail: HoldDetail


class CircuitJson(BaseModel):
    """A circuit at this moment. `state` is the wanted cause, `relay` what the module reports, never more."""

    circuit_id: str
    kind: Literal["lighting", "ac"]
    state: SupplyState
    online: bool
    relay: Literal["closed", "open", "unknown"] = Field(
        description="As reported. Open is not proof of dead: isolate, lock and prove dead at the breaker."
    )
    control: Literal["settled", "pending", "waiting", "failed"]
    expected_change_at: datetime | None
    holds: list[HoldJson]
    account_id: str | None
    balance_wh: int
    balance_kwh: str
    level: Literal["ok", "low", "critical", "arrears"]
    power_w: float | None
    last_seen_at: datetime | None
    days_left: int | None


class AnnouncementJson(BaseModel):
    """A planned outage of the room, to come or running: half-open, and what of the room it takes off supply."""

    outage_id: str
    kind: Literal["lighting", "ac"] | None = Field(description="null: both circuits")
    from_at: datetime
    to_at: datetime
    detail: HoldDetail


class RoomJson(BaseModel):
    """A room, its circuits, and what is announced for it."""

    room_id: str
    campus: str
    building: str
    floor: str
    name: str
    circuits: list[CircuitJson]
    announcements: list[AnnouncementJson]


class RoomPageJson(BaseModel):
    """A page of rooms."""

    items: list[RoomJson]
    next_cursor: str | None


def hold_json(hold: Hold, language: Language) -> dict[str, Any]:
    """Fill a hold."""
    why = explain(hold)
    return {
        "reason": hold.reason.value,
        "since_at": hold.placed_at,
        "release": hold.release.value,
        "expected_release_at": hold.expected_release_at,
        "detail": {
            "code": why.code,
            "params": dict(why.params),
            "text": text(why.code, why.params, language),
        },
    }


def _control(view: CircuitView) -> str:
    """Return how far the relay follows. Until the gateway has taken up a new hold or release it is pending."""
    if view.control == "settled" and view.relay is not None and view.relay != wanted_relay(view.holds).value:
        return "pending"
    return view.control


def circuit_json(view: CircuitView, language: Language) -> dict[str, Any]:
    """Fill a circuit."""
    return {
        "circuit_id": view.circuit_id,
        "kind": view.kind,
        "state": view.state.value,
        "online": view.online,
        "relay": view.relay or "unknown",
        "control": _control(view),
        "expected_change_at": view.expected_change_at,
        "holds": [hold_json(hold, language) for hold in view.holds],
        "account_id": view.account_id,
        "balance_wh": view.balance_wh,
        "balance_kwh": format_kwh(view.balance_wh),
        "level": view.level,
        "power_w": view.power_w,
        "last_seen_at": view.last_seen_at,
        "days_left": view.days_left,
    }


def announcement_json(outage: Outage, language: Language, zone: ZoneInfo) -> dict[str, Any]:
    """Fill an announcement; its sentence has the site's time."""
    params = {"from_at": outage.from_at.isoformat(), "to_at": outage.to_at.isoformat(), "note": outage.note}
    return {
        "outage_id": outage.outage_id,
        "kind": outage.scope.kind,
        "from_at": outage.from_at,
        "to_at": outage.to_at,
        "detail": {
            "code": "announcement.outage",
            "params": params,
            "text": text("announcement.outage", params, language, zone=zone),
        },
    }


def room_json(
    view: RoomView, language: Language, *, announced: Sequence[AnnouncedOutage] = (), zone: ZoneInfo
) -> dict[str, Any]:
    """Fill a room."""
    return {
        "room_id": view.room_id,
        "campus": view.campus,
        "building": view.building,
        "floor": view.floor,
        "name": view.name,
        "circuits": [circuit_json(circuit, language) for circuit in view.circuits],
        "announcements": [announcement_json(one.outage, language, zone) for one in announced],
    }
