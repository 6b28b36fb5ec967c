"""What happened to a circuit, entry by entry, and the sentence for each.

Four kinds of entry: a hold was placed, a hold was released, the supply state became another, the relay was sent
a command. Each is told by a code of the catalogue with its parameters; a cause or an outcome that is not known
here (written by another version) is told as "other", never refused.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from dormpower.domain.feeder_facts import Why
from dormpower.domain.holds import Explanation, Hold, Reason, SupplyState
from dormpower.domain.restoring import TIMER_OVER
from dormpower.domain.samples import Relay

OTHER = "other"
PEOPLES_REASONS = frozenset({Reason.LOCKOUT, Reason.EMERGENCY, Reason.VACANT})

# What a change of state is put down to.
CAUSES = frozenset(
    {
        "contact",
        "control",
        *(f"hold.{reason.value}.{step}" for reason in Reason for step in ("placed", "released")),
    }
)

# How a command may end; `interrupted`: the gateway ended first.
OUTCOMES = frozenset(
    {
        "confirmed",
        "unconfirmed",
        "not_followed",
        "timed_out",
        "refused",
        "expired",
        "line_down",
        "no_relay",
        "interrupted",
    }
)
UNDER_WAY = "under_way"

# What a rule writes down when it lets go → how that is told.
_ENDED: Mapping[str, str] = MappingProxyType(
    {
        "balance_above_floor": "payment",
        TIMER_OVER: "timer",
        "over": "schedule",
        "schedule_changed": "schedule_changed",
        Why.CAPACITY.value: "capacity",
        Why.TURN_OVER.value: "turn_over",
        "not_in_force": "policy",
        "policy_off": "policy",
        "policy_shadow": "policy",
    }
)
ENDED = frozenset({*_ENDED.values(), "reset", "person", OTHER})


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldPlaced:
    """A hold was placed. `hold` is as it stands or stood, so its expected release may have changed since."""

    entry_id: str
    at: datetime
    hold: Hold


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldReleased:
    """A hold was released, by whom and on what grounds."""

    entry_id: str
    at: datetime
    hold: Hold
    released_by: str
    evidence: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChanged:
    """The supply state became another; `relay` is what was reported then."""

    entry_id: str
    at: datetime
    from_state: str
    to_state: str
    cause: str
    actor: str
    relay: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSent:
    """The relay was sent a command because of these holds' reasons (none: nothing holds it off any more)."""

    entry_id: str
    at: datetime
    relay: str
    reasons: tuple[str, ...]
    attempt: int
    finished_at: datetime | None
    outcome: str | None
    read_back_relay: str | None
    read_back_at: datetime | None


Entry = HoldPlaced | HoldReleased | StateChanged | CommandSent


def explain_entry(entry: Entry) -> Explanation:
    """Return an entry's sentence, as a code of the catalogue and its parameters."""
    match entry:
        case HoldPlaced(hold=hold):
            reason = [hold.reason.value]
            if hold.reason not in PEOPLES_REASONS:
                return Explanation(code="timeline.placed", params={"reason": reason})
            return Explanation(
                code="timeline.placed_by_person",
                params={"reason": reason, "actor": hold.placed_by, "note": hold.note or ""},
            )
        case HoldReleased(hold=hold):
            ended = [how_it_ended(entry.evidence)]
            return Explanation(code="timeline.released", params={"reason": [hold.reason.value], "ended": ended})
        case StateChanged():
            cause = entry.cause if entry.cause in CAUSES else OTHER
            if entry.to_state == SupplyState.LOCKED_OUT:  # what the hold wants; no relay was read back yet
                return Explanation(code="timeline.locked_out", params={"cause": [cause]})
            return Explanation(code="timeline.state", params={"state": [entry.to_state], "cause": [cause]})
        case CommandSent():
            return _explain_command(entry)


def _explain_command(entry: CommandSent) -> Explanation:
    outcome = entry.outcome or UNDER_WAY
    told = [outcome if outcome in {*OUTCOMES, UNDER_WAY} else OTHER]
    if entry.relay == Relay.CLOSED:
        return Explanation(code="timeline.close", params={"attempt": entry.attempt, "outcome": told})
    return Explanation(
        code="timeline.open", params={"attempt": entry.attempt, "outcome": told, "reason": entry.reasons}
    )


def fields_of(entry: Entry) -> dict[str, Any]:
    """Return an entry as interfaces write it, without its sentence and its evidence (docs/interfaces.md)."""
    match entry:
        case HoldPlaced(hold=hold):
            return {
                **_hold_fields(entry, "placed", actor=hold.placed_by),
                "release": hold.release.value,
                "expected_release_at": hold.expected_release_at,
            }
        case HoldReleased():
            return _hold_fields(entry, "released", actor=entry.released_by)
        case StateChanged():
            names: Sequence[str] = ("at", "from_state", "to_state", "cause", "actor", "relay")
            return {"type": "state", **{name: getattr(entry, name) for name in names}}
        case CommandSent():
            names = ("at", "relay", "attempt", "finished_at", "outcome", "read_back_relay", "read_back_at")
            own = {"type": "command", "command_id": entry.entry_id, "reasons": list(entry.reasons)}
            return own | {name: getattr(entry, name) for name in names}


def _hold_fields(entry: HoldPlaced | HoldReleased, step: str, *, actor: str) -> dict[str, Any]:
    reason = entry.hold.reason.value
    return {
        "at": entry.at,
        "type": "hold",
        "step": step,
        "hold_id": entry.hold.hold_id,
        "reason": reason,
        "cause": f"hold.{reason}.{step}",
        "actor": actor,
    }


def how_it_ended(evidence: Mapping[str, Any]) -> str:
    """Return how a hold's release is told, by the evidence on record: one of `ENDED`."""
    if "reset_by" in evidence:
        return "reset"
    if "admin_reason" in evidence or "note" in evidence:
        return "person"
    return _ENDED.get(str(evidence.get("cause") or evidence.get("why")), OTHER)
