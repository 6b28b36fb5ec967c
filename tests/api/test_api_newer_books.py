"""Books that a newer version wrote: what this one does not know is told by its bare code, never refused."""

import pytest
import sqlalchemy as sa

from dormpower.books import commands, holds
from dormpower.books.tables import alarms as alarm_rows
from dormpower.books.tables import control_points, state_changes, users
from dormpower.books.tables import holds as hold_rows
from dormpower.domain.holds import Reason
from dormpower.domain.samples import Relay

OWN = "south-01-101"
CIRCUIT = f"{OWN}-ac"


@pytest.fixture
def newer(campus):
    """A campus whose books name a reason, a state, an outcome and a kind of alarm from another version."""
    campus.seen(CIRCUIT)
    now = campus.clock.now()
    with campus.books.write() as connection:
        placed = {"circuit_id": CIRCUIT, "placed_by": "rule:quake", "evidence": {"of": "others"}, "now": now}
        ended = holds.place(connection, reason=Reason.SHED, **placed)
        holds.release(connection, hold_id=ended, released_by="rule:quake", evidence={"cause": "calm"}, now=now)
        holds.place(connection, reason=Reason.OVERLOAD, **placed)
        holds.place(connection, reason=Reason.OVERLOAD, shadow=True, **placed)
        connection.execute(sa.update(hold_rows).values(reason="quake"))
        connection.execute(
            sa.insert(state_changes).values(
                circuit_id=CIRCUIT,
                changed_at=now,
                from_state="calm",
                to_state="shaken",
                relay="closed",
                cause="hold.quake.placed",
                actor="rule:quake",
                evidence={},
            )
        )
        connection.execute(sa.update(control_points).values(state="shaken"))
        command_id = commands.record(
            connection,
            circuit_id=CIRCUIT,
            module_id="m-1",
            channel=1,
            relay=Relay.OPEN,
            cause={"holds": [{"hold_id": ended, "reason": "quake"}]},
            attempt=1,
            now=now,
            expires_at=now,
        )
        commands.finish(connection, command_id=command_id, outcome="cracked", read_back=Relay.OPEN, now=now)
        connection.execute(sa.update(alarm_rows).values(kind="ground_moves"))
    return campus


def read(campus, who, path, language="en", **query):
    answer = campus.ask(who, "GET", path, params=query, headers={"Accept-Language": language})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("who", ["student", "maintenance"])
def test_the_timeline_tells_what_it_does_not_know_by_its_code(newer, who, language):
    items = read(newer, who, f"/circuits/{CIRCUIT}/timeline", language)["items"]
    assert {one["type"] for one in items} == {"hold", "state", "command"}
    assert all("quake" in one["detail"]["text"] for one in items if one["type"] != "state")
    changed = next(one for one in items if one["from_state"] == "calm")
    assert "shaken" in changed["detail"]["text"]
    placed = next(one for one in items if one["step"] == "placed")
    assert (placed["reason"], placed["release"], placed["evidence"]) == ("quake", "maintenance", None)
    sent = next(one for one in items if one["type"] == "command")
    assert (sent["reasons"], sent["outcome"]) == (["quake"], "cracked")


@pytest.mark.parametrize("who", ["student", "maintenance"])
def test_a_circuit_held_for_an_unknown_reason_is_off_and_says_so(newer, who):
    circuit = next(one for one in read(newer, who, f"/rooms/{OWN}")["circuits"] if one["circuit_id"] == CIRCUIT)
    assert (circuit["state"], circuit["control"]) == ("load_off", "pending")
    (hold,) = circuit["holds"]
    assert (hold["reason"], hold["release"], hold["evidence"]) == ("quake", "maintenance", None)
    assert hold["detail"]["code"] == "hold.unknown"
    assert "quake" in hold["detail"]["text"]


def test_rooms_are_found_by_the_state_that_they_show(newer):
    found = {
        state: [one["room_id"] for one in read(newer, "maintenance", "/rooms", state=state)["items"]]
        for state in ("load_off", "locked_out", "arrears", "scheduled_off")
    }
    assert found == {"load_off": [OWN], "locked_out": [], "arrears": [], "scheduled_off": []}


def test_alarms_and_reports_are_listed_with_their_codes(newer):
    kinds = {one["kind"] for one in read(newer, "maintenance", "/alarms")["items"]}
    assert "ground_moves" in kinds
    today = newer.clock.now().astimezone(newer.context.zone).date().isoformat()
    (shadow,) = read(newer, "maintenance", "/reports/shadow", **{"from": today, "to": today})["items"]
    assert (shadow["reason"], shadow["evidence"]) == ("quake", None)


def test_who_has_a_role_that_this_version_does_not_know_has_no_rights(campus):
    with campus.books.write() as connection:
        connection.execute(
            sa.update(users).where(users.c.user_id == campus.user_ids["student"]).values(role="warden")
        )
    assert campus.get("student", f"/rooms/{OWN}").status_code == 401
    assert campus.get("maintenance", f"/rooms/{OWN}").status_code == 200
