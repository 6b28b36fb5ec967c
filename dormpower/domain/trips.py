"""What a sample's relay and flags say together, judged before any command (DESIGN §3.2).

Theory of operation. The relay as it was last judged is compared with the sample:

    relay   trip flag   explained by a command of ours   since last judged   →
    open    yes         –                                newly so             hold module_trip
    open    no          yes                              –                    nothing: it followed
    open    no          no                               newly open           hold opened_locally
    closed  no          the module's own delay is over   was open             its trip ends, or is latched
    closed  –           another hold stands              was open             alarm closed_against_hold
    open    –           –                                draws twice running  alarm open_but_drawing

"Newly" matters after a maintenance reset: the relay is still open and its flag may still stand, but that trip
has been dealt with; only another one is held again. A command of ours explains an open relay from the moment
it is recorded until the relay is next seen closed, however the command ended: a lost answer is no electrician.
Samples that were taken before a command's end, whenever they arrive, are not judged at all.

Which flags explain an open relay, and which are alarms of their own, the model's profile says
(`dormpower.domain.flags`). A flag's alarm stands while the flag does and the profile makes it one: what stands
counts, not what has become different, since a profile may be changed while flags stand. A hold stays what it
was when it was placed, and ends as it would have.

A relay that reports nothing gives no hold; flags give their alarms all the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from dormpower.domain.alarms import AlarmKind
from dormpower.domain.flags import ALARM_OF, STANDARD_MEANINGS, FlagMeanings
from dormpower.domain.holds import Hold, Reason, wanted_relay
from dormpower.domain.policy import ClearAlarm, Latch, LetGo, Place, RaiseAlarm
from dormpower.domain.restoring import (
    OBSERVED_AT,
    Restore,
    RestorePolicy,
    closed_itself,
    planned_release_at,
)
from dormpower.domain.samples import ChannelSample, Flag, Relay

RULE = "rule:trips"

# *Suggested*: above a module's own noise, below the smallest lamp.
DRAWING_POWER_W = 10.0
DRAWING_CURRENT_A = 0.1
DRAWING_SAMPLES = 2

Finding = Place | LetGo | Latch | RaiseAlarm | ClearAlarm


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What was last judged of a circuit's relay: kept in memory, and rebuilt from the books after a restart."""

    relay: Relay | None = None
    flags: frozenset[Flag] = frozenset()
    drawing_samples: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TripFacts:
    """What is known beside the sample. `holds` and `alarms` (kinds) are the circuit's standing ones.

    `ours_open`: a command of ours asked for open, and the relay has not been seen closed since. `restoring`:
    the profile's self-restore delay and its daily bound (invariant 21), None where maintenance resets;
    `restores`: the closings by timers so far. `meanings`: what the profile makes of the flags. `observed_at`:
    when the sample was taken, where that is not now.
    """

    holds: tuple[Hold, ...]
    ours_open: bool
    alarms: frozenset[str] = frozenset()
    meanings: FlagMeanings = STANDARD_MEANINGS
    observed_at: datetime | None = None
    restoring: RestorePolicy | None = None
    restores: tuple[Restore, ...] = ()


def unchanged(before: Judged, sample: ChannelSample, wanted: Relay) -> bool:
    """Whether the sample can't say anything new: the cheap test for the common case."""
    if sample.flags or before.flags or before.drawing_samples:
        return False
    relay = sample.relay
    if relay is None:
        return True
    return relay is before.relay and relay is wanted and (relay is Relay.CLOSED or not draws(sample))


def judge(
    before: Judged, sample: ChannelSample, facts: TripFacts, *, now: datetime
) -> tuple[Judged, tuple[Finding, ...]]:
    """Return what is now known of the relay, and what follows from the sample."""
    drawing = draws(sample) and sample.relay is Relay.OPEN
    after = Judged(
        relay=before.relay if sample.relay is None else sample.relay,
        flags=sample.flags,
        drawing_samples=min(before.drawing_samples + 1, DRAWING_SAMPLES) if drawing else 0,
    )
    return after, tuple(_findings(before, after, sample, facts, now=now))


def _findings(
    before: Judged, after: Judged, sample: ChannelSample, facts: TripFacts, *, now: datetime
) -> Iterator[Finding]:
    if sample.relay is Relay.OPEN:
        yield from _opening(before, sample, facts, now=now)
    elif sample.relay is Relay.CLOSED and before.relay is Relay.OPEN:
        yield from _closing(sample, facts, now=now)
    if sample.relay is Relay.OPEN or wanted_relay(facts.holds) is Relay.CLOSED:
        yield ClearAlarm(kind=AlarmKind.CLOSED_AGAINST_HOLD)
    if after.drawing_samples >= DRAWING_SAMPLES > before.drawing_samples:
        yield RaiseAlarm(kind=AlarmKind.OPEN_BUT_DRAWING, evidence=evidence_of(sample))
    elif before.drawing_samples and not after.drawing_samples:
        yield ClearAlarm(kind=AlarmKind.OPEN_BUT_DRAWING)
    for flag, kind in ALARM_OF.items():
        told = flag in after.flags and flag in facts.meanings.alarms
        if told and kind not in facts.alarms:
            yield RaiseAlarm(kind=kind, evidence=evidence_of(sample))
        elif kind in facts.alarms and not told:
            yield ClearAlarm(kind=kind)


def _opening(before: Judged, sample: ChannelSample, facts: TripFacts, *, now: datetime) -> Iterator[Finding]:
    tripped = sample.flags & facts.meanings.trips
    seen = {OBSERVED_AT: (facts.observed_at or now).isoformat()}
    if tripped:
        if before.relay is Relay.OPEN and tripped <= before.flags:
            return
        yield Place(
            reason=Reason.MODULE_TRIP,
            evidence={**evidence_of(sample), **seen, "trip_flags": sorted(flag.value for flag in tripped)},
            expected_release_at=_self_restore_at(facts, Reason.MODULE_TRIP, now=now),
        )
    elif not facts.ours_open and before.relay is not Relay.OPEN:
        yield Place(
            reason=Reason.OPENED_LOCALLY,
            evidence={**evidence_of(sample), **seen},
            expected_release_at=_self_restore_at(facts, Reason.OPENED_LOCALLY, now=now),
        )


def _closing(sample: ChannelSample, facts: TripFacts, *, now: datetime) -> Iterator[Finding]:
    remaining = list(facts.holds)
    for hold in facts.holds:
        if hold.placed_by != RULE or facts.restoring is None or sample.flags & facts.meanings.trips:
            continue
        ended = closed_itself(
            hold, facts.restoring, facts.restores, observed_at=facts.observed_at or now, now=now
        )
        if ended is not None:
            yield ended
        if isinstance(ended, LetGo):
            remaining.remove(hold)
    if wanted_relay(remaining) is Relay.OPEN:
        yield RaiseAlarm(kind=AlarmKind.CLOSED_AGAINST_HOLD, evidence=evidence_of(sample))


def _self_restore_at(facts: TripFacts, reason: Reason, *, now: datetime) -> datetime | None:
    if facts.restoring is None:
        return None
    return planned_release_at(facts.restoring, facts.restores, reason=reason, shadow=False, now=now)


def draws(sample: ChannelSample) -> bool:
    """Whether current flows, by what the sample has of it."""
    return (sample.power_w or 0.0) > DRAWING_POWER_W or (sample.current_a or 0.0) > DRAWING_CURRENT_A


def evidence_of(sample: ChannelSample) -> dict[str, str | float | list[str] | None]:
    """Return what of a sample a finding rests on."""
    return {
        "relay": None if sample.relay is None else sample.relay.value,
        "flags": sorted(flag.value for flag in sample.flags),
        "power_w": sample.power_w,
        "current_a": sample.current_a,
    }
