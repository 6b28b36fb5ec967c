"""Taking over changes of policies in the running gateway: one step on record, nothing else disturbed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from config.settings import load
from config.site_file import PoliciesSection
from dormpower.books import holds, policies, policy_proposals
from dormpower.books.policy_proposals import SITE_FILE, State
from dormpower.domain.holds import Enforcement, Hold, Reason
from gateway.policy_desk import settings_in_force
from tests.gateway.composed_site import ComposedSite, site_document
from tests.gateway.policy_work import APPROVER, apply, approve, audited, dry_run, get, look, propose

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=ZoneInfo("Asia/Shanghai"))
CIRCUIT = "r-1-lighting"
OVERLOAD = {"limit_w": 2000, "mode": "enforce"}
HEATER = {CIRCUIT: 2500.0}

OpenSite = Callable[..., ComposedSite]


@pytest.fixture
def open_site(tmp_path: Path) -> Iterator[OpenSite]:
    with ExitStack() as stack:

        def open_one(**sections: Any) -> ComposedSite:
            document = site_document(sections, rooms=2, feeders=[{"id": "f", "limit_kw": 10}])
            site = ComposedSite(tmp_path, document, at=NOON)
            stack.callback(site.close)
            for _ in range(4):
                site.sample()
            return site

        yield open_one


def own_holds(site: ComposedSite, reason: Reason = Reason.OVERLOAD) -> list[Hold]:
    return [hold for hold in site.holds(CIRCUIT) if hold.reason is reason]


def trip(site: ComposedSite) -> Hold:
    for _ in range(3):
        site.sample(HEATER)
    (hold,) = own_holds(site)
    return hold


def test_a_rule_that_is_switched_off_releases_its_holds_in_the_step_that_is_audited(open_site):
    site = open_site(overload=OVERLOAD)
    trip(site)
    proposal_id, found = dry_run(site, "overload", {"mode": "off"})
    approve(site, proposal_id, found["circuits"])
    before = len(audited(site))
    look(site)
    assert own_holds(site) == []
    assert audited(site, before) == [
        ("policy.applied", proposal_id, APPROVER),
        ("policy.changed", "rule:overload", APPROVER),
        ("hold.overload.released", CIRCUIT, "rule:overload"),
    ]
    with site.books.read() as connection:
        assert policies.versions(connection)["rule:overload"].changed_at == site.clock.now()
    for _ in range(3):
        site.sample(HEATER)
    assert own_holds(site) == []
    held = site.gateway.control.memory(CIRCUIT).holds
    assert [hold for hold in held if not hold.shadow] == []  # the heater also looks prohibited: a report


def test_what_fails_on_the_way_leaves_everything_as_it_was_and_is_tried_again(open_site):
    site = open_site(overload=OVERLOAD)
    hold = trip(site)
    proposal_id, found = dry_run(site, "overload", {"mode": "off"})
    approve(site, proposal_id, found["circuits"])
    with site.books.write() as connection:
        connection.execute(
            sa.text(
                "CREATE TRIGGER full BEFORE INSERT ON audit_log WHEN NEW.action = 'hold.overload.released' "
                "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        )
    with pytest.raises(sa.exc.DBAPIError, match="disk full"):
        look(site)
    assert own_holds(site) == [hold]
    assert get(site, proposal_id).state is State.APPROVED
    with site.books.read() as connection:
        assert policies.versions(connection)["rule:overload"].described["mode"] == "enforce"
    with site.books.write() as connection:
        connection.execute(sa.text("DROP TRIGGER full"))
    look(site)
    assert own_holds(site) == []


def test_a_report_that_becomes_enforced_cuts_whom_the_dry_run_named(open_site):
    site = open_site(overload={**OVERLOAD, "mode": "shadow"})
    assert trip(site).shadow
    found = apply(site, "overload", OVERLOAD)
    assert found["circuits"] == 1
    cut = [item["circuit_id"] for item in found["items"] if item["effect"] == "cut"]
    assert cut == [CIRCUIT]
    assert own_holds(site) == []  # the report's hold is gone; the samples are counted anew
    trip(site)
    assert [hold.shadow for hold in own_holds(site)] == [False]


def test_a_load_that_was_found_already_is_judged_by_the_new_rule(open_site):
    site = open_site(prohibited={"mode": "shadow", "bands": [{"from_w": 800}]})
    site.sample({CIRCUIT: 40.0})
    for _ in range(4):
        site.sample({CIRCUIT: 1540.0})
    assert [hold.shadow for hold in own_holds(site, Reason.PROHIBITED)] == [True]
    found = apply(site, "prohibited", {"mode": "enforce", "bands": [{"from_w": 800}]})
    assert found["circuits"] == 1
    site.sample({CIRCUIT: 1540.0})  # the kettle is on still: no new step is needed
    assert [hold.shadow for hold in own_holds(site, Reason.PROHIBITED)] == [False]


def test_a_count_under_way_goes_on_when_another_section_is_changed(open_site):
    site = open_site(overload={**OVERLOAD, "debounce_s": 30})
    for _ in range(4):
        site.sample(HEATER)
    apply(site, "curfew", {"mode": "enforce"})
    assert own_holds(site) == []
    for _ in range(3):
        site.sample(HEATER)
    (hold,) = own_holds(site)
    assert hold.evidence["sample_count"] == 7


def test_a_new_curfew_is_in_force_at_once_and_ends_at_its_boundary(open_site):
    site = open_site()
    apply(site, "curfew", {"mode": "enforce", "rules": [{"from": "11:00", "to": "12:30"}]})
    (hold,) = own_holds(site, Reason.CURFEW)
    assert hold.expected_release_at == NOON + timedelta(minutes=30)
    site.pass_time(1800)
    assert own_holds(site, Reason.CURFEW) == []


def test_how_soon_and_how_often_relays_close_is_changed_too(open_site):
    site = open_site()
    found = apply(site, "min_off", {"ac_s": 600})
    assert (found["circuits"], found["basis"]["rules"]) == (0, ["rule:min_off"])
    apply(site, "trips", {"restores_a_day": 1})
    circuit = site.gateway.control.memory("r-1-ac").circuit
    assert (circuit.min_off_s, circuit.restores_a_day) == (600, 1)
    assert ("policy.changed", "rule:min_off", APPROVER) in audited(site)
    assert ("policy.changed", "rule:trips", APPROVER) in audited(site)


def test_every_section_of_control_can_be_changed():
    assert set(policy_proposals.SECTIONS) == set(PoliciesSection.model_fields) - {"prices", "lots"}


def test_the_sites_file_is_what_the_next_change_starts_from(open_site):
    site = open_site(overload=OVERLOAD)
    apply(site, "overload", {"limit_w": 3000, "mode": "enforce"})
    apply(site, "curfew", {"mode": "enforce", "rules": [{"from": "20:00", "to": "21:00"}]})
    trip_free = [own_holds(site) for _ in range(3) if site.sample(HEATER) is None]
    assert trip_free == [[], [], []]  # the other section's change stands


def test_shedding_that_is_switched_off_gives_back_whom_it_holds(open_site):
    site = open_site(shedding={"mode": "enforce"})
    with site.books.write() as connection:
        holds.place(
            connection,
            circuit_id=CIRCUIT,
            reason=Reason.SHED,
            placed_by="rule:shedding",
            evidence={},
            now=site.clock.now(),
        )
    before = len(audited(site))
    found = apply(site, "shedding", {"mode": "off"})
    assert found["counts"]["release"] == 1
    assert own_holds(site, Reason.SHED) == []
    actions = [row for row in audited(site, before) if row[0] in ("policy.changed", "hold.shed.released")]
    assert actions == [
        ("policy.changed", "rule:shedding", APPROVER),
        ("hold.shed.released", CIRCUIT, "rule:shedding"),
    ]
    assert site.gateway.feeders.policy.mode is Enforcement.OFF


def test_what_does_not_fit_the_site_is_refused_with_its_faults(open_site):
    site = open_site(overload=OVERLOAD)
    proposal_id = propose(site, "overload", {"overrides": [{"building": "gone", "mode": "off"}]})
    with site.books.write() as connection:
        policy_proposals.ask_dry_run(connection, proposal_id=proposal_id, now=site.clock.now())
    look(site)
    refused = get(site, proposal_id)
    assert (refused.state, refused.dry_run) == (State.PROPOSED, None)
    assert refused.refusal is not None
    assert refused.refusal[0][0] == "policies.overload.overrides[0].building"
    look(site)
    assert [action for action, *_ in audited(site)].count("policy.refused") == 1


def test_an_approval_of_long_ago_is_not_taken_over(open_site):
    site = open_site(overload=OVERLOAD)
    hold = trip(site)
    proposal_id, found = dry_run(site, "overload", {"mode": "off"})
    approve(site, proposal_id, found["circuits"])
    site.clock.advance(policy_proposals.TAKE_OVER_S)
    look(site)
    assert get(site, proposal_id).state is State.PROPOSED
    assert own_holds(site) == [hold]


def test_a_change_outlives_a_restart_until_the_file_has_another_section(open_site):
    site = open_site(overload=OVERLOAD)
    apply(site, "overload", {"limit_w": 3000, "mode": "enforce"})

    def limit_w() -> int | None:
        in_force = settings_in_force(load(site.settings.path), site.books, site.clock)
        return in_force.policies.overload.base.limit_w

    assert limit_w() == 3000
    text = site.settings.path.read_text()
    site.settings.path.write_text(text.replace("limit_w: 2000", "limit_w: 1800"))
    assert limit_w() == 1800
    with site.books.read() as connection:
        (proposal,), _ = policy_proposals.listing(connection, limit=9)
    assert (proposal.state, proposal.ended_by) == (State.SUPERSEDED, SITE_FILE)
    site.settings.path.write_text(text)
    assert limit_w() == 2000  # what the file has taken back stays so


def test_a_change_that_does_not_fit_the_site_any_more_gives_way_to_the_file(open_site):
    site = open_site(overload=OVERLOAD)
    apply(site, "overload", {"overrides": [{"room": "r-2", "mode": "off"}]})
    apply(site, "curfew", {"mode": "enforce"})
    text = site.settings.path.read_text()
    site.settings.path.write_text(text.replace("room_id: r-2", "room_id: r-3"))
    in_force = settings_in_force(load(site.settings.path), site.books, site.clock)
    assert in_force.policies.overload.base.limit_w == 2000
    with site.books.read() as connection:
        found = {one.section: one for one in policy_proposals.listing(connection, limit=9)[0]}
    assert found["overload"].state is State.SUPERSEDED
    assert found["overload"].refusal is not None
    assert "r-2" in found["overload"].refusal[0][1]
    assert found["curfew"].state is State.APPLIED
