"""Curfews, night limits and the calendar in the site file: what they become, and how faults are told."""

from datetime import date

import pytest

from config.faults import Findings
from config.schedule_objects import check_schedules, day_kinds_of
from config.schedule_sections import CalendarSection, CurfewSection, NightModeSection
from config.settings import UnableToLoadSiteError, load
from dormpower.domain.calendars import DayException, DayLabel, DayTest, Hours
from dormpower.domain.curfew import CurfewRule
from dormpower.domain.holds import Enforcement
from dormpower.domain.scopes import Scope

SITE = """
site: {id: one, name: One}
lines: [{id: l1, transport: tcp, host: 127.0.0.1, port: 5020}]
modules: [{id: m1, profile: dormpower-dual, line: l1, unit: 1}]
rooms: [{room_id: r-1, campus: south, building: "01", floor: 1, name: "101", lighting_module: m1,
         lighting_channel: 0, rated_current_a: 20}]
"""


def load_with(tmp_path, text):
    path = tmp_path / "site.yaml"
    path.write_text(SITE + text)
    return load(path)


def faults_of(tmp_path, text):
    with pytest.raises(UnableToLoadSiteError) as refusal:
        load_with(tmp_path, text)
    return [f"{fault.key}: {fault.message}" for fault in refusal.value.faults]


def test_the_house_rules_become_the_domain_s_curfews(tmp_path):
    settings = load_with(
        tmp_path,
        """
calendar:
  exam_weeks: [{from: 2026-06-22, to: 2026-07-03}]
  exceptions: [{from: 2026-12-31, to: 2027-01-01, as: free}]
policies:
  curfew:
    mode: enforce
    rules:
      - {kind: lighting, from: "23:00", to: "06:00", days: [before_workday], except: [before_exam]}
      - {kind: lighting, from: "00:00", to: "06:00", days: [restday], campus: south, building: "01", floor: 1,
         mode: shadow}
  night_mode:
    mode: enforce
    rules:
      - {from: "22:00", to: "24:00", limit_w: 500}
      - {from: "22:00", to: "24:00", limit_w: 300, mode: shadow}
  closings: {at_once: 5, every_s: 30}
""",
    )
    policy = settings.policies.curfew
    assert [rule.mode for rule in policy.curfews] == [Enforcement.ENFORCE, Enforcement.SHADOW]
    assert policy.curfews == (
        CurfewRule(
            name="curfew[0]",
            hours=Hours(
                from_minute=1380,
                to_minute=360,
                days=(DayTest(label=DayLabel.WORKDAY, before=True),),
                not_days=(DayTest(label=DayLabel.EXAM, before=True),),
            ),
            scope=Scope(kind="lighting"),
            mode=Enforcement.ENFORCE,
        ),
        CurfewRule(
            name="curfew[1]",
            hours=Hours(from_minute=0, to_minute=360, days=(DayTest(label=DayLabel.RESTDAY),)),
            scope=Scope(kind="lighting", campus="south", building="01", floor="1"),
        ),
    )
    assert [(one.limit_w, one.mode) for one in policy.night_limits] == [
        (500, Enforcement.ENFORCE),
        (300, Enforcement.SHADOW),
    ]
    assert policy.night_limits[0].hours.to_minute == 0
    assert policy.days.exceptions == {
        date(2026, 12, 31): DayException.FREE,
        date(2027, 1, 1): DayException.FREE,
    }
    assert (settings.policies.closings.circuits, settings.policies.closings.every_s) == (5, 30)


def test_without_a_word_nothing_is_off_and_rules_begin_in_shadow(tmp_path):
    policy = load_with(tmp_path, "").policies.curfew
    assert (policy.curfews, policy.night_limits) == ((), ())
    rules = "{rules: [{from: '23:00', to: '06:00'}]}"
    (rule,) = load_with(tmp_path, f"policies: {{curfew: {rules}}}").policies.curfew.curfews
    assert rule.mode is Enforcement.SHADOW


def test_public_holidays_and_makeup_workdays_are_known_for_2026():
    days = day_kinds_of(CalendarSection())
    assert DayLabel.HOLIDAY in days.labels(date(2026, 10, 1))
    assert DayLabel.MAKEUP in days.labels(date(2026, 10, 10))
    assert 2026 in days.known_years
    assert DayLabel.WORKDAY in day_kinds_of(CalendarSection(holidays="none")).labels(date(2026, 10, 1))


@pytest.mark.parametrize(("today", "warned"), [(date(2026, 6, 1), False), (date(2050, 1, 1), True)])
def test_a_year_whose_holidays_are_not_known_is_a_warning(today, warned):
    findings = Findings("site.yaml")
    curfew = CurfewSection.model_validate({"rules": [{"from": "23:00", "to": "06:00"}]})
    check_schedules(curfew, NightModeSection(), CalendarSection(), today=today, findings=findings)
    assert [fault.key for fault in findings.warnings] == (["calendar.holidays"] if warned else [])
    assert list(findings) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            'policies: {curfew: {rules: [{from: "23:00", to: "6"}]}}',
            """policies.curfew.rules[0].to: expected a time of the clock such as "23:00", got '6'""",
        ),
        (
            'policies: {curfew: {rules: [{from: "23:00", to: "06:00", days: [werkday]}]}}',
            "policies.curfew.rules[0].days[0]: expected a list of workday, restday,",
        ),
        (
            'policies: {curfew: {rules: [{from: "23:00", to: "06:00", floor: 2}]}}',
            "policies.curfew.rules[0].building: expected the building of floor 2, got nothing",
        ),
        (
            'policies: {night_mode: {rules: [{from: "23:00", to: "06:00"}]}}',
            "policies.night_mode.rules[0].limit_w: expected whole watts",
        ),
        (
            "calendar: {exam_weeks: [{from: 2026-07-03, to: 2026-06-22}]}",
            "calendar.exam_weeks[0].to: expected 2026-07-03 or a day up to 400 days later, got 2026-06-22",
        ),
        (
            "calendar: {exceptions: [{from: 2026-05-01, as: free}, {from: 2026-05-01, as: workday}]}",
            "calendar.exceptions[1]: 2026-05-01 is already calendar.exceptions[0]",
        ),
    ],
)
def test_a_fault_says_where_it_is_and_what_was_expected(tmp_path, text, fault):
    assert any(fault in one for one in faults_of(tmp_path, text)), faults_of(tmp_path, text)
