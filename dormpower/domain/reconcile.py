"""The reconciler's rule: wanted against actual relay, as a table.

Theory of operation. Nothing is queued: at any instant the facts say what to do next, so a restart, a lost
command or a rebooting module needs no special case (DESIGN §3.3). First match wins:

    no relay                                      → settled: metered, never switched
    a command is under way                        → wait
    nothing read in this run yet                  → wait: read first, then act (invariant 25)
    reported relay is the wanted one              → settled
    line or module down                           → wait
    closing, after a trip or shed, data not fresh → wait (DESIGN §3.5)
    closing, minimum off time not over            → wait until it is (an opening never waits, invariant 20)
    tried and failed, back-off not over           → wait; after `TRIES` failures it counts as failed
    otherwise                                     → send

Back-off follows real time (commands do), the minimum off time campus time.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from dormpower.domain.samples import Relay

# Real seconds before the next try, by the number of failures so far; the last one repeats. The tries before the
# alarm come quickly: whoever locked a circuit out learns within seconds, not minutes, that it does not open.
BACK_OFF_S = (0.0, 1.0, 2.0, 5.0, 10.0, 120.0)
TRIES = 5
COMMAND_LIFE_S = 10.0


class Control(StrEnum):
    """How far the relay follows what is wanted (CONTRACT: control)."""

    SETTLED = "settled"
    PENDING = "pending"
    WAITING = "waiting"
    FAILED = "failed"


class WaitsFor(StrEnum):
    """What a relay that is not as wanted waits for."""

    FIRST_READING = "first_reading"
    UNREACHABLE = "unreachable"
    FRESH_READING = "no_fresh_reading"
    MINIMUM_OFF = "minimum_off"
    SPREAD = "spread"
    FEEDER_ROOM = "feeder_room"
    COMMAND = "command_under_way"
    BACK_OFF = "back_off"


# Something is being done about it: people are told that, not what it waits for.
_UNDER_WAY = frozenset({WaitsFor.COMMAND, WaitsFor.BACK_OFF})


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What people are told of a relay that waits; `feeder_id` is the feeder that has no room."""

    why: WaitsFor
    feeder_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileFacts:
    """What is known of one circuit. `opened_at` and `min_off_s` are campus time, `last_try_at` is real time.

    `actual` is what was last reported, None where nothing was. `sent` is what the last command asked for, in
    this run or the one before: all there is to go by where the profile has no read-back.
    """

    wanted: Relay
    actual: Relay | None
    seen_in_this_run: bool
    fresh: bool
    reachable: bool
    has_relay: bool = True
    has_readback: bool = True
    outstanding: bool = False
    sent: Relay | None = None
    failures: int = 0
    last_try_at: datetime | None = None
    opened_at: datetime | None = None
    min_off_s: float = 0.0
    after_trip_or_shed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send a command now; `attempt` counts from 1."""

    relay: Relay
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitUntil:
    """Don't act yet. `campus_at` or `real_at` says when to look again, where that is known."""

    why: WaitsFor
    campus_at: datetime | None = None
    real_at: datetime | None = None
    feeder_id: str | None = None  # that has no room


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The relay is as wanted, or nothing can or need be switched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The relay did not follow after `TRIES` tries; it is tried again, slowly, from `real_at` on."""

    real_at: datetime


Step = Send | WaitUntil | Settled | Failed


# One return for each row of the table above.
def next_step(  # noqa: PLR0911
    facts: ReconcileFacts, *, now: datetime, real_now: datetime
) -> Step:
    """Return what to do next for one circuit."""
    if not facts.has_relay:
        return Settled()
    if facts.outstanding:
        return WaitUntil(why=WaitsFor.COMMAND)
    if not facts.seen_in_this_run:
        return WaitUntil(why=WaitsFor.FIRST_READING)
    if _reported(facts) is facts.wanted:
        return Settled()
    if not facts.reachable:
        return WaitUntil(why=WaitsFor.UNREACHABLE)
    if facts.wanted is Relay.CLOSED:
        closing = _closing_waits(facts, now=now)
        if closing is not None:
            return closing
    back_off_over_at = _back_off_over_at(facts)
    if back_off_over_at is not None and real_now < back_off_over_at:
        if facts.failures >= TRIES:
            return Failed(real_at=back_off_over_at)
        return WaitUntil(why=WaitsFor.BACK_OFF, real_at=back_off_over_at)
    return Send(relay=facts.wanted, attempt=facts.failures + 1)


def control_of(step: Step, *, failures: int) -> Control:
    """Return what people see of the reconciler's step."""
    if isinstance(step, Settled):
        return Control.SETTLED
    if isinstance(step, Failed) or failures >= TRIES:
        return Control.FAILED
    if isinstance(step, Send) or step.why in _UNDER_WAY:
        return Control.PENDING
    return Control.WAITING


def waiting_of(step: Step) -> Waiting | None:
    """Return what people are told that a relay waits for; None where it does not, or something is under way."""
    if not isinstance(step, WaitUntil) or step.why in _UNDER_WAY:
        return None
    return Waiting(why=step.why, feeder_id=step.feeder_id)


def _reported(facts: ReconcileFacts) -> Relay | None:
    if facts.has_readback:
        return facts.actual
    # Never confirmed; without a command of ours a relay of this kind is taken for closed. What failed may have
    # acted all the same: until a command gets through, nothing is known.
    return None if facts.failures else facts.sent or Relay.CLOSED


def _closing_waits(facts: ReconcileFacts, *, now: datetime) -> WaitUntil | None:
    if facts.after_trip_or_shed and not facts.fresh:
        return WaitUntil(why=WaitsFor.FRESH_READING)
    if facts.opened_at is not None:
        over_at = facts.opened_at + timedelta(seconds=facts.min_off_s)
        if now < over_at:
            return WaitUntil(why=WaitsFor.MINIMUM_OFF, campus_at=over_at)
    return None


def _back_off_over_at(facts: ReconcileFacts) -> datetime | None:
    if facts.failures == 0 or facts.last_try_at is None:
        return None
    return facts.last_try_at + timedelta(seconds=BACK_OFF_S[min(facts.failures, len(BACK_OFF_S) - 1)])
