"""Curfews, planned outages and night limits as tables in virtual time, and every boundary instant."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dormpower.domain.calendars import DateSpan, DayException, DayKinds, Hours, TimeSpan, parse_day_test
from dormpower.domain.curfew import (
    RULE,
    CurfewPolicy,
    CurfewRule,
    NightLimit,
    Outage,
    ScheduleFacts,
    SpanMemo,
    decide,
    limits_at,
    lowest_limit,
    rules_at,
)
from dormpower.domain.holds import Enforcement, Hold, Reason
from dormpower.domain.policy import LetGo, LookAgain, Place
from dormpower.domain.scopes import Scope, Where

ZONE = ZoneInfo("Asia/Shanghai")
DAYS = DayKinds(
    holidays=frozenset(date(2026, 10, day) for day in range(1, 8)),
    makeup_workdays=frozenset({date(2026, 10, 10)}),
    known_years=frozenset({2026}),
    exams=(DateSpan(from_on=date(2026, 11, 9), to_on=date(2026, 11, 13)),),
    exceptions={date(2026, 12, 31): DayException.FREE, date(2027, 1, 1): DayException.FREE},
)
LIGHTING = Where(campus="south", building="03", floor="4", room_id="south-03-412", kind="lighting")
AC = Where(campus="south", building="03", floor="4", room_id="south-03-412", kind="ac")


def hours(start, end, *days, but=()):
    return Hours(
        from_minute=start * 60,
        to_minute=end * 60,
        days=tuple(parse_day_test(day) for day in days),
        not_days=tuple(parse_day_test(day) for day in but),
    )


# Lighting off 23:00–06:00 before workdays and 00:00–06:00 otherwise, while AC stays on; none before exams.
POLICY = CurfewPolicy(
    zone=ZONE,
    days=DAYS,
    curfews=(
        CurfewRule(
            name="before-workdays",
            hours=hours(23, 6, "before_workday", but=("before_exam",)),
            scope=Scope(kind="lighting"),
            mode=Enforcement.ENFORCE,
        ),
        CurfewRule(
            name="otherwise",
            hours=hours(0, 6, "restday"),
            scope=Scope(kind="lighting"),
            mode=Enforcement.ENFORCE,
        ),
    ),
    night_limits=(
        NightLimit(name="night", hours=hours(22, 7), limit_w=600, scope=Scope(kind="lighting")),
        NightLimit(name="off", hours=hours(20, 8), limit_w=1, mode=Enforcement.OFF),
        NightLimit(name="floor-4", hours=hours(23, 5), limit_w=300, scope=Scope(building="03", floor="4")),
    ),
)


def local(*parts):
    return datetime(*parts, tzinfo=ZONE).astimezone(UTC)


def look(now, *, holds=(), policy=POLICY, where=LIGHTING, outages=(), mode=None, **more):
    if mode is not None:
        policy = replace(policy, curfews=tuple(replace(rule, mode=mode) for rule in policy.curfews))
    return decide(
        ScheduleFacts(
            curfews=curfew_spans(policy, where, Enforcement.ENFORCE, now=now),
            shadow_curfews=curfew_spans(policy, where, Enforcement.SHADOW, now=now),
            outages=[outage.span for outage in outages],
            holds=holds,
            **more,
        ),
        now=now,
    )


def curfew_spans(policy, where, mode, *, now):
    return SpanMemo(policy).spans(rules_at(policy, where, mode), now=now)


def hold(until_at, *, shadow=False, placed_by=RULE, reason=Reason.CURFEW):
    return Hold(
        hold_id="h",
        circuit_id="c",
        reason=reason,
        placed_at=local(2026, 1, 1),
        placed_by=placed_by,
        shadow=shadow,
        expected_release_at=until_at,
    )


@pytest.mark.parametrize(
    ("at", "until"),
    [
        (local(2026, 11, 23, 22, 59, 59), None),  # Monday evening, before a workday
        (local(2026, 11, 23, 23), local(2026, 11, 24, 6)),
        (local(2026, 11, 24, 5, 59, 59), local(2026, 11, 24, 6)),
        (local(2026, 11, 24, 6), None),
        (local(2026, 11, 27, 23, 30), None),  # Friday evening: Saturday is none
        (local(2026, 11, 28, 0), local(2026, 11, 28, 6)),
        (local(2026, 11, 29, 23), local(2026, 11, 30, 6)),  # Sunday evening
        (local(2026, 9, 30, 23, 30), None),  # before the National Day, a Thursday
        (local(2026, 10, 1, 0), local(2026, 10, 1, 6)),
        (local(2026, 10, 7, 23), local(2026, 10, 8, 6)),  # its last evening
        (local(2026, 10, 9, 23), local(2026, 10, 10, 6)),  # Friday before the make-up Saturday
        (local(2026, 11, 9, 23, 30), None),  # exam week
        (local(2026, 11, 13, 1), None),
        (local(2026, 12, 31, 23, 30), None),  # the site's own exception
        (local(2027, 1, 1, 1), None),
    ],
)
def test_lighting_is_off_in_the_hours_of_the_house_rules(at, until):
    placed = [one for one in look(at) if isinstance(one, Place)]
    assert [one.expected_release_at for one in placed] == ([] if until is None else [until])
    assert [one for one in look(at, where=AC) if isinstance(one, Place)] == []


def test_the_hold_names_its_rule_and_ends_at_its_boundary():
    now = local(2026, 11, 23, 23)
    place, again = look(now)
    assert place.evidence == {"causes": ["before-workdays"], "from_at": now.isoformat()}
    assert again == LookAgain(at=local(2026, 11, 24, 6))
    standing = hold(local(2026, 11, 24, 6))
    assert look(now, holds=[standing]) == (again,)
    let_go, again = look(local(2026, 11, 24, 6), holds=[standing])
    assert isinstance(let_go, LetGo)
    assert again == LookAgain(at=local(2026, 11, 24, 23))


def test_a_restart_in_the_middle_or_long_after_decides_as_if_it_had_run():
    standing = hold(local(2026, 11, 24, 6))
    assert isinstance(look(local(2026, 11, 24, 3))[0], Place)
    assert isinstance(look(local(2026, 11, 24, 12), holds=[standing])[0], LetGo)
    # Down for the whole day: the hold of last night ends, and tonight's is a cut like any other.
    let_go, place, _ = look(local(2026, 11, 24, 23, 10), holds=[standing])
    assert isinstance(let_go, LetGo)
    assert (place.expected_release_at, place.exempt) == (local(2026, 11, 25, 6), False)


@pytest.mark.parametrize("mode", [Enforcement.SHADOW, Enforcement.OFF])
def test_a_curfew_that_is_not_in_force_opens_nothing(mode):
    now = local(2026, 11, 23, 23)
    placed = [one for one in look(now, mode=mode) if isinstance(one, Place)]
    assert [one.shadow for one in placed] == ([True] if mode is Enforcement.SHADOW else [])
    released = [
        one for one in look(now, mode=mode, holds=[hold(local(2026, 11, 24, 6))]) if isinstance(one, LetGo)
    ]
    assert [one.shadow for one in released] == [False]


def test_a_rule_in_shadow_stands_beside_those_that_are_enforced():
    later = CurfewRule(name="new", hours=hours(22, 7), scope=Scope(kind="lighting"))
    policy = replace(POLICY, curfews=(*POLICY.curfews, later))
    now = local(2026, 11, 23, 23)
    ends = {one.shadow: one.expected_release_at for one in look(now, policy=policy) if isinstance(one, Place)}
    assert ends == {False: local(2026, 11, 24, 6), True: local(2026, 11, 24, 7)}
    *_, again = look(local(2026, 11, 23, 21), policy=policy)
    assert again == LookAgain(at=local(2026, 11, 23, 22))


def test_only_the_own_holds_are_touched():
    foreign = hold(None, placed_by="wang", reason=Reason.LOCKOUT)
    assert not [one for one in look(local(2026, 11, 24, 12), holds=[foreign]) if isinstance(one, LetGo)]


def test_a_keep_supply_room_is_spared_the_curfew_but_no_planned_outage():
    now = local(2026, 11, 23, 23)
    outage = Outage(
        outage_id="o1", scope=Scope(), from_at=now - timedelta(hours=1), to_at=now + timedelta(hours=1)
    )
    assert look(now, keep_supply=True) == ()
    (place, _) = look(now, keep_supply=True, outages=[outage])
    assert place.expected_release_at == outage.to_at


def test_an_outage_that_reaches_into_a_curfew_ends_with_the_later_of_both():
    outage = Outage(
        outage_id="o1", scope=Scope(), from_at=local(2026, 11, 23, 21), to_at=local(2026, 11, 23, 23, 30)
    )
    place, again = look(local(2026, 11, 23, 22), outages=[outage])
    assert place.expected_release_at == local(2026, 11, 24, 6)
    assert again.at == outage.to_at  # from then on it rests on the curfew alone
    assert place.evidence["causes"] == ["outage:o1", "before-workdays"]
    # With the curfew in shadow both stand apart.
    decisions = look(local(2026, 11, 23, 23, 10), outages=[outage], mode=Enforcement.SHADOW)
    ends = {one.shadow: one.expected_release_at for one in decisions if isinstance(one, Place)}
    assert ends == {False: local(2026, 11, 23, 23, 30), True: local(2026, 11, 24, 6)}


def test_an_outage_that_is_prolonged_or_called_off_changes_the_hold_at_once():
    now = local(2026, 11, 23, 10)

    def until(hour):
        return Outage(
            outage_id="o1", scope=Scope(), from_at=local(2026, 11, 23, 9), to_at=local(2026, 11, 23, hour)
        )

    let_go, place, _ = look(now, outages=[until(14)], holds=[hold(local(2026, 11, 23, 12))])
    assert isinstance(let_go, LetGo)
    assert place.expected_release_at == local(2026, 11, 23, 14)
    assert isinstance(look(now, holds=[hold(local(2026, 11, 23, 12))])[0], LetGo)


def test_restored_books_place_everything_in_shadow():
    now = local(2026, 11, 23, 23)
    outage = Outage(outage_id="o1", scope=Scope(), from_at=now, to_at=now + timedelta(hours=9))
    placed = [one for one in look(now, outages=[outage], shadow_only=True) if isinstance(one, Place)]
    assert [one.shadow for one in placed] == [True]


def test_the_breaker_may_count_a_curfew_but_never_an_announced_outage():
    now = local(2026, 11, 23, 23)
    assert not look(now)[0].exempt
    outage = TimeSpan(from_at=now, to_at=now + timedelta(hours=1), causes=("outage:o1",))
    announced = ScheduleFacts(curfews=(), outages=[outage], holds=())
    assert decide(announced, now=now)[0].exempt
    # A new end of a hold that stands is no new cut.
    assert look(now, holds=[hold(now + timedelta(seconds=1))])[1].exempt


def stands_as(place):
    return replace(hold(place.expected_release_at), evidence=place.evidence)


def test_a_curfew_beside_an_outage_is_exempt_from_the_breaker_while_the_outage_lasts_and_no_longer():
    before = Outage(
        outage_id="o1", scope=Scope(), from_at=local(2026, 11, 23, 21), to_at=local(2026, 11, 23, 23, 30)
    )
    place, _ = look(local(2026, 11, 23, 21), outages=[before])
    assert place.exempt
    standing = stands_as(place)
    for at in (local(2026, 11, 23, 23), before.to_at - timedelta(seconds=1)):
        assert look(at, outages=[before], holds=[standing]) == (LookAgain(at=before.to_at),)
    let_go, place, again = look(before.to_at, holds=[standing])
    assert (type(let_go), place.exempt) == (LetGo, False)
    assert place.expected_release_at == again.at == local(2026, 11, 24, 6)
    assert look(before.to_at, holds=[stands_as(place)]) == (again,)


def test_a_curfew_that_an_outage_will_follow_is_not_exempt_before_the_outage():
    after = Outage(outage_id="o1", scope=Scope(), from_at=local(2026, 11, 24, 6), to_at=local(2026, 11, 24, 8))
    place, _ = look(local(2026, 11, 23, 23), outages=[after])
    assert (place.exempt, place.expected_release_at) == (False, after.to_at)


def test_a_schedule_that_is_changed_under_a_hold_is_exempt_until_the_end_that_people_were_told():
    told = local(2026, 11, 24, 2)
    *_, place, again = look(local(2026, 11, 23, 23), holds=[hold(told)])
    assert (place.exempt, place.expected_release_at, again.at) == (True, local(2026, 11, 24, 6), told)
    # A restart long after goes by what is on record.
    *_, place, again = look(told + timedelta(hours=1), holds=[stands_as(place)])
    assert (place.exempt, place.expected_release_at) == (False, local(2026, 11, 24, 6))
    # An earlier end is all within what was told.
    *_, place, _ = look(local(2026, 11, 23, 23), holds=[hold(local(2026, 11, 24, 9))])
    assert (place.exempt, list(place.evidence)) == (True, ["causes", "from_at"])


def test_a_curfew_without_an_end_in_sight_promises_none():
    always = CurfewPolicy(
        zone=ZONE,
        curfews=tuple(
            CurfewRule(name=name, hours=hours(start, end), mode=Enforcement.ENFORCE)
            for name, start, end in (("a", 0, 12), ("b", 12, 0))
        ),
    )
    now = local(2026, 11, 23, 10)
    place, again = look(now, policy=always)
    assert place.expected_release_at is None
    assert again.at > now
    assert look(now + timedelta(days=30), policy=always, holds=[hold(None)])[:-1] == ()


@pytest.mark.parametrize(
    ("at", "where", "limit_w", "until"),
    [
        (local(2026, 11, 23, 21, 59), LIGHTING, None, None),
        (local(2026, 11, 23, 22), LIGHTING, 600, local(2026, 11, 24, 7)),
        (local(2026, 11, 23, 23), LIGHTING, 300, local(2026, 11, 24, 5)),
        (local(2026, 11, 24, 5), LIGHTING, 600, local(2026, 11, 24, 7)),
        (local(2026, 11, 23, 22), AC, None, None),
        (local(2026, 11, 23, 23), AC, 300, local(2026, 11, 24, 5)),
    ],
)
def test_the_lowest_night_limit_in_force_is_the_one_that_counts(at, where, limit_w, until):
    found = lowest_limit(limits_at(POLICY, where), SpanMemo(POLICY), now=at)
    assert (found.limit_w, found.until_at) == (limit_w, until) if found else limit_w is None


def test_a_scope_holds_what_it_names_and_the_empty_one_everything():
    assert Scope().covers(AC)
    assert Scope(campus="south", building="03", floor="4", room_id="south-03-412", kind="ac").covers(AC)
    assert not Scope(kind="lighting").covers(AC)
    assert not Scope(building="04").covers(AC)


@given(
    st.sampled_from([ZONE, ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")]),
    st.integers(0, 23_500_000),
    st.integers(0, 1439),
    st.integers(0, 1439),
)
def test_following_the_next_look_visits_every_boundary_and_never_lets_a_hold_stand_past_its_end(
    zone, start_s, first, last
):
    policy = CurfewPolicy(
        zone=zone,
        curfews=(
            CurfewRule(name="a", hours=Hours(from_minute=first, to_minute=last), mode=Enforcement.ENFORCE),
        ),
    )
    now = datetime(2026, 2, 20, tzinfo=UTC) + timedelta(seconds=start_s)
    standing = None
    for _ in range(12):
        spans = curfew_spans(policy, AC, Enforcement.ENFORCE, now=now)
        *changes, again = decide(
            ScheduleFacts(curfews=spans, outages=(), holds=() if standing is None else (standing,)),
            now=now,
        )
        for change in changes:
            standing = hold(change.expected_release_at) if isinstance(change, Place) else None
        held = any(span.holds(now) for span in spans)
        assert (standing is not None) is held
        if standing is not None and standing.expected_release_at is not None:
            assert now < standing.expected_release_at
        assert again.at > now
        # Nothing begins or ends between this look and the next one.
        assert not any(now < at < again.at for span in spans for at in (span.from_at, span.to_at))
        now = again.at
