"""A building's return on real sockets: modules that come up open are one alarm, one reset brings them back."""

from datetime import timedelta
from typing import Any

import pytest

from proofs.field import alarm_is_off
from proofs.main_job import as_instant, expect_normal
from proofs.running_site import eventually
from proofs.site_folder import Plan
from simulators.faults import FaultKind

pytestmark = pytest.mark.timeout(180)

ROOMS, AT_ONCE, EVERY_S = 12, 4, 60
PLAN = Plan(
    tcp_rooms=ROOMS,
    rtu_rooms=0,
    mqtt_rooms=0,
    broker="none",
    policies={"closings": {"at_once": AT_ONCE, "every_s": EVERY_S}},
)
BUILDING = "tcp/tcp-01"
UNHEARD = timedelta(seconds=720)  # twice the window of openings, at this clock's speed


def test_a_building_that_comes_up_open_is_one_alarm_and_one_reset(open_site):
    site = open_site(PLAN)
    site.set_all_powers(100.0)
    site.fund_all()
    site.start_gateway()
    circuits, modules = site.files.circuits, [f"m-tcp-01-{100 + number}" for number in range(1, ROOMS + 1)]
    for circuit_id in circuits:
        expect_normal(site, circuit_id)

    for module_id in modules:
        site.fault(module_id, FaultKind.DEAD)
    eventually(
        lambda: all(
            site.files.clock.now() - as_instant(site.point(one).last_seen_at) > UNHEARD for one in circuits
        ),
        what="nobody has been heard for a while",
    )
    for module_id in modules:
        site.fault(module_id, FaultKind.REBOOT, relay="open")
        site.clear(module_id, FaultKind.DEAD)

    def whole_building() -> dict[str, Any] | None:
        told = site.alarms("building_opened", subject=BUILDING)
        return told[0] if told and told[0]["detail"]["standing"] == len(circuits) else None

    alarm = eventually(whole_building, what="one alarm tells of the whole building")
    assert site.alarms("load_off") == []
    assert (alarm["detail"]["circuits"], alarm["detail"]["cause"]) == (len(circuits), "after_silence")
    assert {site.circuit(one)["state"] for one in circuits} == {"load_off"}
    assert {site.truth(one)["contacts"] for one in circuits} == {"open"}
    listed = site.dormpower("alarm", "list", "--building", "tcp-01")
    assert f"{len(circuits)} of {len(circuits)} circuits of {BUILDING} are still off" in listed.stderr

    done = site.ask("maintenance", "POST", "/resets", json=alarm["detail"]["reset"])
    assert (done.status_code, done.json()["circuits"]) == (200, len(circuits))
    alarm_is_off(site, "building_opened", BUILDING)
    for circuit_id in circuits:
        expect_normal(site, circuit_id)
        assert site.truth(circuit_id)["contacts"] == "closed"
    closings = sorted(
        as_instant(row.recorded_at)
        for circuit_id in circuits
        for row in site.commands(circuit_id)
        if row.relay == "closed"
    )
    assert len(closings) == len(circuits)
    assert closings[-1] - closings[0] >= timedelta(seconds=EVERY_S * (len(circuits) // AT_ONCE - 2))
    for single in site.alarms("load_off", state="cleared"):  # of those that were found before there were enough
        life = site.get(f"/alarms/{single['alarm_id']}")
        assert life["steps"][-1]["detail"] == {"folded_into": alarm["alarm_id"]}
    assert site.get("/alarms/figures")["flooding"] is False
    audited = site.dormpower("audit")
    assert audited.returncode == 0, audited.stderr
