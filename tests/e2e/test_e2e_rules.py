"""The rules of loads and hours on real processes and sockets: overload, a kettle, a curfew, a night limit."""

from datetime import UTC, datetime
from typing import Any

import pytest

from proofs.main_job import as_instant, as_json, expect_normal
from proofs.running_site import RunningSite, eventually
from proofs.site_folder import Plan

pytestmark = pytest.mark.timeout(180)

CURFEW_AT = datetime(2026, 5, 20, 15, 0, tzinfo=UTC)  # 23:00 in Shanghai, before a workday
HOURS = {"from": "23:00", "to": "06:00", "days": ["before_workday"]}
PLAN = Plan(
    tcp_rooms=2,
    rtu_rooms=0,
    mqtt_rooms=0,
    broker="none",
    campus_start=CURFEW_AT.replace(hour=14, minute=30),
    policies={
        "overload": {
            "mode": "enforce",
            "limit_w": 2000,
            "restore_after_s": None,
            "overrides": [{"room": "tcp-01-102", "module_limit": False}],
        },
        "prohibited": {"mode": "enforce", "bands": [{"from_w": 800, "to_w": 1500}], "restore_after_s": None},
        "curfew": {"mode": "enforce", "rules": [{**HOURS, "kind": "lighting", "room": "tcp-01-101"}]},
        "night_mode": {
            "mode": "enforce",
            "rules": [{**HOURS, "kind": "ac", "room": "tcp-01-101", "limit_w": 600}],
        },
    },
)


def expect_off(site: RunningSite, circuit_id: str, state: str, reason: str) -> dict[str, Any]:
    """Wait until a circuit is off for one reason, read back, its contacts open; return its hold's evidence."""

    def off() -> bool:
        shown = site.circuit(circuit_id)
        return (shown["state"], shown["relay"], shown["control"]) == (state, "open", "settled")

    eventually(off, what=f"{circuit_id} is {state}")
    assert site.truth(circuit_id)["contacts"] == "open"
    (row,) = site.rows(
        "SELECT reason, placed_at, evidence FROM holds WHERE circuit_id = :circuit_id AND released_at IS NULL",
        circuit_id=circuit_id,
    )
    assert row.reason == reason
    return {"placed_at": as_instant(row.placed_at), **as_json(row.evidence)}


def test_loads_trip_and_hours_switch_as_the_site_file_says(open_site):
    site = open_site(PLAN)
    site.set_all_powers(0.0)
    site.fund_all()
    site.start_gateway()
    for circuit_id in site.files.circuits:
        expect_normal(site, circuit_id)
    announced = {one["cause"]: one for one in site.get("/rooms/tcp-01-101")["announcements"]}
    assert as_instant(announced["curfew"]["from_at"]) == CURFEW_AT
    assert (announced["curfew"]["kind"], announced["night_limit"]["limit_w"]) == ("lighting", 600)

    site.set_power("tcp-01-102-ac", 2_500.0)
    site.set_power("tcp-01-102-lighting", 1_200.0)
    overload = expect_off(site, "tcp-01-102-ac", "load_off", "overload")
    assert (overload["limit_w"], overload["limit_of"], overload["sample_count"] >= 2) == (2000, "limit_w", True)
    kettle = expect_off(site, "tcp-01-102-lighting", "load_off", "prohibited")
    assert kettle["delta_w"] == pytest.approx(1_200, rel=0.05)

    curfew = expect_off(site, "tcp-01-101-lighting", "scheduled_off", "curfew")
    assert curfew["placed_at"] >= CURFEW_AT
    expect_normal(site, "tcp-01-101-ac")

    # The module's own limit register follows the lower limit of the night; where it is not wanted it is left.
    eventually(
        lambda: site.truth("tcp-01-101-ac")["limit_w"] == 600,
        what="the module's own limit is the night's",
        within_s=90,
    )
    assert site.truth("tcp-01-102-ac")["limit_w"] == 0
