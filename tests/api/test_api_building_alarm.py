"""A building whose relays were found open, by the API: its alarm, and the reset that it suggests."""

from dormpower.books import holds, openings
from dormpower.domain.holds import Reason
from dormpower.domain.openings import OpeningsPolicy

CIRCUITS = [f"south-01-{number}-{kind}" for number in (101, 102) for kind in ("ac", "lighting")]


def test_the_alarm_says_how_its_building_comes_back(campus):
    with campus.books.write() as connection:
        for circuit_id in CIRCUITS:
            holds.place(
                connection,
                circuit_id=circuit_id,
                reason=Reason.OPENED_LOCALLY,
                placed_by="rule:trips",
                evidence={"sampling_period_s": 30.0},
                alarmed=False,
                now=campus.clock.now(),
            )
        found = [hold for one in holds.standing(connection).values() for hold in one]
        openings.tell(connection, found, policy=OpeningsPolicy(circuits=4), now=campus.clock.now())
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
