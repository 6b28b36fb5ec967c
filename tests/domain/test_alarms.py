"""The life of an alarm."""

from datetime import UTC, datetime, timedelta

import pytest

from dormpower.domain.alarms import (
    PRIORITIES,
    AlarmKind,
    AlarmLife,
    UnableToChangeAlarmError,
    acknowledge,
    clear,
)

AT = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
LATER = AT + timedelta(hours=1)


def test_an_alarm_stands_until_it_is_both_cleared_and_acknowledged() -> None:
    raised = AlarmLife(raised_at=AT)
    noted, cleared = acknowledge(raised, actor="wang", now=LATER), clear(raised, now=LATER)
    assert [one.standing for one in (raised, noted, cleared)] == [True, True, True]
    assert not clear(noted, now=LATER).standing
    assert not acknowledge(cleared, actor="wang", now=LATER).standing


def test_who_took_note_first_stays_on_record() -> None:
    noted = acknowledge(AlarmLife(raised_at=AT), actor="wang", now=AT)
    assert acknowledge(noted, actor="li", now=LATER) == noted


def test_a_cleared_alarm_is_not_cleared_twice() -> None:
    cleared = clear(AlarmLife(raised_at=AT), now=AT)
    with pytest.raises(UnableToChangeAlarmError):
        clear(cleared, now=LATER)


def test_every_kind_has_a_priority() -> None:
    assert set(PRIORITIES) == set(AlarmKind)
