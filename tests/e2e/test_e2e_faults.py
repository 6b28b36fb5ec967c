"""Every fault that a simulated module or line can have, against the real gateway: what it must do, and not do.

One site runs for all cases; each has a room of its own, and a neighbour on the same line that must not notice.
After each case, all that flowed since the beginning has been charged, to the module's resolution, unless the
case says that a person decided otherwise.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from proofs.main_job import RESOLUTION_WH, as_instant, expect_normal
from proofs.running_site import RTU_LINE, TCP_LINE, Plan, RunningSite, SiteFolder, eventually
from simulators.faults import FaultKind

pytestmark = pytest.mark.timeout(300)

PLAN = Plan(tcp_rooms=10, rtu_rooms=8, mqtt_rooms=5)
POWER_W = 600.0
NEIGHBOUR = {"tcp": "tcp-01-110-lighting", "rtu": "rtu-01-108-lighting", "mqtt": "mqtt-01-105-lighting"}
ROLLING = "tcp-01-109"


@dataclass
class Field:
    """The running site, and what each circuit's register and energy were before the gateway saw them."""

    site: RunningSite
    before: dict[str, dict[str, Any]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def world() -> Iterator[Field]:
    files = SiteFolder(PLAN)
    files.restart_clock()
    try:
        with RunningSite(files) as site:
            site.set_all_powers(0.0)
            site.fault(f"m-{ROLLING}", FaultKind.ROLLOVER_SOON, in_wh=300)
            site.fund_all()
            found = Field(site, {circuit_id: site.truth(circuit_id) for circuit_id in files.circuits})
            site.start_gateway()
            for circuit_id in files.circuits:
                expect_normal(site, circuit_id)
            site.set_all_powers(POWER_W)
            yield found
    finally:
        files.remove()


# --- what must come about -------------------------------------------------------------------------------------


def hold_reasons(site: RunningSite, circuit_id: str) -> list[str]:
    return [hold["reason"] for hold in site.circuit(circuit_id)["holds"]]


def is_polled(site: RunningSite, circuit_id: str, *, readings: int = 3) -> None:
    """Wait until a circuit's register has been taken in several times from now on."""
    seen: set[Any] = set()
    eventually(
        lambda: seen.add(site.point(circuit_id).register_at) or len(seen) > readings,
        what=f"{circuit_id} goes on being read",
    )


def charged(world: Field, circuit_id: str, *, besides_wh: int = 0) -> None:
    """Prove that all that flowed has been charged, once the present register is in."""
    site, before = world.site, world.before[circuit_id]

    def exactly() -> bool:
        site.set_power(circuit_id, 0.0)
        point, truth = site.point(circuit_id), site.truth(circuit_id)
        flowed_wh = truth["energy_wh"] - before["energy_wh"]
        assert point.register_wh == truth["register_wh"]
        assert abs(flowed_wh - besides_wh - point.metered_wh) <= RESOLUTION_WH, (flowed_wh, point.metered_wh)
        return True

    eventually(exactly, what=f"{circuit_id}: all that flowed is charged, once")
    site.set_power(circuit_id, POWER_W)


def alarm_is_on(site: RunningSite, kind: str, subject: str) -> dict[str, Any]:
    return eventually(lambda: site.alarms(kind, subject=subject), what=f"{kind} of {subject}")[0]


def alarm_is_off(site: RunningSite, kind: str, subject: str) -> None:
    eventually(lambda: not site.alarms(kind, subject=subject), what=f"{kind} of {subject} ends")


def reset(site: RunningSite, circuit_id: str) -> list[str]:
    answer = site.ask("maintenance", "POST", f"/circuits/{circuit_id}/reset")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["released"])


def lock_out(site: RunningSite, circuit_id: str, who: str = "maintenance") -> str:
    answer = site.ask(who, "POST", f"/circuits/{circuit_id}/lockouts", json={"reason": "work on the wiring"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["lockout_id"])


def lift(site: RunningSite, lockout_id: str, who: str = "maintenance") -> None:
    answer = site.ask(who, "DELETE", f"/lockouts/{lockout_id}")
    assert answer.status_code == 204, answer.text


def decide(site: RunningSite, circuit_id: str, decision: str, **more: Any) -> dict[str, Any]:
    quarantine = next(
        one for one in site.get("/quarantines?state=open")["items"] if one["circuit_id"] == circuit_id
    )
    answer = site.ask(
        "maintenance",
        "POST",
        f"/quarantines/{quarantine['quarantine_id']}/decision",
        json={"decision": decision, "note": "looked at the meter", **more},
    )
    assert answer.status_code == 202, answer.text
    return dict(quarantine)


# --- the cases ------------------------------------------------------------------------------------------------


def goes_offline_and_returns(world: Field, room: str) -> None:
    """Alarmed as one module, not as a line; back once it answers."""
    site, module = world.site, f"m-{room}"
    alarm_is_on(site, "module_offline", module)
    assert not site.alarms("line_offline")
    eventually(
        lambda: site.circuit(f"{room}-lighting")["state"] == "offline", what=f"{room} is shown as offline"
    )
    is_polled(site, NEIGHBOUR[room.partition("-")[0]])
    site.clear(module)
    alarm_is_off(site, "module_offline", module)
    expect_normal(site, f"{room}-lighting")


def stays_in_contact(world: Field, room: str) -> None:
    """Nothing to tell of: samples keep coming."""
    is_polled(world.site, f"{room}-lighting")
    assert not world.site.alarms("module_offline", subject=f"m-{room}")
    world.site.clear(f"m-{room}")


def neighbours_are_not_mistaken(world: Field, room: str) -> None:
    """A late answer is never taken for the next module's."""
    site = world.site
    alarm_is_on(site, "module_offline", f"m-{room}")
    is_polled(site, NEIGHBOUR[room.partition("-")[0]], readings=6)
    for number in range(101, 109):
        point = site.point(f"rtu-01-{number}-lighting")
        assert point.standing == "accepted", f"unit {number - 100} was taken for another"
    site.clear(f"m-{room}")
    alarm_is_off(site, "module_offline", f"m-{room}")


def relay_failure_is_told(world: Field, room: str) -> None:
    """A relay that does not follow: an alarm, and never shown as off."""
    site, circuit_id = world.site, f"{room}-lighting"
    lockout_id = lock_out(site, circuit_id)
    alarm_is_on(site, "relay_failed", circuit_id)
    shown = site.circuit(circuit_id)
    assert (shown["state"], shown["relay"], shown["control"]) == ("locked_out", "closed", "failed")
    assert not site.rows("SELECT 1 FROM holds WHERE hold_id = :id AND confirmed_open_at > 0", id=lockout_id)
    site.clear(f"m-{room}")
    site.restart_gateway()  # a new run may try at once, without the slow beat
    eventually(lambda: site.circuit(circuit_id)["relay"] == "open", what="the freed relay opens")
    alarm_is_off(site, "relay_failed", circuit_id)
    lift(site, lockout_id)
    expect_normal(site, circuit_id)


def drawing_while_open_is_critical(world: Field, room: str) -> None:
    """Reported open while current flows: critical, and no lock-out is confirmed by it."""
    site, circuit_id = world.site, f"{room}-lighting"
    alarm = alarm_is_on(site, "open_but_drawing", circuit_id)
    assert alarm["priority"] == "critical"
    lockout_id = lock_out(site, circuit_id)
    is_polled(site, circuit_id)
    assert not site.rows("SELECT 1 FROM holds WHERE hold_id = :id AND confirmed_open_at > 0", id=lockout_id)
    site.clear(f"m-{room}")
    lift(site, lockout_id)
    alarm_is_off(site, "open_but_drawing", circuit_id)
    reset(site, circuit_id)
    expect_normal(site, circuit_id)


def nobodys_hand_is_overruled(world: Field, room: str) -> None:
    """Opened at the meter: load off with an alarm; no payment closes it, a reset by maintenance does."""
    site, circuit_id = world.site, f"{room}-lighting"
    eventually(lambda: hold_reasons(site, circuit_id) == ["opened_locally"], what="the hand is noticed")
    shown = site.circuit(circuit_id)
    assert (shown["state"], shown["relay"]) == ("load_off", "open")
    alarm_is_on(site, "load_off", circuit_id)
    assert site.recharge(circuit_id, 1_000, key=f"by-hand-{room}").status_code == 201
    is_polled(site, circuit_id)
    site.restart_gateway()
    is_polled(site, circuit_id)
    assert site.truth(circuit_id)["contacts"] == "open"
    assert not site.commands(circuit_id), "nothing was commanded"
    assert reset(site, circuit_id) == ["opened_locally"]
    expect_normal(site, circuit_id)
    alarm_is_off(site, "load_off", circuit_id)


def trip_is_held_until_reset(world: Field, room: str) -> None:
    """The module's own trip: held as such, closed after maintenance's reset alone."""
    site, circuit_id = world.site, f"{room}-lighting"
    eventually(lambda: hold_reasons(site, circuit_id) == ["module_trip"], what="the trip is noticed")
    assert site.circuit(circuit_id)["state"] == "load_off"
    alarm_is_on(site, "load_off", circuit_id)
    is_polled(site, circuit_id)
    assert not site.commands(circuit_id)
    assert reset(site, circuit_id) == ["module_trip"]
    expect_normal(site, circuit_id)
    assert site.truth(circuit_id)["flags"] == []


def reset_register_is_quarantined(world: Field, room: str) -> None:
    """Nothing is charged until a person decides; then it goes on from the register that is there."""
    site, circuit_id = world.site, f"{room}-lighting"
    alarm_is_on(site, "register_quarantined", circuit_id)
    held_wh = site.point(circuit_id).metered_wh
    site.restart_gateway(kill=True)
    eventually(lambda: site.point(circuit_id).suspect_run >= 3, what="later samples are judged too")
    assert site.point(circuit_id).metered_wh == held_wh, "charged while in quarantine"
    decide(site, circuit_id, "dismiss")
    eventually(lambda: site.point(circuit_id).standing == "accepted", what="the decision is carried out")
    alarm_is_off(site, "register_quarantined", circuit_id)
    is_polled(site, circuit_id)
    assert site.point(circuit_id).metered_wh >= held_wh
    forget(world, room)


def forget(world: Field, room: str) -> None:
    """Take what stands now as the beginning: what flowed in quarantine was dismissed by a person."""
    site = world.site
    for kind in ("lighting", "ac"):
        circuit_id = f"{room}-{kind}"
        if site.point(circuit_id).standing == "quarantined":
            decide(site, circuit_id, "dismiss")
        site.set_power(circuit_id, 0.0)

        def rests(circuit_id: str = circuit_id) -> Any:
            point, truth = site.point(circuit_id), site.truth(circuit_id)
            same = point.standing == "accepted" and point.register_wh == truth["register_wh"]
            return (point, truth) if same else None

        point, truth = eventually(rests, what=f"{circuit_id} rests")
        world.before[circuit_id] = truth | {"energy_wh": truth["energy_wh"] - point.metered_wh}


def rollover_is_charged(world: Field, room: str) -> None:
    """The register starts over and every Wh counts."""
    site, circuit_id = world.site, f"{room}-lighting"
    eventually(
        lambda: site.rows(
            "SELECT 1 FROM segments WHERE circuit_id = :circuit_id AND cause = 'rollover'",
            circuit_id=circuit_id,
        ),
        what="the rollover is a segment",
    )
    assert site.point(circuit_id).standing == "accepted"
    assert site.point(circuit_id).register_wh < 1_000_000


def one_line_alarm(world: Field, room: str) -> None:
    """A dead line is one alarm, whatever hangs on it; the other line goes on."""
    site = world.site
    line_id = {"tcp": TCP_LINE, "rtu": RTU_LINE}[room.partition("-")[0]]
    alarm_is_on(site, "line_offline", line_id)
    is_polled(site, NEIGHBOUR["tcp" if line_id == RTU_LINE else "rtu"])
    alarm_is_off(site, "module_offline", f"m-{room}")
    assert len(site.alarms("line_offline")) == 1
    site.restart_gateway()
    assert len(site.alarms("line_offline")) == 1, "told once, not again after a restart"
    site.clear(line_id)
    alarm_is_off(site, "line_offline", line_id)
    expect_normal(site, f"{room}-lighting")


def buffered_readings_count_once(world: Field, room: str) -> None:
    """A module without its broker keeps its readings and sends them on return."""
    site, circuit_id = world.site, f"{room}-lighting"
    alarm_is_on(site, "module_offline", f"m-{room}")
    before = site.point(circuit_id)
    truth = eventually(
        lambda: (found := site.truth(circuit_id))["register_wh"] > before.register_wh + 50 and found,
        what="energy flows meanwhile",
    )
    site.restart_gateway(kill=True)
    site.clear(f"m-{room}")
    alarm_is_off(site, "module_offline", f"m-{room}")
    eventually(lambda: site.point(circuit_id).register_wh >= truth["register_wh"], what="what was kept arrives")


def readings_count_commands_do_not(world: Field, room: str) -> None:
    """A module that does not know the time is read, its samples stamped on arrival; it refuses commands."""
    site, circuit_id = world.site, f"{room}-lighting"
    is_polled(site, circuit_id)
    lockout_id = lock_out(site, circuit_id)
    eventually(
        lambda: [one for one in site.commands(circuit_id) if one.outcome == "refused"],
        what="the command is refused",
    )
    assert site.truth(circuit_id)["contacts"] == "closed"
    site.clear(f"m-{room}")
    eventually(lambda: site.circuit(circuit_id)["relay"] == "open", what="a set clock lets commands through")
    lift(site, lockout_id)
    expect_normal(site, circuit_id)


def reboot_changes_nothing(world: Field, room: str) -> None:
    """A new boot counts its messages from zero; registers go on, and so does the charging."""
    is_polled(world.site, f"{room}-lighting")
    assert world.site.point(f"{room}-lighting").standing == "accepted"


@dataclass(frozen=True)
class Case:
    kind: FaultKind
    room: str
    must: Callable[[Field, str], None]
    params: dict[str, Any] = field(default_factory=dict)
    subject: str = ""


CASES = [
    Case(FaultKind.ROLLOVER_SOON, ROLLING, rollover_is_charged),  # injected before the gateway's start
    Case(FaultKind.DEAD, "tcp-01-101", goes_offline_and_returns),
    Case(FaultKind.DEAD, "mqtt-01-101", goes_offline_and_returns),
    Case(FaultKind.SLOW, "tcp-01-102", stays_in_contact, {"delay_s": 0.05}),
    Case(FaultKind.LATE_ANSWER, "rtu-01-101", neighbours_are_not_mistaken, {"delay_s": 0.25}),
    Case(FaultKind.WRONG_UNIT, "rtu-01-102", goes_offline_and_returns),
    Case(FaultKind.CRC_ERROR, "rtu-01-103", goes_offline_and_returns),
    Case(FaultKind.CRC_ERROR, "tcp-01-103", goes_offline_and_returns),
    Case(FaultKind.HALF_FRAME, "rtu-01-104", goes_offline_and_returns),
    Case(FaultKind.HALF_FRAME, "tcp-01-104", goes_offline_and_returns),
    Case(FaultKind.EXCEPTION, "tcp-01-105", goes_offline_and_returns, {"code": 4}),
    Case(FaultKind.STUCK_RELAY, "tcp-01-106", relay_failure_is_told),
    Case(FaultKind.WELDED_RELAY, "rtu-01-105", drawing_while_open_is_critical, {"reports": "open"}),
    Case(FaultKind.SWITCHED_LOCALLY, "tcp-01-107", nobodys_hand_is_overruled, {"relay": "open", "channel": 0}),
    Case(FaultKind.SWITCHED_LOCALLY, "mqtt-01-102", nobodys_hand_is_overruled, {"relay": "open", "channel": 0}),
    Case(FaultKind.REGISTER_RESET, "rtu-01-106", reset_register_is_quarantined, {"channel": 0}),
    Case(FaultKind.REBOOT, "mqtt-01-102", reboot_changes_nothing),
    Case(FaultKind.REBOOT_TO_ZEROS, "mqtt-01-103", reset_register_is_quarantined),
    Case(FaultKind.FLAG, "rtu-01-107", trip_is_held_until_reset, {"flag": "overload_trip", "channel": 0}),
    Case(FaultKind.LINE_DOWN, "rtu-01-101", one_line_alarm, subject=RTU_LINE),
    Case(FaultKind.BROKER_GONE, "mqtt-01-101", buffered_readings_count_once),
    Case(FaultKind.CLOCK_UNSET, "mqtt-01-104", readings_count_commands_do_not),
]


def test_every_kind_of_fault_has_a_case():
    assert {case.kind for case in CASES} == set(FaultKind)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}-{case.room}")
def test_the_gateway_meets_a_fault(world, case):
    site, neighbour = world.site, NEIGHBOUR[case.room.partition("-")[0]]
    began = site.point(neighbour).register_at
    if case.kind is not FaultKind.ROLLOVER_SOON:
        site.fault(case.subject or f"m-{case.room}", case.kind, **case.params)
    case.must(world, case.room)
    for circuit_id in (f"{case.room}-lighting", f"{case.room}-ac", neighbour):
        charged(world, circuit_id)
    assert as_instant(site.point(neighbour).register_at) > as_instant(began)


def test_the_books_prove_after_all_that(world):
    audited = world.site.dormpower("audit")
    assert audited.returncode == 0, audited.stderr
    charged(world, NEIGHBOUR["tcp"])
