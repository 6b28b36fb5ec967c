"""Policies over HTTP: where each comes from, and proposals from the check to the gateway's answer."""

from typing import get_args

import pytest

from api.routers.policies import Section
from api.rules_in_force import SiteRules
from dormpower.books import policies, policy_proposals, policy_takeovers, shadow
from dormpower.books.policy_proposals import fingerprint_of

FILE_OVERLOAD = {"limit_w": 3000, "mode": "enforce"}
CHANGE = {"section": "overload", "content": {"limit_w": 2000, "mode": "off"}, "note": "exam weeks"}
DRY_RUN = {"circuits": 2, "counts": {"cut": 2}, "basis": {}, "items": [{"circuit_id": "a"}]}


def propose(campus, **changes):
    answer = campus.ask("maintenance", "POST", "/policies/proposals", json=CHANGE | changes)
    assert answer.status_code == 201, answer.text
    return answer.json()


def gateway_answers(campus):
    """What the gateway does for a dry run that was asked for."""
    with campus.books.write() as connection:
        for proposal in policy_takeovers.waiting(connection):
            policy_takeovers.note_dry_run(
                connection,
                proposal=proposal,
                result=DRY_RUN,
                now=campus.clock.now(),
                real_now=campus.clock.real_now(),
            )


def gateway_takes_over(campus, proposal_id):
    campus.clock.advance(1)
    with campus.books.write() as connection:
        policy_takeovers.take_over(connection, proposal_id=proposal_id, now=campus.clock.now())


def apply(campus, proposal_id, circuits=2, who="admin"):
    campus.clock.advance(1)
    return campus.ask(who, "POST", f"/policies/proposals/{proposal_id}/apply", json={"circuits": circuits})


def applied(campus, **changes):
    proposal_id = propose(campus, **changes)["proposal_id"]
    campus.ask("maintenance", "POST", f"/policies/proposals/{proposal_id}/dry-run")
    gateway_answers(campus)
    assert apply(campus, proposal_id).status_code == 202
    gateway_takes_over(campus, proposal_id)
    return proposal_id


def test_a_change_goes_from_proposal_to_applied(campus):
    proposal = propose(campus)
    assert (proposal["state"], proposal["proposed_by"]) == ("proposed", "maintenance")
    path = f"/policies/proposals/{proposal['proposal_id']}"
    assert apply(campus, proposal["proposal_id"]).status_code == 409  # no dry run yet
    asked = campus.ask("maintenance", "POST", f"{path}/dry-run")
    assert (asked.status_code, asked.json()["dry_run"]) == (202, None)
    gateway_answers(campus)
    assert campus.ask("maintenance", "GET", path).json()["dry_run"] == DRY_RUN
    refused = apply(campus, proposal["proposal_id"], circuits=1)
    assert refused.status_code == 409
    assert "said 2 would be cut, you confirm 1" in refused.json()["detail"]
    approved = apply(campus, proposal["proposal_id"])
    assert approved.status_code == 202
    assert [approved.json()[name] for name in ("state", "approved_by", "applied_at")] == [
        "approved",
        "admin",
        None,
    ]
    gateway_takes_over(campus, proposal["proposal_id"])
    shown = campus.ask("admin", "GET", path).json()
    assert shown["state"] == "applied"
    assert shown["applied_at"] is not None
    assert campus.ask("maintenance", "DELETE", path).status_code == 409


def test_what_the_site_file_would_be_refused_for_is_refused_with_every_fault(sqlite_campus):
    content = {"limit_w": 0, "overrides": [{"building": "02", "mdoe": "off"}]}
    answer = sqlite_campus.ask("admin", "POST", "/policies/proposals", json=CHANGE | {"content": content})
    assert answer.status_code == 422
    faults = {one["where"]: one["message"] for one in answer.json()["errors"]}
    assert faults == {
        "policies.overload.limit_w": "expected whole watts, 1–1000000; null: rated current × 220 V, got 0",
        "policies.overload.overrides[0].mdoe": "unknown key, did you mean mode?",
    }
    assert sqlite_campus.ask("admin", "GET", "/policies/proposals").json()["items"] == []


@pytest.mark.parametrize("changes", [{"section": "prices"}, {"note": " "}, {"content": ["off"]}, {"extra": 1}])
def test_a_request_that_says_too_little_or_too_much_is_refused(sqlite_campus, changes):
    answer = sqlite_campus.ask("admin", "POST", "/policies/proposals", json=CHANGE | changes)
    assert answer.status_code == 422


def test_a_change_is_checked_with_the_other_changes_in_force(sqlite_campus):
    applied(sqlite_campus, section="arrears", content={"low_wh": 9000, "critical_wh": 100})
    answer = sqlite_campus.ask(
        "admin",
        "POST",
        "/policies/proposals",
        json={"section": "arrears", "content": {"low_wh": 10, "critical_wh": 100}, "note": "x"},
    )
    assert [one["where"] for one in answer.json()["errors"]] == ["policies.arrears.critical_wh"]


def test_maintenance_proposes_and_an_admin_applies(sqlite_campus):
    campus = sqlite_campus
    proposal_id = propose(campus)["proposal_id"]
    campus.ask("maintenance", "POST", f"/policies/proposals/{proposal_id}/dry-run")
    gateway_answers(campus)
    assert apply(campus, proposal_id, who="maintenance").status_code == 403
    assert campus.ask("finance", "POST", "/policies/proposals", json=CHANGE).status_code == 403
    assert campus.ask("maintenance", "DELETE", f"/policies/proposals/{proposal_id}").status_code == 204
    assert apply(campus, proposal_id).status_code == 409


def test_lists_leave_the_items_out_and_go_by_state(sqlite_campus):
    campus = sqlite_campus
    first = applied(campus)
    campus.clock.advance(1)
    second = propose(campus)["proposal_id"]
    listed = campus.ask("admin", "GET", "/policies/proposals").json()["items"]
    assert [one["proposal_id"] for one in listed] == [second, first]
    assert listed[1]["dry_run"] == {name: value for name, value in DRY_RUN.items() if name != "items"}
    (only,) = campus.ask("admin", "GET", "/policies/proposals?state=applied").json()["items"]
    assert only["proposal_id"] == first
    assert campus.ask("admin", "GET", "/policies/proposals?state=gone").status_code == 422
    assert campus.ask("admin", "GET", "/policies/proposals/pol_none").status_code == 404


def test_what_the_gateway_cannot_work_with_is_told_with_its_faults(sqlite_campus):
    campus = sqlite_campus
    proposal_id = propose(campus)["proposal_id"]
    campus.ask("maintenance", "POST", f"/policies/proposals/{proposal_id}/dry-run")
    with campus.books.write() as connection:
        (proposal,) = policy_takeovers.waiting(connection)
        policy_takeovers.refuse(
            connection,
            proposal=proposal,
            faults=[("policies.overload", "no such room")],
            actor="gateway",
            now=campus.clock.now(),
        )
    shown = campus.ask("admin", "GET", f"/policies/proposals/{proposal_id}").json()
    assert shown["refusal"] == [{"key": "policies.overload", "message": "no such room"}]
    assert "no such room" in apply(campus, proposal_id).json()["detail"]


def test_policies_tell_where_each_section_comes_from(campus):
    with campus.books.write() as connection:
        for rule in ("rule:overload", "rule:shedding", "rule:closings"):
            policies.record(connection, rule=rule, described={"mode": "enforce"}, now=campus.clock.now())
    before = campus.ask("maintenance", "GET", "/policies").json()
    assert {item["rule"]: item["source"] for item in before["items"]} == {
        "rule:overload": "file",
        "rule:shedding": "file",
        "rule:closings": "file",
    }
    sections = {one["section"]: one for one in before["sections"]}
    assert list(sections) == list(policy_proposals.SECTIONS) == list(get_args(Section))
    assert (sections["overload"]["content"], sections["shedding"]["content"]) == (FILE_OVERLOAD, None)
    assert before["in_shadow"] is False
    proposal_id = applied(campus, section="night_mode", content={"mode": "off"})
    after = campus.ask("maintenance", "GET", "/policies").json()
    sources = {item["rule"]: (item["source"], item["proposal_id"]) for item in after["items"]}
    assert sources["rule:overload"] == ("proposal", proposal_id)  # night limits are a part of it
    assert sources["rule:shedding"] == ("file", None)
    (changed,) = [one for one in after["sections"] if one["source"] == "proposal"]
    assert (changed["section"], changed["content"]) == ("night_mode", {"mode": "off"})
    assert changed["applied_at"] is not None


def test_policies_tell_that_a_restored_site_is_in_shadow(sqlite_campus):
    with sqlite_campus.books.write() as connection:
        shadow.require_confirmation(connection)
    assert sqlite_campus.ask("admin", "GET", "/policies").json()["in_shadow"] is True


def test_nothing_is_applied_while_a_restore_awaits_its_confirmation(sqlite_campus):
    proposal_id = propose(sqlite_campus)["proposal_id"]
    sqlite_campus.ask("maintenance", "POST", f"/policies/proposals/{proposal_id}/dry-run")
    gateway_answers(sqlite_campus)
    with sqlite_campus.books.write() as connection:
        shadow.require_confirmation(connection)
    refused = apply(sqlite_campus, proposal_id)
    assert refused.status_code == 409
    assert "confirm it first with `dormpower restore --confirm`" in refused.json()["detail"]
    with sqlite_campus.books.write() as connection:
        shadow.confirm(connection, actor="ada", site_id="s", now=sqlite_campus.clock.now())
    assert apply(sqlite_campus, proposal_id).status_code == 202


def test_levels_follow_an_applied_change_within_a_second_without_a_restart(sqlite_campus):
    campus = sqlite_campus
    rules = SiteRules(campus.context.site, campus.clock)

    def low_wh():
        with campus.books.read() as connection:
            return rules(connection).arrears.base.low_wh

    assert low_wh() == 20_000
    applied(campus, section="arrears", content={"low_wh": 15_000, "critical_wh": 100})
    assert low_wh() == 15_000
    with campus.books.write() as connection:
        policy_takeovers.supersede_changed(connection, {"arrears": {"low_wh": 16_000}}, now=campus.clock.now())
    campus.clock.advance(1)
    assert low_wh() == 20_000  # the file's, as this process has it


def test_an_approval_is_of_the_file_as_it_is_now(sqlite_campus):
    campus = sqlite_campus
    path = campus.context.site.path
    path.write_text(path.read_text().replace("limit_w: 3000", "limit_w: 2500"))
    proposal_id = applied(campus)
    with campus.books.read() as connection:
        proposal = policy_proposals.get(connection, proposal_id)
    assert proposal.file_fingerprint == fingerprint_of({"limit_w": 2500, "mode": "enforce"})
