"""What schedules announce a day ahead: the next curfew and night limits of a room, where they are enforced."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from dormpower.domain.announcing import Announcement, Cause, Schedules
from dormpower.domain.calendars import Hours, parse_day_test
from dormpower.domain.curfew import CurfewPolicy, CurfewRule, NightLimit
from dormpower.domain.holds import Enforcement
from dormpower.domain.scopes import Scope, Where

ZONE = ZoneInfo("Asia/Shanghai")
LIGHTING = Where(campus="south", building="03", floor="4", room_id="r", kind="lighting")
AC = replace(LIGHTING, kind="ac")
NIGHT = Hours(from_minute=23 * 60, to_minute=6 * 60, days=(parse_day_test("before_workday"),))
CURFEW = CurfewRule(name="c", hours=NIGHT, scope=Scope(kind="lighting"), mode=Enforcement.ENFORCE)
LIMIT = NightLimit(name="n", hours=NIGHT, limit_w=600, scope=Scope(building="03"), mode=Enforcement.ENFORCE)
FRIDAY = datetime(2026, 11, 27, 20, 0, tzinfo=ZONE)


def local(*parts):
    return datetime(*parts, tzinfo=ZONE).astimezone(UTC)


def ahead(now, *rules, circuits=(LIGHTING, AC), keep_supply=False):
    policy = CurfewPolicy(
        zone=ZONE,
        curfews=tuple(rule for rule in rules if isinstance(rule, CurfewRule)),
        night_limits=tuple(rule for rule in rules if isinstance(rule, NightLimit)),
    )
    return Schedules(policy).ahead(circuits, keep_supply=keep_supply, now=now)


TONIGHT = {"from_at": local(2026, 11, 23, 23), "to_at": local(2026, 11, 24, 6)}


def test_the_next_curfew_and_night_limit_are_told_with_their_circuits():
    monday = local(2026, 11, 23, 12)
    assert ahead(monday, CURFEW, LIMIT) == (
        Announcement(cause=Cause.CURFEW, kind="lighting", **TONIGHT),
        Announcement(cause=Cause.NIGHT_LIMIT, kind=None, limit_w=600, **TONIGHT),
    )


def test_what_is_running_is_told_until_its_end():
    assert len(ahead(local(2026, 11, 24, 5, 59), CURFEW)) == 1
    (told,) = ahead(local(2026, 11, 24, 6), CURFEW)
    assert told.from_at == local(2026, 11, 24, 23)


def test_what_begins_later_than_in_a_day_is_not_told_yet():
    assert ahead(FRIDAY, CURFEW) == ()  # the next one is before Monday
    sunday = local(2026, 11, 28, 23)
    assert [told.from_at for told in ahead(sunday, CURFEW)] == [local(2026, 11, 29, 23)]
    assert ahead(sunday - timedelta(seconds=1), CURFEW) == ()


@pytest.mark.parametrize("mode", [Enforcement.SHADOW, Enforcement.OFF])
def test_what_is_not_enforced_is_not_told(mode):
    monday = local(2026, 11, 23, 12)
    assert ahead(monday, replace(CURFEW, mode=mode), replace(LIMIT, mode=mode)) == ()


def test_a_room_whose_supply_is_kept_is_spared_curfews_alone():
    told = ahead(local(2026, 11, 23, 12), CURFEW, LIMIT, keep_supply=True)
    assert [one.cause for one in told] == [Cause.NIGHT_LIMIT]


def test_a_curfew_without_an_end_in_sight_is_no_news():
    always = replace(CURFEW, hours=Hours(from_minute=0, to_minute=0))
    assert ahead(local(2026, 11, 23, 12), always) == ()


def test_a_room_with_one_circuit_is_told_of_that_one():
    (told,) = ahead(local(2026, 11, 23, 12), LIMIT, circuits=(AC,))
    assert told.kind == "ac"
