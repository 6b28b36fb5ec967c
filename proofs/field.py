"""A running site under faults: what each circuit stood at before, and what is asked of it again and again."""

from dataclasses import dataclass, field
from typing import Any

from proofs.main_job import RESOLUTION_WH
from proofs.running_site import RunningSite, eventually

POWER_W = 600.0


@dataclass
class Field:
    """The running site, and what each circuit's register and energy were before the gateway saw them."""

    site: RunningSite
    before: dict[str, dict[str, Any]] = field(default_factory=dict)


def hold_reasons(site: RunningSite, circuit_id: str) -> list[str]:
    """Return why a circuit is off."""
    return [hold["reason"] for hold in site.circuit(circuit_id)["holds"]]


def is_polled(site: RunningSite, circuit_id: str, *, readings: int = 3) -> None:
    """Wait until a circuit's register has been taken in several times from now on."""
    seen: set[Any] = set()

    def several() -> bool:
        seen.add(site.point(circuit_id).register_at)
        return len(seen) > readings

    eventually(several, what=f"{circuit_id} goes on being read")


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
    """Wait for an alarm and return it."""
    return eventually(lambda: site.alarms(kind, subject=subject), what=f"{kind} of {subject}")[0]


def alarm_is_off(site: RunningSite, kind: str, subject: str) -> None:
    """Wait until an alarm is over."""
    eventually(lambda: not site.alarms(kind, subject=subject), what=f"{kind} of {subject} ends")


def reset(site: RunningSite, circuit_id: str) -> list[str]:
    """Reset a circuit by maintenance; returns the reasons released."""
    answer = site.ask("maintenance", "POST", f"/circuits/{circuit_id}/reset")
    assert answer.status_code == 200, answer.text
    return list(answer.json()["released"])


def lock_out(site: RunningSite, circuit_id: str, who: str = "maintenance") -> str:
    """Lock a circuit out; returns the lock-out's id."""
    answer = site.ask(who, "POST", f"/circuits/{circuit_id}/lockouts", json={"reason": "work on the wiring"})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["lockout_id"])


def lift(site: RunningSite, lockout_id: str, who: str = "maintenance") -> None:
    """Lift a lock-out by its holder."""
    answer = site.ask(who, "DELETE", f"/lockouts/{lockout_id}")
    assert answer.status_code == 204, answer.text


def decide(site: RunningSite, circuit_id: str, decision: str, **more: Any) -> dict[str, Any]:
    """Decide a circuit's quarantine as a person does; returns the quarantine."""
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
