"""Schedules as a policy of the gateway: what is asked at the start, and what outages of the books do."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from dormpower.books import outages
from dormpower.domain.calendars import Hours
from dormpower.domain.curfew import CurfewPolicy, CurfewRule
from dormpower.domain.holds import Enforcement
from dormpower.domain.scopes import Scope, Where
from gateway.policies import Timed
from gateway.schedule_rule import ScheduleRule

NOON = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
WHERE = Where(campus="south", building="01", floor="1", room_id="r-1", kind="ac")
POLICY = CurfewPolicy(
    zone=ZoneInfo("Asia/Shanghai"),
    curfews=(
        CurfewRule(name="curfew[0]", hours=Hours(from_minute=1380, to_minute=360), mode=Enforcement.ENFORCE),
    ),
)


def next_look(rule, now):
    return rule.next_look_at("r-1-ac", holds=(), keep_supply=False, shadow_only=False, now=now)


def test_the_next_look_is_the_boundary_or_now_where_one_was_missed():
    rule = ScheduleRule(POLICY, {"r-1-ac": WHERE})
    evening = datetime(2026, 3, 2, 15, 0, tzinfo=UTC)
    assert isinstance(rule, Timed)
    assert next_look(rule, NOON) == evening
    assert next_look(rule, evening) == evening
    assert next_look(rule, evening + timedelta(hours=1)) == evening + timedelta(hours=1)


def test_an_outage_of_the_books_is_a_boundary_for_its_scope_alone(monkeypatch):
    announced = outages.AnnouncedOutage(
        outage=outages.Outage(
            outage_id="o1",
            scope=Scope(building="01"),
            from_at=NOON + timedelta(hours=1),
            to_at=NOON + timedelta(hours=2),
        ),
        announced_at=NOON,
        announced_by="wang",
    )
    monkeypatch.setattr(outages, "coming", lambda connection, *, now: [announced])
    other = Where(campus="south", building="02", floor="1", room_id="r-2", kind="ac")
    rule = ScheduleRule(CurfewPolicy(zone=POLICY.zone), {"r-1-ac": WHERE, "r-2-ac": other})
    rule.refresh(None, now=NOON)
    assert next_look(rule, NOON) == NOON + timedelta(hours=1)
    assert rule.next_look_at("r-2-ac", holds=(), keep_supply=False, shadow_only=False, now=NOON) is None
