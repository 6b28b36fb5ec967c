"""Holds: why a circuit must be off, what people see of it, and what brings it back.

Theory of operation. A *hold* is one reason why a circuit must be off. Every rule places and releases only its
own holds, so a relay is wanted closed if and only if no hold stands (invariant 14), and neither a payment nor a
restart can end somebody's lock-out (invariant 15). Nothing else is remembered: the *wanted relay*, the *supply
state* and the *explanation* are all derived from the standing holds, each time anew.

A hold placed in *shadow* is recorded and reported, moves no relay, and is not part of what residents see.

The supply state is the wanted cause, not the reported fact: a circuit that is held for arrears is in `arrears`
whether or not its relay has followed yet. Who works on the wiring needs the fact, and even that is only a
report: "reported open" is never called dead.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from dormpower.domain.samples import Relay
from dormpower.domain.units import format_kwh


class Reason(StrEnum):
    """Why a circuit must be off."""

    LOCKOUT = "lockout"
    EMERGENCY = "emergency"
    VACANT = "vacant"
    OVERLOAD = "overload"
    PROHIBITED = "prohibited"
    MODULE_TRIP = "module_trip"
    OPENED_LOCALLY = "opened_locally"
    SHED = "shed"
    ARREARS = "arrears"
    CURFEW = "curfew"


class UnknownReason(str):
    """A reason that this version does not know: books that a newer one wrote. Told by its bare code."""

    __slots__ = ()

    @property
    def value(self) -> str:
        """The code."""
        return str(self)


AnyReason = Reason | UnknownReason  # of what stands in the books


def reason_of(code: str) -> AnyReason:
    """Return the reason that is on record as this code."""
    try:
        return Reason(code)
    except ValueError:
        return UnknownReason(code)


class Release(StrEnum):
    """What ends a hold."""

    PAYMENT = "payment"
    TIMER = "timer"
    SCHEDULE = "schedule"
    CAPACITY = "capacity"
    MAINTENANCE = "maintenance"
    HOLDER = "holder"


class SupplyState(StrEnum):
    """What people see of a circuit."""

    LOCKED_OUT = "locked_out"
    LOAD_OFF = "load_off"
    ARREARS = "arrears"
    SCHEDULED_OFF = "scheduled_off"
    OFFLINE = "offline"
    NORMAL = "normal"


class Enforcement(StrEnum):
    """Whether a policy's holds move relays, are only recorded, or are not placed at all."""

    ENFORCE = "enforce"
    SHADOW = "shadow"
    OFF = "off"


# First match wins (CONTRACT: state).
STATE_OF_REASONS: tuple[tuple[SupplyState, frozenset[Reason]], ...] = (
    (SupplyState.LOCKED_OUT, frozenset({Reason.LOCKOUT, Reason.EMERGENCY, Reason.VACANT})),
    (
        SupplyState.LOAD_OFF,
        frozenset({Reason.OVERLOAD, Reason.PROHIBITED, Reason.MODULE_TRIP, Reason.OPENED_LOCALLY, Reason.SHED}),
    ),
    (SupplyState.ARREARS, frozenset({Reason.ARREARS})),
    (SupplyState.SCHEDULED_OFF, frozenset({Reason.CURFEW})),
)

# Off because of the load or the relay itself: told to maintenance as `load_off` alarms.
LOAD_OFF_REASONS = STATE_OF_REASONS[1][1]

# What a maintenance reset may release (CONTRACT: reset): latched trips and a relay opened by hand.
RESETTABLE = frozenset({Reason.OVERLOAD, Reason.PROHIBITED, Reason.MODULE_TRIP, Reason.OPENED_LOCALLY})

# After these a closing needs fresh evidence that the module is there (DESIGN §3.5).
TRIPS_AND_SHEDS = LOAD_OFF_REASONS

_RELEASE: Mapping[str, Release] = MappingProxyType(
    {
        Reason.LOCKOUT: Release.HOLDER,
        Reason.EMERGENCY: Release.HOLDER,
        Reason.VACANT: Release.HOLDER,
        Reason.OVERLOAD: Release.MAINTENANCE,
        Reason.PROHIBITED: Release.MAINTENANCE,
        Reason.MODULE_TRIP: Release.MAINTENANCE,
        Reason.OPENED_LOCALLY: Release.MAINTENANCE,
        Reason.SHED: Release.CAPACITY,
        Reason.ARREARS: Release.PAYMENT,
        Reason.CURFEW: Release.SCHEDULE,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """One standing reason why a circuit must be off. `holder` tells several lock-outs apart."""

    hold_id: str
    circuit_id: str
    reason: AnyReason
    placed_at: datetime
    placed_by: str
    holder: str = ""
    shadow: bool = False
    note: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    expected_release_at: datetime | None = None
    confirmed_open_at: datetime | None = None
    scoped_hold_id: str = ""  # part of a hold over a part of the site, which ends as a whole

    @property
    def release(self) -> Release:
        """What ends this hold: a trip with a time set is ended by its timer, a latched one by maintenance.

        Who ends one for a reason that is not known here can't be told: it is maintenance that is to look.
        """
        if self.reason in RESETTABLE and self.expected_release_at is not None:
            return Release.TIMER
        return _RELEASE.get(self.reason, Release.MAINTENANCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A sentence of the catalogue: its code and what fills it (a list: the sentences of its members)."""

    code: str
    params: Mapping[str, str | int | Sequence[str]]


def is_among(reason: AnyReason, members: AbstractSet[Reason]) -> bool:
    """Whether a hold's reason brings about the state of these reasons."""
    return reason in members or (members is LOAD_OFF_REASONS and isinstance(reason, UnknownReason))


def wanted_relay(holds: Iterable[Hold]) -> Relay:
    """Return what the books want of the relay: closed if and only if no enforced hold stands (invariant 14)."""
    return Relay.OPEN if any(not hold.shadow for hold in holds) else Relay.CLOSED


def supply_state(
    holds: Iterable[Hold], *, last_seen_at: datetime | None, now: datetime, stale_after_s: float
) -> SupplyState:
    """Return the state that people see: the first match of CONTRACT's order; an unknown reason is `load_off`.

    `last_seen_at` is the time of the last accepted reading; older than `stale_after_s` (campus seconds) is
    `offline`, but a hold's state goes first: its cause is known whatever the module says.
    """
    reasons = {hold.reason for hold in holds if not hold.shadow}
    for state, members in STATE_OF_REASONS:
        if any(is_among(reason, members) for reason in reasons):
            return state
    if last_seen_at is None or now - last_seen_at > timedelta(seconds=stale_after_s):
        return SupplyState.OFFLINE
    return SupplyState.NORMAL


def explain(hold: Hold) -> Explanation:
    """Return why the circuit is off, as a code of the catalogue and its parameters.

    Each code always has the same parameters; times and release are fields of the hold itself.
    """
    match hold.reason:
        case Reason.LOCKOUT:
            code = "hold.lockout_reported_open" if hold.confirmed_open_at else "hold.lockout"
            return Explanation(code=code, params={"holder": hold.holder, "note": hold.note or ""})
        case Reason.EMERGENCY | Reason.VACANT:
            return Explanation(code=f"hold.{hold.reason}", params={"holder": hold.holder})
        case Reason.ARREARS:
            balance_wh = hold.evidence.get("available_wh")
            kwh = "?" if balance_wh is None else format_kwh(int(balance_wh))
            return Explanation(code="hold.arrears", params={"balance_kwh": kwh})
        case Reason.OVERLOAD | Reason.PROHIBITED | Reason.MODULE_TRIP | Reason.OPENED_LOCALLY:
            latched = "" if hold.expected_release_at else "_latched"
            return Explanation(code=f"hold.{hold.reason}{latched}", params={})
        case Reason.SHED | Reason.CURFEW:
            shed = hold.reason is Reason.SHED
            params = {"feeder_id": str(hold.evidence.get("feeder_id") or "?")} if shed else {}
            return Explanation(code=f"hold.{hold.reason}", params=params)
        case UnknownReason():
            return Explanation(code="hold.unknown", params={"reason_code": hold.reason.value})
