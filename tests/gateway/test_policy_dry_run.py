"""What a change of policies would do now: named circuit by circuit, and nothing is done."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from dormpower.books import holds, shadow, tables
from dormpower.domain.holds import Reason
from gateway.dry_run import MAX_ITEMS, DryRun, Effect
from tests.gateway.composed_site import ComposedSite, site_document
from tests.gateway.policy_work import apply, dry_run

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=ZoneInfo("Asia/Shanghai"))
CIRCUIT, OTHER = "r-1-lighting", "r-2-lighting"
ALL_FOUR = {f"r-{number}-{kind}" for number in (1, 2) for kind in ("lighting", "ac")}

OpenSite = Callable[..., ComposedSite]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[OpenSite]:
    with ExitStack() as stack:

        def open_one(**sections: Any) -> ComposedSite:
            document = site_document(sections, rooms=2, feeders=[{"id": "f", "limit_kw": 3}])
            for room in document["rooms"]:
                room["feeder"] = "f"
            site = ComposedSite(tmp_path, document, at=NOON)
            stack.callback(site.close)
            for _ in range(4):
                site.sample()
            return site

        yield open_one


def effects(found: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(item["effect"], item["circuit_id"]): item for item in found["items"]}


def written(site: ComposedSite) -> dict[str, int]:
    """How many rows each table has that a decision could be written to."""
    with site.books.read() as connection:
        return {
            table.name: connection.scalar(sa.select(sa.func.count()).select_from(table)) or 0
            for table in (tables.holds, tables.alarms, tables.intents, tables.notices, tables.rule_memories)
        }


def test_a_lower_limit_names_whom_it_would_cut_and_does_nothing(open_site):
    site = open_site(overload={"limit_w": 3000, "mode": "enforce"})
    site.sample({CIRCUIT: 2500.0, OTHER: 500.0})
    before = written(site)
    _, found = dry_run(site, "overload", {"limit_w": 2000, "mode": "enforce"})
    assert written(site) == before
    assert found["circuits"] == 1
    item = effects(found)["cut", CIRCUIT]
    assert (item["rule"], item["reason"], item["already_off"]) == ("rule:overload", "overload", False)
    assert item["evidence"]["limit_w"] == 2000
    assert found["counts"]["nothing"] == 3
    assert found["basis"] == {
        "at": site.clock.now().isoformat(),
        "rules": ["rule:overload"],
        "circuits": 4,
        "stale": 0,
        "stale_after_s": 90.0,
        "in_shadow": False,
        "power_lasts_polls": 120,
    }


def test_a_report_is_told_apart_from_a_cut_and_needs_no_confirmation(open_site):
    site = open_site(overload={"limit_w": 3000, "mode": "shadow"})
    site.sample({CIRCUIT: 2500.0})
    _, found = dry_run(site, "overload", {"limit_w": 2000, "mode": "shadow"})
    assert found["circuits"] == 0
    assert ("shadow_cut", CIRCUIT) in effects(found)


def test_on_a_restored_site_that_nobody_has_confirmed_a_dry_run_says_so_and_cuts_nobody(open_site):
    site = open_site(overload={"limit_w": 3000, "mode": "enforce"})
    with site.books.write() as connection:
        shadow.require_confirmation(connection)
    site.start()
    for _ in range(4):
        site.sample({CIRCUIT: 2500.0})
    _, found = dry_run(site, "overload", {"limit_w": 2000, "mode": "enforce"})
    assert (found["circuits"], found["basis"]["in_shadow"]) == (0, True)
    assert ("shadow_cut", CIRCUIT) in effects(found)


def test_a_circuit_without_a_fresh_reading_is_unknown_not_cut(open_site):
    site = open_site(overload={"limit_w": 3000, "mode": "enforce"})
    site.sample({CIRCUIT: 2500.0})
    site.clock.advance(91)
    _, found = dry_run(site, "overload", {"limit_w": 2000, "mode": "enforce"})
    assert (found["circuits"], found["basis"]["stale"]) == (0, 4)


def test_a_circuit_that_another_hold_keeps_off_is_marked(open_site):
    site = open_site()
    with site.books.write() as connection:
        holds.place_lockout(connection, circuit_id=CIRCUIT, holder="mai", reason="wiring", now=site.clock.now())
    site.pass_time(1)
    _, found = dry_run(site, "curfew", {"mode": "enforce", "rules": [{"from": "11:00", "to": "13:00"}]})
    assert effects(found)["cut", CIRCUIT]["already_off"]
    assert not effects(found)["cut", OTHER]["already_off"]
    assert found["circuits"] == 4


def test_a_curfew_is_asked_for_now_and_for_its_next_boundary(open_site):
    site = open_site(curfew={"mode": "enforce", "rules": [{"from": "11:00", "to": "13:00"}]})
    site.pass_time(1)
    _, found = dry_run(
        site, "curfew", {"mode": "enforce", "rules": [{"from": "22:00", "to": "23:00", "kind": "ac"}]}
    )
    assert {circuit for effect, circuit in effects(found) if effect == "release"} == ALL_FOUR
    later = effects(found)["cut_later", "r-1-ac"]
    assert datetime.fromisoformat(later["at"]) == NOON + timedelta(hours=10)
    assert later["evidence"]["causes"] == ["curfew[0]"]
    assert (found["circuits"], found["counts"]["cut_later"], found["counts"]["cut"]) == (2, 2, 0)


def test_arrears_are_told_with_what_they_wait_for(open_site):
    site = open_site(arrears={"mode": "shadow"})
    _, found = dry_run(site, "arrears", {"mode": "enforce", "warning_lead_s": 3600})
    told = effects(found)
    assert {circuit for effect, circuit in told if effect == "warn"} == ALL_FOUR
    assert told["warn", CIRCUIT]["evidence"]["available_wh"] == 0
    assert told["wait", CIRCUIT]["evidence"]["why"] == "warning_lead"
    assert found["circuits"] == 0
    _, found = dry_run(site, "arrears", {"mode": "enforce", "warning_lead_s": 0})
    assert effects(found)["cut", CIRCUIT]["evidence"]["available_wh"] == 0
    assert found["circuits"] == 4


def test_shedding_is_planned_by_what_feeders_carry_now(open_site):
    site = open_site(shedding={"mode": "shadow"})
    for _ in range(3):
        site.sample({"r-1-ac": 2000.0, "r-2-ac": 2000.0})
    _, found = dry_run(site, "shedding", {"mode": "enforce"})
    (item,) = found["items"]
    assert (item["effect"], item["rule"]) == ("cut", "rule:shedding")
    assert item["evidence"] == {
        "why": "over",
        "feeder_id": "f",
        "demand_w": 4000,
        "limit_w": 3000,
        "power_w": 2000,
    }
    assert (found["circuits"], found["counts"]["nothing"]) == (1, 3)
    assert found["basis"]["rules"] == ["rule:shedding"]


def test_what_changes_no_rule_touches_nobody(open_site):
    site = open_site(overload={"limit_w": 2000, "mode": "enforce"})
    _, found = dry_run(site, "overload", {"mode": "enforce", "limit_w": 2000, "night": []})
    assert (found["basis"]["rules"], found["items"]) == ([], [])
    _, found = dry_run(site, "closings", {"at_once": 3})
    assert found["basis"]["rules"] == ["rule:closings"]


def test_the_last_change_is_what_the_next_dry_run_starts_from(open_site):
    site = open_site(overload={"limit_w": 3000, "mode": "enforce"})
    apply(site, "overload", {"limit_w": 2000, "mode": "enforce"})
    _, found = dry_run(site, "overload", {"limit_w": 2000, "mode": "enforce"})
    assert found["basis"]["rules"] == []


def test_a_list_is_bounded_and_keeps_the_cuts():
    result = DryRun(at=NOON, rules=("rule:overload",), stale_after_s=90)
    for number in range(MAX_ITEMS + 200):
        effect = "cut" if number >= MAX_ITEMS else "shadow_cut"
        one = Effect(
            circuit_id=f"c-{number:04}",
            rule="rule:overload",
            effect=effect,
            at=NOON,
            reason=Reason.OVERLOAD.value,
            evidence={"limit_w": 1, "samples": [[1, 2]]},
            already_off=False,
        )
        result.add_circuit([one], fresh=True)
    told = result.as_json()
    assert (told["circuits"], told["counts"]["shadow_cut"]) == (200, MAX_ITEMS)
    assert (len(told["items"]), told["items_left_out"]) == (MAX_ITEMS, 200)
    assert [item["effect"] for item in told["items"][:201]] == ["cut"] * 200 + ["shadow_cut"]
    assert told["items"][0]["evidence"] == {"limit_w": 1}
