"""Modules that close by themselves after their own trip, wired and by radio: the whole site at work."""

import pytest

from proofs.field import POWER_W, alarm_is_off, alarm_is_on, hold_reasons, lift, lock_out
from proofs.main_job import expect_normal
from proofs.running_site import RunningSite, eventually
from proofs.site_folder import TCP_LINE, Plan, describe_room
from simulators.faults import FaultKind

pytestmark = pytest.mark.timeout(240)

WIRED, RADIO = "own-01-201", "own-01-202"
PLAN = Plan(
    tcp_rooms=1,
    rtu_rooms=0,
    mqtt_rooms=1,
    speed=60.0,
    own_profiles={
        "own-dual": {"like": "dormpower-dual", "self_restore_s": 600},
        "own-radio": {"like": "dormpower-mqtt", "self_restore_s": 600},
    },
    more_modules=(
        {"id": f"m-{WIRED}", "profile": "own-dual", "line": TCP_LINE, "unit": 50},
        {"id": f"m-{RADIO}", "profile": "own-radio"},
    ),
    more_rooms=(describe_room(WIRED, module_id=f"m-{WIRED}"), describe_room(RADIO, module_id=f"m-{RADIO}")),
    policies={"prohibited": {"mode": "off"}, "overload": {"mode": "off"}},
)
CIRCUITS = [f"{room_id}-lighting" for room_id in (WIRED, RADIO)]


def trip(site: RunningSite, circuit_id: str) -> None:
    site.fault(f"m-{circuit_id.removesuffix('-lighting')}", FaultKind.FLAG, flag="overload_trip", channel=0)


def held_for_a_while(site: RunningSite, circuit_id: str) -> bool:
    """The trip is held, and people are told when it ends."""
    holds = site.circuit(circuit_id)["holds"]
    return [(one["reason"], one["release"]) for one in holds] == [("module_trip", "timer")] and bool(
        holds[0]["expected_release_at"]
    )


def ends_of_trips(site: RunningSite, circuit_id: str) -> list[str | None]:
    """Who ended the module's trips."""
    rows = site.rows(
        "SELECT released_by FROM holds WHERE circuit_id = :circuit_id AND reason = 'module_trip'",
        circuit_id=circuit_id,
    )
    return [row.released_by for row in rows]


def openings(site: RunningSite, circuit_id: str) -> list[str | None]:
    """How the commands to open have ended.

    One to close may be on record too: at this speed our own timer is up in the same second as the module's.
    """
    return [command.outcome for command in site.commands(circuit_id) if command.relay == "open"]


def test_the_trip_ends_with_the_module_s_own_closing_and_a_lock_out_stands_against_it(open_site):
    site = open_site(PLAN)
    site.fund_all()
    site.start_gateway()
    for circuit_id in CIRCUITS:
        expect_normal(site, circuit_id)
    site.set_all_powers(POWER_W)

    for circuit_id in CIRCUITS:
        trip(site, circuit_id)
    for circuit_id in CIRCUITS:
        eventually(lambda one=circuit_id: held_for_a_while(site, one), what=f"{circuit_id} is held")
        alarm_is_on(site, "load_off", circuit_id)
    for circuit_id in CIRCUITS:
        expect_normal(site, circuit_id)
        alarm_is_off(site, "load_off", circuit_id)
        assert site.truth(circuit_id)["contacts"] == "closed"
        assert ends_of_trips(site, circuit_id) == ["rule:trips"]
        assert openings(site, circuit_id) == []
    assert not site.alarms("closed_against_hold", state="cleared")

    lockouts = {}
    for circuit_id in CIRCUITS:
        trip(site, circuit_id)
        eventually(lambda one=circuit_id: held_for_a_while(site, one), what=f"{circuit_id} is held again")
        lockouts[circuit_id] = lock_out(site, circuit_id)
    for circuit_id in CIRCUITS:
        eventually(
            lambda one=circuit_id: openings(site, one) == ["confirmed"],
            what=f"{circuit_id} is opened again",
        )
        (told,) = site.alarms("closed_against_hold", subject=circuit_id, state="cleared") or [
            alarm_is_on(site, "closed_against_hold", circuit_id)
        ]
        assert told["priority"] == "critical"
        alarm_is_off(site, "closed_against_hold", circuit_id)
        assert openings(site, circuit_id) == ["confirmed"]
        assert (site.truth(circuit_id)["contacts"], hold_reasons(site, circuit_id)) == ("open", ["lockout"])
        lift(site, lockouts[circuit_id])
        expect_normal(site, circuit_id)
    audited = site.dormpower("audit")
    assert audited.returncode == 0, audited.stderr
