"""A policy is changed through the API while the real gateway runs: off, watching, and enforced again."""

from typing import Any

import pytest

from proofs.running_site import RunningSite, eventually
from proofs.site_folder import Plan

pytestmark = pytest.mark.timeout(180)

CIRCUIT = "tcp-01-101-lighting"
OVERLOAD = {"limit_w": 2000, "restore_after_s": None, "module_limit": False}  # no trip but the gateway's
PLAN = Plan(
    tcp_rooms=1,
    rtu_rooms=0,
    mqtt_rooms=0,
    broker="none",
    policies={"overload": {**OVERLOAD, "mode": "enforce"}, "prohibited": {"mode": "off"}},
)


def is_off(site: RunningSite) -> None:
    eventually(lambda: shown(site) == ("load_off", "open"), what="the circuit is tripped, its relay open")
    assert site.truth(CIRCUIT)["contacts"] == "open"


def is_on(site: RunningSite) -> None:
    eventually(lambda: shown(site) == ("normal", "closed"), what="the circuit is supplied, its relay closed")
    assert site.truth(CIRCUIT)["contacts"] == "closed"


def shown(site: RunningSite) -> tuple[str, str]:
    circuit = site.circuit(CIRCUIT)
    return circuit["state"], circuit["relay"]


def ask(site: RunningSite, who: str, method: str, path: str, **body: Any) -> dict[str, Any]:
    answer = site.ask(who, method, f"/policies/proposals{path}", json=body or None)
    assert answer.status_code in (201, 202), answer.text
    return dict(answer.json())


def dry_run(site: RunningSite, mode: str) -> dict[str, Any]:
    """Propose the overload section in another mode, and have the gateway try it."""
    content = {**OVERLOAD, "mode": mode}
    made = ask(site, "maintenance", "POST", "", section="overload", content=content, note=f"to {mode}")
    path = f"/{made['proposal_id']}"
    ask(site, "maintenance", "POST", f"{path}/dry-run")
    return dict(
        eventually(
            lambda: (proposal := site.get(f"/policies/proposals{path}"))["dry_run"] and proposal,
            what=f"the gateway says what {mode} would do",
        )
    )


def apply(site: RunningSite, proposal: dict[str, Any]) -> str:
    proposal_id = str(proposal["proposal_id"])
    ask(site, "admin", "POST", f"/{proposal_id}/apply", circuits=proposal["dry_run"]["circuits"])
    eventually(
        lambda: site.get(f"/policies/proposals/{proposal_id}")["applied_at"],
        what=f"{proposal['content']['mode']} is in force",
    )
    return proposal_id


def effects(proposal: dict[str, Any]) -> list[tuple[str, str]]:
    return [(item["effect"], item["circuit_id"]) for item in proposal["dry_run"]["items"]]


def would_have_been_off(site: RunningSite) -> bool:
    return any(one["circuit_id"] == CIRCUIT for one in site.get("/reports/shadow")["items"])


def test_overload_goes_off_then_watches_then_is_enforced_again_without_a_restart(open_site):
    site = open_site(PLAN)
    site.fund_all()
    site.start_gateway()
    site.set_power(CIRCUIT, 2_500.0)
    is_off(site)

    off = dry_run(site, "off")
    assert (effects(off), off["dry_run"]["circuits"]) == ([("release", CIRCUIT)], 0)
    is_off(site)  # a dry run does nothing
    off_id = apply(site, off)
    is_on(site)
    rows = [
        tuple(row) for row in site.rows("SELECT action, subject_id, actor FROM audit_log ORDER BY audit_id")
    ]
    start = rows.index(("policy.applied", off_id, "admin"))
    assert rows[start + 1 : start + 3] == [
        ("policy.changed", "rule:overload", "admin"),
        ("hold.overload.released", CIRCUIT, "rule:overload"),
    ]

    apply(site, dry_run(site, "shadow"))
    eventually(lambda: would_have_been_off(site), what="the report names the circuit")
    is_on(site)

    enforce = dry_run(site, "enforce")
    assert enforce["dry_run"]["circuits"] == 1
    assert ("cut", CIRCUIT) in effects(enforce)
    refused = site.ask(
        "admin", "POST", f"/policies/proposals/{enforce['proposal_id']}/apply", json={"circuits": 0}
    )
    assert refused.status_code == 409
    apply(site, enforce)
    is_off(site)
    assert site.processes["gateway"].log.read_bytes().count(b"gateway.started") == 1

    site.set_power(CIRCUIT, 0.0)
    site.restart_gateway()
    (section,) = [one for one in site.get("/policies")["sections"] if one["section"] == "overload"]
    assert section["proposal_id"] == enforce["proposal_id"]
    assert site.stop("gateway") == 0
    done = site.dormpower("audit")
    assert done.returncode == 0, done.stdout
