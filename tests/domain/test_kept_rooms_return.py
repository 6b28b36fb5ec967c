"""A room that comes onto the keep-supply list while it is shed comes back as soon as its feeder bears it."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from dormpower.domain.feeder_facts import Facts, FeederFacts, Load, Plan, SheddingPolicy, ShedState, Turn
from dormpower.domain.holds import Enforcement
from dormpower.domain.samples import Relay
from dormpower.domain.shedding import plan

START = datetime(2026, 7, 20, 12, 0, tzinfo=UTC)
SHED_AT = START - timedelta(seconds=400)
POLICY = SheddingPolicy(mode=Enforcement.ENFORCE, rotate_after_s=800)
STATE = ShedState(
    turns={name: Turn(turns=1, drew_w=1000, shed_at=SHED_AT, feeder_id="b", pickup=1.0) for name in ("k", "l")},
    period_on=date(2026, 7, 20),
)
NO_ROOM_W, LIMIT_W = 9_800, 10_000


def load(name: str, **more: Any) -> Load:
    values = {"circuit_id": name, "room_id": f"r-{name}", "feeder_id": "b", "kind": "ac", "power_at": START}
    return Load(**{**values, "power_w": 1000, "relay": Relay.CLOSED, **more})


def shed(name: str, **more: Any) -> Load:
    off = {"power_w": 0, "relay": Relay.OPEN, "opened_at": SHED_AT, "shed_at": SHED_AT, "min_off_s": 300}
    return load(name, **{**off, **more})


def decide(power_w: int, *loads: Load, policy: SheddingPolicy = POLICY) -> Plan:
    feeder = FeederFacts(
        feeder_id="b", parent=None, limit_w=LIMIT_W, metered=True, power_w=power_w, power_at=START
    )
    return plan(Facts(feeders=(feeder,), loads=loads, today=date(2026, 7, 20)), STATE, policy, now=START)


def test_with_room_it_returns_at_once() -> None:
    made = decide(4_000, shed("k", exempt=True), shed("l"))
    assert [one.circuit_id for one in made.restores] == ["k"]  # the other waits for sustained room
    assert decide(4_000, shed("k"), shed("l")).restores == ()


def test_it_returns_ahead_of_others_whose_turn_is_over() -> None:
    one_at_once = replace(POLICY, rotate_after_s=350, restores_at_once=1)
    for kept, first in (({}, "k"), ({"exempt": True}, "l")):
        made = decide(4_000, shed("k"), shed("l", **kept), policy=one_at_once)
        assert [one.circuit_id for one in made.restores] == [first]


def test_without_room_others_are_shed_for_it_and_the_limit_is_kept() -> None:
    others = [load(f"c{number}") for number in range(9)]
    made = decide(NO_ROOM_W, shed("k", exempt=True), shed("l"), *others)
    assert made.restores == ()
    assert {one.for_circuit_id for one in made.sheds} == {"k"}
    assert decide(NO_ROOM_W, shed("k"), shed("l"), *others).sheds == ()


def test_its_minimum_off_time_is_kept() -> None:
    made = decide(4_000, shed("k", exempt=True, min_off_s=500))
    assert made.restores == ()
