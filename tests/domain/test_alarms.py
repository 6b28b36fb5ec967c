"""The life of an alarm."""

from datetime import UTC, datetime, timedelta

import pytest

from dormpower.domain.alarms import (
    LONGEST_SHELVING_S,
    PRIORITIES,
    AlarmKind,
    AlarmLife,
    UnableToChangeAlarmError,
    acknowledge,
    clear,
    shelve,
    unshelve,
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


def test_an_alarm_is_put_aside_with_an_expiry_and_brought_back() -> None:
    until_at = AT + timedelta(hours=2)
    aside = shelve(AlarmLife(raised_at=AT), actor="wang", until_at=until_at, now=AT)
    assert aside.shelved_by == "wang"
    assert [aside.shelved(now=now) for now in (AT, LATER, until_at)] == [True, True, False]
    assert aside.standing  # out of sight, not out of the world
    assert not unshelve(aside, now=LATER).shelved(now=LATER)
    with pytest.raises(UnableToChangeAlarmError):
        unshelve(aside, now=until_at)


@pytest.mark.parametrize(
    ("cleared", "hours"), [(True, 1), (False, 0), (False, -1), (False, LONGEST_SHELVING_S / 3600 + 1)]
)
def test_what_can_not_be_put_aside(cleared: bool, hours: float) -> None:
    life = AlarmLife(raised_at=AT, cleared_at=AT if cleared else None)
    with pytest.raises(UnableToChangeAlarmError):
        shelve(life, actor="wang", until_at=AT + timedelta(hours=hours), now=AT)


def test_every_kind_has_a_priority() -> None:
    assert set(PRIORITIES) == set(AlarmKind)
