"""Alarms of what a look at a circuit found: one for one condition, whoever of its circuits saw it first.

A cover or a temperature is the module's: both channels of a dual module report it, and it is one alarm. It ends
when no channel reports it any more.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import alarms, events, shadow_alarms
from dormpower.books.alarms import Alarm
from dormpower.books.tables import channel_spans, meter_points
from dormpower.domain.alarms import PRIORITIES, AlarmKind
from dormpower.domain.flags import ALARM_OF
from dormpower.domain.policy import ClearAlarm, RaiseAlarm
from gateway.control_memory import CircuitMemory
from gateway.looking import Outcome

MODULE_KINDS = frozenset({AlarmKind.COVER_OPEN, AlarmKind.OVER_TEMPERATURE})


def knows(alarm: Alarm) -> bool:
    """Whether an active alarm is one that its circuit, or each circuit of its module, takes over after a start.

    Each, not just those that reported it last: the sample without it may have come while a command was under
    way, unjudged. Who does not report it then leaves it to those that do.
    """
    return alarm.subject_kind == "circuit" or alarm.kind in MODULE_KINDS


def tell(
    connection: Connection,
    memory: CircuitMemory,
    decision: RaiseAlarm | ClearAlarm,
    outcome: Outcome,
    *,
    now: datetime,
) -> None:
    """Raise or clear the alarm of a condition; nothing where the circuit knows it so already."""
    circuit, kind = memory.circuit, decision.kind
    if decision.shadow:
        _record(connection, circuit.circuit_id, decision, outcome, now=now)
        return
    of_module = kind in MODULE_KINDS
    subject_kind, subject_id = ("module", circuit.module_id) if of_module else ("circuit", circuit.circuit_id)
    if isinstance(decision, RaiseAlarm):
        if kind in outcome.active_alarms:
            return
        alarms.raise_alarm(
            connection,
            kind=kind,
            priority=PRIORITIES[kind],
            subject_kind=subject_kind,
            subject_id=subject_id,
            circuit_id=circuit.circuit_id,
            module_id=circuit.module_id if of_module else None,
            line_id=circuit.line_id if of_module else None,
            detail={"sampling_period_s": outcome.sampling_period_s, **decision.evidence},
            now=now,
        )
        outcome.active_alarms |= {kind.value}
    else:
        if kind not in outcome.active_alarms:
            return
        if not of_module or not _another_reports(connection, memory, kind):
            alarms.clear_alarm(connection, kind=kind, subject_kind=subject_kind, subject_id=subject_id, now=now)
        outcome.active_alarms -= {kind.value}
    if kind is AlarmKind.OPEN_BUT_DRAWING:  # part of what people see of the circuit
        events.append(connection, kind="circuit", subject_id=circuit.circuit_id, now=now)
    outcome.changed = True


def _record(
    connection: Connection,
    circuit_id: str,
    decision: RaiseAlarm | ClearAlarm,
    outcome: Outcome,
    *,
    now: datetime,
) -> None:
    """Put on record what a rule in shadow would have told; nobody is told, and no state changes."""
    kind = decision.kind
    if isinstance(decision, RaiseAlarm):
        evidence = {"sampling_period_s": outcome.sampling_period_s, **decision.evidence}
        shadow_alarms.begin(connection, circuit_id=circuit_id, kind=kind, evidence=evidence, now=now)
        outcome.shadow_alarms |= {kind.value}
    else:
        shadow_alarms.end(connection, circuit_id=circuit_id, kind=kind, now=now)
        outcome.shadow_alarms -= {kind.value}


def _another_reports(connection: Connection, memory: CircuitMemory, kind: AlarmKind) -> bool:
    """Whether another channel of the module reports the condition, as the books have it from this batch.

    Channels have one profile: where it makes no alarm of the flag any more, nobody reports it.
    """
    if kind not in {ALARM_OF[flag] for flag in memory.circuit.flag_meanings.alarms}:
        return False
    query = (
        sa.select(meter_points.c.circuit_id)
        .join(channel_spans, channel_spans.c.circuit_id == meter_points.c.circuit_id)
        .where(
            channel_spans.c.module_id == memory.circuit.module_id,
            channel_spans.c.to_at.is_(None),
            meter_points.c.circuit_id != memory.circuit.circuit_id,
            meter_points.c.flags.contains(kind.value),
        )
        .limit(1)
    )
    return connection.scalar(query) is not None
