"""Alarms: what kinds there are, how urgent each is, and the life cycle active/cleared × acknowledged/not.

Theory of operation. An alarm tells of one *condition* (a kind and a subject); while the condition lasts there
is one alarm, however often it is seen. It is cleared when the condition ends and acknowledged when a person has
taken note; the two are independent. A condition that returns after it was cleared is a new alarm, which wants
a new acknowledgement. An active alarm may be *shelved*: put out of sight with an expiry, by somebody by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

# *Suggested*: a weekend and a bit. What takes longer is a decision for the site, not for the list of alarms.
LONGEST_SHELVING_S = 72 * 3600
# *Suggested*, after EEMUA 191: more than ten alarms in ten minutes are a flood; one that stands for a day is
# "standing" and hides new ones.
FLOOD_WINDOW_S = 600
FLOOD_ABOVE = 10
STANDING_AFTER_S = 24 * 3600


class AlarmKind(StrEnum):
    """What may be wrong (CONTRACT: alarms)."""

    LOAD_OFF = "load_off"
    MODULE_OFFLINE = "module_offline"
    LINE_OFFLINE = "line_offline"
    RELAY_FAILED = "relay_failed"
    OPEN_BUT_DRAWING = "open_but_drawing"
    CLOSED_AGAINST_HOLD = "closed_against_hold"
    REGISTER_QUARANTINED = "register_quarantined"
    OVER_TEMPERATURE = "over_temperature"
    COVER_OPEN = "cover_open"
    RELAY_FAULT = "relay_fault"
    OVERLOAD_TRIP = "overload_trip"
    PROHIBITED_TRIP = "prohibited_trip"
    CUTS_PENDING_APPROVAL = "cuts_pending_approval"
    READINGS_DROPPED = "readings_dropped"
    PROHIBITED_LOAD = "prohibited_load"
    SILENT_AROUND_CUT = "silent_around_cut"
    SILENT_EACH_NIGHT = "silent_each_night"
    LIMIT_NOT_KEPT = "limit_not_kept"
    FEEDER_OVERLOADED = "feeder_overloaded"
    FEEDER_UNKNOWN = "feeder_unknown"
    MAX_OFF_EXCEEDED = "max_off_exceeded"
    BUILDING_OPENED = "building_opened"


class Priority(StrEnum):
    """How soon somebody must act."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


PRIORITIES: Mapping[AlarmKind, Priority] = MappingProxyType(
    {
        AlarmKind.LOAD_OFF: Priority.MEDIUM,
        AlarmKind.MODULE_OFFLINE: Priority.MEDIUM,
        AlarmKind.LINE_OFFLINE: Priority.HIGH,
        AlarmKind.RELAY_FAILED: Priority.HIGH,
        AlarmKind.OPEN_BUT_DRAWING: Priority.CRITICAL,
        AlarmKind.CLOSED_AGAINST_HOLD: Priority.CRITICAL,
        AlarmKind.REGISTER_QUARANTINED: Priority.MEDIUM,
        AlarmKind.OVER_TEMPERATURE: Priority.CRITICAL,
        AlarmKind.COVER_OPEN: Priority.HIGH,
        AlarmKind.RELAY_FAULT: Priority.HIGH,
        AlarmKind.OVERLOAD_TRIP: Priority.MEDIUM,
        AlarmKind.PROHIBITED_TRIP: Priority.MEDIUM,
        AlarmKind.CUTS_PENDING_APPROVAL: Priority.HIGH,
        AlarmKind.READINGS_DROPPED: Priority.HIGH,
        AlarmKind.PROHIBITED_LOAD: Priority.MEDIUM,
        AlarmKind.SILENT_AROUND_CUT: Priority.HIGH,
        AlarmKind.SILENT_EACH_NIGHT: Priority.HIGH,
        AlarmKind.LIMIT_NOT_KEPT: Priority.MEDIUM,
        AlarmKind.FEEDER_OVERLOADED: Priority.HIGH,
        AlarmKind.FEEDER_UNKNOWN: Priority.HIGH,
        AlarmKind.MAX_OFF_EXCEEDED: Priority.MEDIUM,
        AlarmKind.BUILDING_OPENED: Priority.HIGH,
    }
)


class UnableToChangeAlarmError(Exception):
    """The step is not possible from where the alarm stands; nothing was changed."""


class UnableToShelveAsAskedError(UnableToChangeAlarmError):
    """The alarm may be put aside, but not until then or not without a reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmLife:
    """Where an alarm stands: raised, and perhaps cleared, and perhaps acknowledged by somebody."""

    raised_at: datetime
    cleared_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    shelved_until_at: datetime | None = None
    shelved_by: str | None = None

    def shelved(self, *, now: datetime) -> bool:
        """Whether it is put aside: out of sight until its expiry; the condition is watched all the same."""
        return self.shelved_until_at is not None and now < self.shelved_until_at

    @property
    def standing(self) -> bool:
        """Whether somebody still has to look: the condition lasts, or nobody has taken note."""
        return self.cleared_at is None or self.acknowledged_at is None


def clear(life: AlarmLife, *, now: datetime) -> AlarmLife:
    """End the condition. Raises UnableToChangeAlarmError for an alarm that is cleared already."""
    if life.cleared_at is not None:
        raise UnableToChangeAlarmError("the alarm is cleared already")
    return replace(life, cleared_at=now)


def acknowledge(life: AlarmLife, *, actor: str, now: datetime) -> AlarmLife:
    """Take note. The first person stays on record: a second acknowledgement changes nothing."""
    if life.acknowledged_at is not None:
        return life
    return replace(life, acknowledged_at=now, acknowledged_by=actor)


def shelve(life: AlarmLife, *, actor: str, until_at: datetime, now: datetime) -> AlarmLife:
    """Put an active alarm aside until an instant, at most `LONGEST_SHELVING_S` ahead.

    Raises UnableToChangeAlarmError for a cleared alarm, UnableToShelveAsAskedError for an instant that is past
    or too far ahead: nothing is put aside for good.
    """
    if life.cleared_at is not None:
        raise UnableToChangeAlarmError("the alarm is cleared: there is nothing to put aside")
    ahead_s = (until_at - now).total_seconds()
    if not 0 < ahead_s <= LONGEST_SHELVING_S:
        raise UnableToShelveAsAskedError(
            f"until: expected within {LONGEST_SHELVING_S // 3600} h from now, got {until_at.isoformat()}"
        )
    return replace(life, shelved_until_at=until_at, shelved_by=actor)


def unshelve(life: AlarmLife, *, now: datetime) -> AlarmLife:
    """Bring an alarm back before its time. Raises UnableToChangeAlarmError for one that is not put aside."""
    if not life.shelved(now=now):
        raise UnableToChangeAlarmError("the alarm is not put aside")
    return replace(life, shelved_until_at=None, shelved_by=None)
