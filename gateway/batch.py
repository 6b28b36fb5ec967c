"""One batch of samples: judged against the committed states, written in one transaction, then taken over.

A batch changes nothing outside itself until `PointMemory.take_over`, which the intake calls after the commit.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import structlog
from sqlalchemy.engine import Connection

from dormpower.books import meter_changes, quarantines
from dormpower.books.boundaries import refine
from dormpower.books.meter_changes import MeterChange
from dormpower.books.meters import (
    MeterPoint,
    lock_points,
    write_closed,
    write_present_rows,
    write_presents,
    write_states,
)
from dormpower.domain.meter_state import (
    ChannelLimits,
    Judgement,
    MeteringRules,
    MeterState,
    Outcome,
    Reason,
    Standing,
    stepped,
)
from dormpower.domain.metering import judge
from dormpower.domain.samples import ChannelSample, ModuleSample, Observation, Verdict
from dormpower.domain.spans import UnableToDecideError, decide
from dormpower.domain.units import InvariantViolationError
from dormpower.readings.port import Reading
from gateway.plain_run import PlainRun, part
from gateway.point_memory import PointConfig, PointMemory

log = structlog.get_logger()

_VERDICTS = {
    Outcome.ACCEPTED: Verdict.ACCEPTED,
    Outcome.UNCHANGED: Verdict.ACCEPTED,
    Outcome.COMMISSIONED: Verdict.ACCEPTED,
    Outcome.ROLLOVER: Verdict.ACCEPTED,
    Outcome.RETURNED: Verdict.ACCEPTED,
    Outcome.COMMISSIONING: Verdict.COMMISSIONING,
    Outcome.QUARANTINED: Verdict.QUARANTINED,
    Outcome.STILL_QUARANTINED: Verdict.QUARANTINED,
}
_COUNTED = {
    Verdict.ACCEPTED: "accepted",
    Verdict.COMMISSIONING: "commissioning",
    Verdict.QUARANTINED: "quarantined",
}


@dataclass(frozen=True, slots=True)
class _Late:
    circuit_id: str
    sample: ChannelSample
    register_wh: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """A quarantine that began (with its state and reason) or ended (with what ended it), in order."""

    circuit_id: str
    module_id: str = ""
    state: MeterState | None = None
    reason: Reason | None = None
    limits: ChannelLimits | None = None
    decision: str = ""


class Batch:
    """Judges samples and collects what their commit writes."""

    def __init__(
        self,
        *,
        memory: PointMemory,
        points: Mapping[tuple[str, int], PointConfig],
        rules: MeteringRules,
        now: datetime,
    ) -> None:
        self.states: dict[str, MeterState] = {}
        self.seen_at: dict[str, datetime] = {}
        self.plain: PlainRun | None = None
        self.in_columns: Collection[str] = ()  # circuits whose samples came so, and were judged one by one
        self.observations: list[Observation] = []
        self.readings: list[Reading] = []
        self.counted: Counter[str] = Counter()
        self._memory = memory
        self._points = points
        self._rules = rules
        self._now = now
        self._not_after = now + rules.ahead
        self._presents: dict[str, Observation] = {}
        self._plain = 0
        self._closed: list[tuple[str, Judgement]] = []
        self._whole: set[str] = set()
        self._late: list[_Late] = []
        self._turns: list[_Turn] = []
        self._ahead_now: set[str] = set()
        self._heard_now: set[str] = set()
        self._unknown: set[tuple[str, int]] = set()

    def adopt(self, opened: Mapping[str, MeterPoint], connection: Connection) -> None:
        """Take states as the books have them, before any sample is judged."""
        for circuit_id, point in opened.items():
            self.states[circuit_id] = point.state
            if point.seen_at is not None:
                self.seen_at[circuit_id] = point.seen_at
            if point.quarantine_replaced:
                quarantines.close(connection, circuit_id=circuit_id, decision="replaced", now=self._now)

    def is_asked(self, connection: Connection) -> bool:
        """Whether people have asked for something of our circuits that comes before the samples."""
        waiting = meter_changes.waiting(connection)
        return any(self._point_of(change) for change in waiting) or bool(quarantines.decided(connection))

    def apply_changes(self, connection: Connection) -> None:
        """Carry out what people recorded of replaced and newly commissioned modules of our circuits."""
        for change in meter_changes.waiting(connection):
            point, state = self._point_of(change), self._state(change.circuit_id)
            if point is None or state is None:
                continue
            judgement = meter_changes.carry_out(
                connection, change, state=state, limits=point.limits, rules=self._rules, now=self._now
            )
            if judgement is None:
                continue
            self.states[change.circuit_id] = judgement.state
            self._whole.add(change.circuit_id)
            self._closed.append((change.circuit_id, judgement))
            if state.standing is Standing.QUARANTINED:
                self._turns.append(_Turn(circuit_id=change.circuit_id, decision="replaced"))

    def apply_decisions(self, connection: Connection) -> None:
        """Carry out what people decided on quarantines of our circuits."""
        limits_of: dict[str, ChannelLimits] | None = None
        for decided in quarantines.decided(connection):
            state = self._state(decided.circuit_id)
            if limits_of is None:
                limits_of = {point.circuit_id: point.limits for point in self._points.values()}
            limits = limits_of.get(decided.circuit_id)
            if state is None or limits is None:
                continue
            try:
                judgement = decide(
                    state,
                    decision=decided.decision,
                    register_wh=decided.register_wh,
                    at=decided.at,
                    estimate_wh=decided.estimate_wh,
                    limits=limits,
                    rules=self._rules,
                )
            except UnableToDecideError as refusal:
                log.warning("quarantine.undecidable", circuit=decided.circuit_id, fault=str(refusal))
                quarantines.take_back(connection, decided, why=str(refusal), now=self._now)
                continue
            self.states[decided.circuit_id] = judgement.state
            self._whole.add(decided.circuit_id)
            self._closed.append((decided.circuit_id, judgement))
            self._turns.append(_Turn(circuit_id=decided.circuit_id, decision=decided.decision.value))

    def take(self, samples: Sequence[ModuleSample]) -> None:
        """Judge modules' channels: plain samples together, the others one by one in order of arrival."""
        if self._memory.ahead:
            self._heard_now.update(sample.module_id for sample in samples)
        memory = self._memory
        parted = part(
            samples, memory.steady, memory.row_of, not_after=self._not_after, changed=tuple(self.states)
        )
        self.plain, self.in_columns = parted.run, parted.in_columns
        for sample, channels in parted.left:
            self._take(sample, channels)

    def all_readings(self) -> Sequence[Reading]:
        """Return the readings of accepted samples."""
        if self.plain is None:
            return self.readings
        return self.plain.readings().followed_by(self.readings)

    def _take(self, sample: ModuleSample, channels: Iterable[ChannelSample]) -> None:
        module_id, points, states = sample.module_id, self._points, self.states
        for channel in channels:
            point = points.get((module_id, channel.channel))
            state = None
            if point is not None:  # `_state` without its call: this runs for every such sample
                state = states.get(point.circuit_id) or self._memory.state(point.circuit_id)
            if point is None or state is None:
                self.counted["unknown_channel"] += 1
                self._unknown.add((module_id, channel.channel))
            elif channel.register_wh is None:
                self._take_fast(point.circuit_id, state, channel, sample)
            else:
                self._take_register(point, state, channel, channel.register_wh, sample)

    def write(self, connection: Connection) -> list[Reading]:
        """Write all that changed; return the readings of late samples that refined a boundary."""
        self.counted["accepted"] += self._plain
        self.seen_at |= {circuit_id: one.at for circuit_id, one in self._presents.items()}
        plain_ids: Sequence[str] = ()
        if self.plain is not None:
            self.counted["accepted"] += self.plain.accepted
            self.counted["without_register"] += self.plain.without_register
            plain_ids = self.plain.circuit_ids
        late_ids = (late.circuit_id for late in self._late)
        lock_points(connection, {*self._presents, *self._whole, *late_ids, *plain_ids})
        write_closed(connection, self._closed)
        refined = self._refine(connection)
        write_states(connection, [(circuit_id, self.states[circuit_id]) for circuit_id in self._whole])
        write_presents(connection, self._presents, self._known_state)
        if self.plain is not None:
            write_present_rows(connection, self.plain.present_rows())
        for turn in self._turns:
            self._write_turn(connection, turn)
        return refined

    def log_transitions(self) -> None:
        """Log what changed with this batch, once; modules with a clock ahead again when it was right."""
        for module_id in sorted(self._ahead_now - self._memory.ahead):
            log.warning("sample.ahead_of_clock", module=module_id, bound_s=self._rules.ahead.total_seconds())
        self._memory.ahead |= self._ahead_now
        self._memory.ahead -= self._heard_now - self._ahead_now
        for turn in self._turns:
            if turn.state is None:
                log.info("register.believed", circuit=turn.circuit_id, decision=turn.decision)
            else:
                log.warning(
                    "register.quarantined",
                    circuit=turn.circuit_id,
                    module=turn.module_id,
                    reason=turn.reason,
                    accepted_wh=turn.state.register_wh,
                    register_wh=turn.state.suspect_register_wh,
                )
        for module_id, channel in sorted(self._unknown - self._memory.unknown):
            log.warning("sample.unknown_channel", module=module_id, channel=channel)
        self._memory.unknown |= self._unknown

    def _take_fast(
        self, circuit_id: str, state: MeterState, channel: ChannelSample, sample: ModuleSample
    ) -> None:
        if sample.at > self._not_after:
            self._refuse(sample)
        elif self._observe(circuit_id, state, channel, sample.at, Verdict.NO_REGISTER):
            self.counted["without_register"] += 1
        else:
            self.counted["late"] += 1

    def _take_register(
        self,
        point: PointConfig,
        state: MeterState,
        channel: ChannelSample,
        register_wh: int,
        sample: ModuleSample,
    ) -> None:
        circuit_id, at = point.circuit_id, sample.at
        moved = stepped(state, register_wh=register_wh, at=at, not_after=self._not_after, limits=point.limits)
        verdict = Verdict.ACCEPTED
        if moved is not None:
            self._plain += 1
        else:
            judgement = judge(
                state, register_wh=register_wh, at=at, now=self._now, limits=point.limits, rules=self._rules
            )
            outcome = judgement.outcome
            if outcome is Outcome.AHEAD_OF_CLOCK:
                self._refuse(sample)
                return
            if outcome is Outcome.LATE:
                self._take_late(circuit_id, state, channel, register_wh, at)
                return
            self._keep(point, judgement, sample.module_id)
            verdict = _VERDICTS[outcome]
            self.counted[_COUNTED[verdict]] += 1
            moved = judgement.state
        self.states[circuit_id] = moved
        if verdict is Verdict.ACCEPTED:
            self.readings.append(_reading(circuit_id, channel, register_wh, at))
        self._observe(circuit_id, moved, channel, at, verdict)

    def _keep(self, point: PointConfig, judgement: Judgement, module_id: str) -> None:
        circuit_id = point.circuit_id
        self._whole.add(circuit_id)
        if judgement.segments or judgement.boundaries:
            self._closed.append((circuit_id, judgement))
        if judgement.outcome is Outcome.QUARANTINED:
            self._turns.append(
                _Turn(
                    circuit_id=circuit_id,
                    module_id=module_id,
                    state=judgement.state,
                    reason=judgement.reason,
                    limits=point.limits,
                )
            )
        elif judgement.outcome is Outcome.RETURNED:
            self._turns.append(_Turn(circuit_id=circuit_id, decision="returned"))

    def _take_late(
        self, circuit_id: str, state: MeterState, channel: ChannelSample, register_wh: int, at: datetime
    ) -> None:
        """A late sample within the open segment is a reading; one before it may refine a boundary."""
        self.counted["late"] += 1
        if state.register_at is None or at == state.register_at:
            return
        in_open_segment = state.segment_from_at is not None and at > state.segment_from_at
        if in_open_segment and state.segment_from_wh <= register_wh <= state.register_wh:
            self.readings.append(_reading(circuit_id, channel, register_wh, at))
        self._late.append(_Late(circuit_id, channel, register_wh, at))

    def _refine(self, connection: Connection) -> list[Reading]:
        refined = []
        for late in self._late:
            state = refine(
                connection,
                circuit_id=late.circuit_id,
                state=self._known_state(late.circuit_id),
                register_wh=late.register_wh,
                at=late.at,
                rules=self._rules,
            )
            if state is not None:
                self.states[late.circuit_id] = state
                self._whole.add(late.circuit_id)
                refined.append(_reading(late.circuit_id, late.sample, late.register_wh, late.at))
        return refined

    def _write_turn(self, connection: Connection, turn: "_Turn") -> None:
        if turn.state is None or turn.reason is None or turn.limits is None:
            quarantines.close(connection, circuit_id=turn.circuit_id, decision=turn.decision, now=self._now)
            return
        quarantines.open_quarantine(
            connection,
            circuit_id=turn.circuit_id,
            module_id=turn.module_id,
            state=turn.state,
            reason=turn.reason,
            limits=turn.limits,
            now=self._now,
        )

    def _observe(
        self, circuit_id: str, state: MeterState, channel: ChannelSample, at: datetime, verdict: Verdict
    ) -> bool:
        """Take the sample for the circuit's present, unless a newer one was seen; return whether it is."""
        present = self._presents.get(circuit_id)
        if present is not None:
            seen_at: datetime | None = present.at
        else:
            seen_at = self.seen_at.get(circuit_id) or self._memory.seen_at(circuit_id)
        if seen_at is not None and at <= seen_at:
            return False
        observation = Observation(circuit_id, at, verdict, state.metered_wh, channel)
        self._presents[circuit_id] = observation
        self.observations.append(observation)
        return True

    def _refuse(self, sample: ModuleSample) -> None:
        self.counted["refused"] += 1
        self._ahead_now.add(sample.module_id)

    def _state(self, circuit_id: str) -> MeterState | None:
        return self.states.get(circuit_id) or self._memory.state(circuit_id)

    def _point_of(self, change: MeterChange) -> PointConfig | None:
        """Return the point that a change is of; None where it waits for a site that is described so."""
        point = self._points.get((change.module_id, change.channel))
        return point if point is not None and point.circuit_id == change.circuit_id else None

    def _known_state(self, circuit_id: str) -> MeterState:
        state = self._state(circuit_id)
        if state is None:
            raise InvariantViolationError(f"{circuit_id}: a sample was judged without a meter state")
        return state


def _reading(circuit_id: str, channel: ChannelSample, register_wh: int, at: datetime) -> Reading:
    return Reading(
        circuit_id,
        at,
        register_wh,
        channel.power_w,
        channel.voltage_v,
        channel.current_a,
        channel.power_factor,
        channel.relay,
    )
