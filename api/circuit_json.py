"""Rooms, circuits and holds as CONTRACT writes them: the schemas, and the one place that fills them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, Field

from dormpower.books.circuits_view import CircuitView
from dormpower.books.outages import AnnouncedOutage
from dormpower.books.residencies import Span, any_covers, any_holds
from dormpower.books.rooms import RoomView
from dormpower.domain import forecast
from dormpower.domain.announcing import Announcement, Cause, Schedules
from dormpower.domain.days import CampusDays
from dormpower.domain.evidence import Evidence, shown_evidence
from dormpower.domain.holds import Hold, Reason, Release, SupplyState, explain, wanted_relay
from dormpower.domain.reconcile import WaitsFor
from dormpower.domain.samples import Relay
from dormpower.domain.units import format_kwh
from dormpower.messages.catalogue import Language, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """Who reads: the language, the site's zone for times in sentences, and what time of a room may be seen.

    `spans` None: all of time.
    """

    language: Language
    zone: ZoneInfo
    spans: Sequence[Span] | None = None


class HoldDetail(BaseModel):
    """Why, as a code with its parameters, and as a sentence in the reader's language."""

    code: str
    params: dict[str, Any]
    text: str


class SampleJson(BaseModel):
    """The circuit's power at one instant."""

    at: datetime
    power_w: float
    apparent_va: float | None


class EvidenceJson(HoldDetail):
    """What a decision rested on: figures, their sentence, and the samples of this circuit behind it."""

    samples: list[SampleJson]


class HoldJson(BaseModel):
    """One reason why a circuit must be off."""

    hold_id: str
    reason: Reason | str = Field(description="One that this version does not know stands as its bare code.")
    since_at: datetime
    release: Release
    expected_release_at: datetime | None
    detail: HoldDetail
    evidence: EvidenceJson | None = Field(
        description="What it rests on; null for a person's decision, and where it was placed before the reader "
        "lived there."
    )


class WarningJson(BaseModel):
    """A warning that was given: the first or the second."""

    number: Literal[1, 2]
    warned_at: datetime
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
    open_but_drawing: bool = Field(
        description="Reported open while current flows: welded or bypassed. The circuit is not off."
    )
    control: Literal["settled", "pending", "waiting", "failed"]
    expected_change_at: datetime | None
    waiting: HoldDetail | None = Field(description="What the switch waits for, while `control` is waiting.")
    holds: list[HoldJson]
    account_id: str | None
    balance_wh: int
    balance_kwh: str
    level: Literal["ok", "low", "critical", "arrears"]
    power_w: float | None
    last_seen_at: datetime | None
    days_left: int | None
    warnings: list[WarningJson] = Field(description="Those of the present fall of the balance, at most two.")
    cut_not_before_at: datetime | None = Field(
        description="The earliest instant of a cut for arrears once the balance is used up; null before the "
        "second warning, and where nothing is cut."
    )


class AnnouncementJson(BaseModel):
    """What is to come for the room or running, half-open: a planned outage, a curfew, or a night's power limit.

    Curfews and night limits are told a day ahead.
    """

    cause: Cause
    outage_id: str | None = Field(description="A planned outage's.")
    kind: Literal["lighting", "ac"] | None = Field(description="Which circuit of the room; null: both.")
    from_at: datetime
    to_at: datetime
    limit_w: int | None = Field(description="A night's limit: above it the circuit trips.")
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


def sentence_json(code: str, params: Mapping[str, Any], reader: Reader) -> dict[str, Any]:
    """Fill a code with its parameters and its sentence."""
    said = text(code, params, reader.language, zone=reader.zone)
    return {"code": code, "params": dict(params), "text": said}


def evidence_json(evidence: Evidence | None, *, decided_at: datetime, reader: Reader) -> dict[str, Any] | None:
    """Fill what a decision rested on; None where it was taken outside the times that may be seen.

    Instants outside them, such as a warning to those who lived there before, are left out.
    """
    if evidence is None or not any_holds(reader.spans, decided_at):
        return None
    params = {
        name: None if name.endswith("_at") and not _may_see(reader, value) else value
        for name, value in evidence.params.items()
    }
    samples = [
        {"at": one.at, "power_w": one.power_w, "apparent_va": one.apparent_va}
        for one in evidence.samples
        if any_holds(reader.spans, one.at)
    ]
    return {**sentence_json(evidence.code, params, reader), "samples": samples}


def _may_see(reader: Reader, instant: str | None) -> bool:
    return instant is None or any_holds(reader.spans, datetime.fromisoformat(instant))


def hold_json(hold: Hold, reader: Reader) -> dict[str, Any]:
    """Fill a hold."""
    why = explain(hold)
    evidence = shown_evidence(hold.reason, hold.evidence)
    return {
        "hold_id": hold.hold_id,
        "reason": hold.reason.value,
        "since_at": hold.placed_at,
        "release": hold.release.value,
        "expected_release_at": hold.expected_release_at,
        "detail": sentence_json(why.code, why.params, reader),
        "evidence": evidence_json(evidence, decided_at=hold.placed_at, reader=reader),
    }


def _control(view: CircuitView) -> str:
    """Return how far the relay follows. Until the gateway has taken up a new hold or release it is pending.

    A relay that says open while current flows has not followed, whatever it says.
    """
    if view.open_but_drawing and wanted_relay(view.holds) is Relay.OPEN:
        return "failed"
    if view.control == "settled" and view.relay is not None and view.relay != wanted_relay(view.holds).value:
        return "pending"
    return view.control


def _waiting(view: CircuitView, reader: Reader) -> dict[str, Any] | None:
    """Return what the switch waits for, and the feeder where that has no room."""
    waiting = view.waiting
    if waiting is None or _control(view) != "waiting":
        return None
    params = {"feeder_id": waiting.feeder_id} if waiting.why is WaitsFor.FEEDER_ROOM else {}
    return sentence_json(f"waiting.{waiting.why}", params, reader)


def circuit_json(view: CircuitView, reader: Reader) -> dict[str, Any]:
    """Fill a circuit."""
    return {
        "circuit_id": view.circuit_id,
        "kind": view.kind,
        "state": view.state.value,
        "online": view.online,
        "relay": view.relay or "unknown",
        "open_but_drawing": view.open_but_drawing,
        "control": _control(view),
        "expected_change_at": view.expected_change_at,
        "waiting": _waiting(view, reader),
        "holds": [hold_json(hold, reader) for hold in view.holds],
        "account_id": view.account_id,
        "balance_wh": view.balance_wh,
        "balance_kwh": format_kwh(view.balance_wh),
        "level": view.level.value,
        "power_w": _power_w(view, reader),
        "last_seen_at": view.last_seen_at,
        "days_left": _days_left(view, reader),
        "warnings": _warnings(view, reader),
        "cut_not_before_at": view.cut_not_before_at,
    }


def _power_w(view: CircuitView, reader: Reader) -> float | None:
    """Return what the circuit drew when it was last seen, unless others lived there then."""
    seen = view.last_seen_at is None or any_holds(reader.spans, view.last_seen_at)
    return view.power_w if seen else None


def _days_left(view: CircuitView, reader: Reader) -> int | None:
    """Return how long the balance lasts, going by days that may be seen: others used it at another rate."""
    if reader.spans is None:
        return view.days_left
    days = CampusDays(reader.zone)
    seen = [
        energy_wh
        for on, energy_wh in view.recent_days_wh.items()
        if any_covers(reader.spans, days.start_of(on), days.end_of(on))
    ]
    return forecast.days_left(available_wh=view.balance_wh, recent_days_wh=seen)


def _warnings(view: CircuitView, reader: Reader) -> list[dict[str, Any]]:
    """Fill the warnings; one that was given before the reader lived there is another's."""
    cut_at = None if view.cut_not_before_at is None else view.cut_not_before_at.isoformat()
    second_code = "warning.second" if cut_at is None else "warning.second_until"
    return [
        {"number": number, "warned_at": at, "detail": sentence_json(code, params, reader)}
        for number, at, code, params in (
            (1, view.warnings.first_at, "warning.first", {}),
            (2, view.warnings.second_at, second_code, {} if cut_at is None else {"cut_not_before_at": cut_at}),
        )
        if at is not None and any_holds(reader.spans, at)
    ]


def announcements_of(
    view: RoomView, *, announced: Sequence[AnnouncedOutage], schedules: Schedules, now: datetime
) -> list[Announcement]:
    """Return what is to come for a room: planned outages, curfews and night limits, by their beginning."""
    planned = [
        Announcement(
            cause=Cause.OUTAGE,
            kind=one.outage.scope.kind,
            from_at=one.outage.from_at,
            to_at=one.outage.to_at,
            outage_id=one.outage.outage_id,
            note=one.outage.note,
        )
        for one in announced
    ]
    ahead = schedules.ahead(view.places, keep_supply=view.keep_supply, now=now)
    return sorted((*planned, *ahead), key=lambda one: one.from_at)


def announcement_json(announcement: Announcement, reader: Reader) -> dict[str, Any]:
    """Fill an announcement; its sentence has the site's time."""
    cause = announcement.cause
    params: dict[str, Any] = {
        "from_at": announcement.from_at.isoformat(),
        "to_at": announcement.to_at.isoformat(),
    }
    if cause is Cause.OUTAGE:
        params["note"] = announcement.note
    elif cause is Cause.NIGHT_LIMIT:
        params["limit_w"] = announcement.limit_w
    return {
        "cause": cause.value,
        "outage_id": announcement.outage_id,
        "kind": announcement.kind,
        "from_at": announcement.from_at,
        "to_at": announcement.to_at,
        "limit_w": announcement.limit_w,
        "detail": sentence_json(f"announcement.{cause}", params, reader),
    }


def room_json(view: RoomView, reader: Reader, *, announcements: Sequence[Announcement]) -> dict[str, Any]:
    """Fill a room."""
    return {
        "room_id": view.room_id,
        "campus": view.campus,
        "building": view.building,
        "floor": view.floor,
        "name": view.name,
        "circuits": [circuit_json(circuit, reader) for circuit in view.circuits],
        "announcements": [announcement_json(one, reader) for one in announcements],
    }
