"""A building whose relays were found open, by the API: its alarm, and the reset that it suggests."""

from dormpower.domain.openings import OpeningsPolicy
from tests.opened_circuits import find_open

CIRCUITS = [f"south-01-{number}-{kind}" for number in (101, 102) for kind in ("ac", "lighting")]


def test_the_alarm_says_how_its_building_comes_back(campus):
    with campus.books.write() as connection:
        policy = OpeningsPolicy(circuits=4)
        find_open(connection, CIRCUITS, policy=policy, period_s=30.0, now=campus.clock.now())
    asked = {"building": "01", "state": "active"}
    (alarm,) = campus.ask("maintenance", "GET", "/alarms", params=asked).json()["items"]
    assert (alarm["kind"], alarm["priority"]) == ("building_opened", "high")
    assert (alarm["subject_kind"], alarm["subject_id"], alarm["circuit_id"]) == ("building", "south/01", None)
    assert (alarm["detail"]["standing"], alarm["detail"]["remaining"]) == (4, CIRCUITS)
    assert campus.ask("maintenance", "GET", "/alarms", params={"building": "02"}).json()["items"] == []
    room = campus.get("maintenance", "/rooms/south-01-101").json()
    (held,) = room["circuits"][0]["holds"]
    assert held["detail"]["code"] == "hold.opened_locally_latched"

    done = campus.ask("maintenance", "POST", "/resets", json=alarm["detail"]["reset"])
    assert (done.status_code, done.json()["released"]) == (200, 4)
    assert campus.ask("maintenance", "GET", "/alarms", params=asked).json()["items"] == []
    life = campus.ask("maintenance", "GET", f"/alarms/{alarm['alarm_id']}").json()
    assert [step["step"] for step in life["steps"]] == ["raised", "cleared"]
