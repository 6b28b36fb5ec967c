"""Every fault that a simulated module or line can have, in its variants, and what the gateway must do then.

Each case has a room of its own, and a neighbour on the same line that must not notice.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from proofs.field import (
    Field,
    alarm_is_off,
    alarm_is_on,
    decide,
    hold_reasons,
    is_polled,
    lift,
    lock_out,
    reset,
)
from proofs.main_job import expect_normal
from proofs.running_site import eventually
from proofs.site_folder import RTU_LINE, TCP_LINE, Plan
from simulators.faults import FaultKind

FAULT_PLAN = Plan(tcp_rooms=15, rtu_rooms=13, mqtt_rooms=8)
NEIGHBOUR = {"tcp": "tcp-01-110-lighting", "rtu": "rtu-01-108-lighting", "mqtt": "mqtt-01-105-lighting"}
ROLLING = "tcp-01-109"


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
    """Reported open while current flows: critical, never shown as off, and no lock-out is confirmed by it."""
    site, circuit_id = world.site, f"{room}-lighting"
    alarm = alarm_is_on(site, "open_but_drawing", circuit_id)
    assert alarm["priority"] == "critical"
    lockout_id = lock_out(site, circuit_id)
    is_polled(site, circuit_id)
    shown = site.circuit(circuit_id)
    assert (shown["relay"], shown["open_but_drawing"], shown["control"]) == ("open", True, "failed")
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


def lock_it_out(world: Field, room: str) -> None:
    """Lock the room's lighting out and wait until it is read back open."""
    lock_out(world.site, f"{room}-lighting")
    eventually(lambda: world.site.circuit(f"{room}-lighting")["relay"] == "open", what=f"{room} is locked out")


def opened_again(world: Field, room: str) -> None:
    """A module that closes by itself against a hold: opened again, and reported."""
    site, circuit_id = world.site, f"{room}-lighting"
    eventually(
        lambda: site.rows(
            "SELECT 1 FROM alarms WHERE kind = 'closed_against_hold' AND subject_id = :circuit_id",
            circuit_id=circuit_id,
        ),
        what="the closing is reported",
    )
    eventually(lambda: site.truth(circuit_id)["contacts"] == "open", what="it is opened again")
    alarm_is_off(site, "closed_against_hold", circuit_id)
    assert [command.relay for command in site.commands(circuit_id)] == ["open", "open"]
    assert hold_reasons(site, circuit_id) == ["lockout"]
    (lockout,) = site.rows(
        "SELECT hold_id FROM holds WHERE circuit_id = :circuit_id AND released_at IS NULL",
        circuit_id=circuit_id,
    )
    lift(site, lockout.hold_id)
    expect_normal(site, circuit_id)


def condition_is_told(world: Field, room: str) -> None:
    """A condition that opens no relay: an alarm as long as it lasts, and the room stays on."""
    site, circuit_id, module = world.site, f"{room}-lighting", f"m-{room}"
    (flag,) = site.truth(circuit_id)["flags"]

    def told() -> bool:
        return any(one["subject_id"] in {circuit_id, module} for one in site.alarms(flag))

    eventually(told, what=f"{flag} of {room}")
    is_polled(site, circuit_id)
    assert (site.circuit(circuit_id)["state"], site.commands(circuit_id)) == ("normal", [])
    site.clear(module)
    eventually(lambda: not told(), what=f"{flag} of {room} ends")


def hot_module_is_critical(world: Field, room: str) -> None:
    """Too hot: a trip like any other, and an alarm of its own that is critical."""
    site, circuit_id, module = world.site, f"{room}-lighting", f"m-{room}"

    def told() -> list[dict[str, Any]]:
        return [one for one in site.alarms("over_temperature") if one["subject_id"] in {circuit_id, module}]

    assert eventually(told, what=f"{room} is too hot")[0]["priority"] == "critical"
    trip_is_held_until_reset(world, room)
    eventually(lambda: not told(), what=f"{room} has cooled down")


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
    """One fault in one room: what goes before, and what must come about."""

    kind: FaultKind
    room: str
    must: Callable[[Field, str], None]
    params: dict[str, Any] = field(default_factory=dict)
    subject: str = ""
    prepare: Callable[[Field, str], None] | None = None

    def __str__(self) -> str:
        """Name the case by its fault, its variant and its room."""
        return "-".join([self.kind, *(str(self.params[name]) for name in sorted(self.params)), self.room])


OPEN, CLOSED = {"relay": "open", "channel": 0}, {"relay": "closed", "channel": 0}

CASES = [
    Case(FaultKind.ROLLOVER_SOON, ROLLING, rollover_is_charged),  # injected before the gateway's start
    Case(FaultKind.DEAD, "tcp-01-101", goes_offline_and_returns),
    Case(FaultKind.DEAD, "mqtt-01-101", goes_offline_and_returns),
    Case(FaultKind.SLOW, "tcp-01-102", stays_in_contact, {"delay_s": 0.05}),
    Case(FaultKind.SLOW, "tcp-01-108", goes_offline_and_returns, {"delay_s": 0.3}),
    Case(FaultKind.SLOW, "rtu-01-109", goes_offline_and_returns, {"delay_s": 0.3}),
    Case(FaultKind.HANG_UP, "tcp-01-111", goes_offline_and_returns),
    Case(FaultKind.HANG_UP, "rtu-01-110", goes_offline_and_returns),
    Case(FaultKind.LATE_ANSWER, "rtu-01-101", neighbours_are_not_mistaken, {"delay_s": 0.25}),
    Case(FaultKind.WRONG_UNIT, "rtu-01-102", goes_offline_and_returns),
    Case(FaultKind.CRC_ERROR, "rtu-01-103", goes_offline_and_returns),
    Case(FaultKind.CRC_ERROR, "tcp-01-103", goes_offline_and_returns),
    Case(FaultKind.HALF_FRAME, "rtu-01-104", goes_offline_and_returns),
    Case(FaultKind.HALF_FRAME, "tcp-01-104", goes_offline_and_returns),
    Case(FaultKind.EXCEPTION, "tcp-01-105", goes_offline_and_returns, {"code": 4}),
    Case(FaultKind.STUCK_RELAY, "tcp-01-106", relay_failure_is_told),
    Case(FaultKind.WELDED_RELAY, "rtu-01-105", drawing_while_open_is_critical, {"reports": "open"}),
    Case(FaultKind.WELDED_RELAY, "tcp-01-112", relay_failure_is_told, {"reports": "closed"}),
    Case(FaultKind.SWITCHED_LOCALLY, "tcp-01-107", nobodys_hand_is_overruled, OPEN),
    Case(FaultKind.SWITCHED_LOCALLY, "mqtt-01-102", nobodys_hand_is_overruled, OPEN),
    Case(FaultKind.SWITCHED_LOCALLY, "tcp-01-113", opened_again, CLOSED, prepare=lock_it_out),
    Case(FaultKind.SWITCHED_LOCALLY, "mqtt-01-108", opened_again, CLOSED, prepare=lock_it_out),
    Case(FaultKind.REGISTER_RESET, "rtu-01-106", reset_register_is_quarantined, {"channel": 0}),
    Case(FaultKind.REBOOT, "mqtt-01-102", reboot_changes_nothing),
    Case(FaultKind.REBOOT, "tcp-01-115", nobodys_hand_is_overruled, OPEN),
    Case(FaultKind.REBOOT, "mqtt-01-107", nobodys_hand_is_overruled, OPEN),
    Case(FaultKind.REBOOT_TO_ZEROS, "mqtt-01-103", reset_register_is_quarantined),
    Case(FaultKind.FLAG, "rtu-01-107", trip_is_held_until_reset, {"flag": "overload_trip", "channel": 0}),
    Case(FaultKind.FLAG, "tcp-01-114", trip_is_held_until_reset, {"flag": "prohibited_trip", "channel": 0}),
    Case(FaultKind.FLAG, "rtu-01-111", hot_module_is_critical, {"flag": "over_temperature", "channel": 0}),
    Case(FaultKind.FLAG, "rtu-01-112", condition_is_told, {"flag": "cover_open", "channel": 0}),
    Case(FaultKind.FLAG, "rtu-01-113", condition_is_told, {"flag": "relay_fault", "channel": 0}),
    Case(FaultKind.FLAG, "mqtt-01-106", condition_is_told, {"flag": "cover_open", "channel": 0}),
    Case(FaultKind.LINE_DOWN, "tcp-01-101", one_line_alarm, subject=TCP_LINE),
    Case(FaultKind.LINE_DOWN, "rtu-01-101", one_line_alarm, subject=RTU_LINE),
    Case(FaultKind.BROKER_GONE, "mqtt-01-101", buffered_readings_count_once),
    Case(FaultKind.CLOCK_UNSET, "mqtt-01-104", readings_count_commands_do_not),
]
