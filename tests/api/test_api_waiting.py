"""What a switch waits for, as the API tells it."""

from datetime import datetime, timedelta

import pytest

from dormpower.books import control, holds
from dormpower.domain.holds import Reason
from dormpower.domain.reconcile import Control, Waiting, WaitsFor

CIRCUIT = "south-01-101-lighting"


def wait(
    campus, waiting: Waiting | None, *, state: Control = Control.WAITING, until_at: datetime | None = None
):
    with campus.books.write() as connection:
        control.save_wait(
            connection,
            circuit_id=CIRCUIT,
            control=state,
            expected_change_at=until_at,
            waiting=waiting,
            now=campus.clock.now(),
        )


def circuit(campus, who="student", language="zh"):
    headers = {"Accept-Language": language}
    return campus.ask(who, "GET", "/rooms/south-01-101", headers=headers).json()["circuits"][0]


def test_a_resident_is_told_the_feeder_that_has_no_room_and_when_the_turn_comes(campus):
    until_at = campus.clock.now() + timedelta(minutes=10)
    wait(campus, Waiting(why=WaitsFor.FEEDER_ROOM, feeder_id="south-01-1"), until_at=until_at)
    found = circuit(campus)
    assert found["control"] == "waiting"
    assert datetime.fromisoformat(found["expected_change_at"]) == until_at
    assert found["waiting"] == {
        "code": "waiting.feeder_room",
        "params": {"feeder_id": "south-01-1"},
        "text": "供电线路 south-01-1 暂无余量；有余量或轮到时开关自动闭合。",
    }
    english = circuit(campus, language="en")["waiting"]["text"]
    assert english.startswith("Feeder south-01-1 has no room at present; the switch closes by itself")


def test_other_waits_are_told_too_and_what_another_version_wrote_is_not(campus):
    wait(campus, Waiting(why=WaitsFor.MINIMUM_OFF))
    assert circuit(campus)["waiting"]["code"] == "waiting.minimum_off"
    with campus.books.write() as connection:
        control.save(connection, circuit_id=CIRCUIT, now=campus.clock.now(), waits_for="the moon")
    assert circuit(campus)["waiting"] is None


@pytest.mark.parametrize("state", [Control.PENDING, Control.SETTLED, Control.FAILED])
def test_while_it_does_not_wait_nothing_is_told(campus, state):
    wait(campus, Waiting(why=WaitsFor.SPREAD), state=state)
    assert circuit(campus)["waiting"] is None


def test_a_shed_circuit_names_its_feeder(campus):
    with campus.books.write() as connection:
        holds.place(
            connection,
            circuit_id=CIRCUIT,
            reason=Reason.SHED,
            placed_by="rule:shedding",
            evidence={"feeder_id": "south-01-1"},
            expected_release_at=campus.clock.now() + timedelta(minutes=15),
            now=campus.clock.now(),
        )
    (hold,) = circuit(campus, language="en")["holds"]
    assert hold["detail"]["params"] == {"feeder_id": "south-01-1"}
    assert hold["detail"]["text"].startswith("Feeder south-01-1 is over its limit")
    assert hold["expected_release_at"] is not None
