"""The timeline of a circuit: holds, states and commands, told in both languages, page by page."""

from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dormpower.books import commands, holds, timeline
from dormpower.books.tables import residencies
from dormpower.domain.holds import Reason
from dormpower.domain.samples import Relay

OWN = "south-01-101"
CIRCUIT = f"{OWN}-ac"
PATH = f"/circuits/{CIRCUIT}/timeline"


def place(campus, reason, *, shadow=False, evidence=None):
    with campus.books.write() as connection:
        return holds.place(
            connection,
            circuit_id=CIRCUIT,
            reason=Reason(reason),
            placed_by=f"rule:{reason}",
            shadow=shadow,
            evidence=evidence or {},
            now=campus.clock.now(),
        )


def release(campus, hold_id, reason, evidence):
    with campus.books.write() as connection:
        holds.release(
            connection,
            hold_id=hold_id,
            released_by=f"rule:{reason}",
            evidence=evidence,
            now=campus.clock.now(),
        )


def send(campus, relay, *, hold_ids=(), reason="overload", outcome="confirmed", attempt=1):
    now = campus.clock.now()
    with campus.books.write() as connection:
        command_id = commands.record(
            connection,
            circuit_id=CIRCUIT,
            module_id="m-1",
            channel=1,
            relay=relay,
            cause={"holds": [{"hold_id": one, "reason": reason} for one in hold_ids]},
            attempt=attempt,
            now=now,
            expires_at=campus.clock.real_now() + timedelta(seconds=10),
        )
        commands.finish(connection, command_id=command_id, outcome=outcome, read_back=relay, now=now)
    return command_id


def told(campus, who="student", language="en", **query):
    answer = campus.ask(who, "GET", PATH, params=query, headers={"Accept-Language": language})
    assert answer.status_code == 200
    return answer.json()


def test_a_trip_is_told_from_its_evidence_to_the_read_back_of_its_end(campus):
    campus.seen(CIRCUIT)
    evidence = {"limit_w": 2000, "samples": [[campus.clock.now().isoformat(), 2500.0]]}
    hold_id = place(campus, "overload", evidence=evidence)
    campus.clock.advance(1)
    opened = send(campus, Relay.OPEN, hold_ids=[hold_id], attempt=2)
    campus.clock.advance(300)
    release(campus, hold_id, "overload", {"cause": "self_restore_delay_over"})
    campus.clock.advance(1)
    send(campus, Relay.CLOSED)
    items = told(campus)["items"]
    assert [(one["type"], one["detail"]["text"]) for one in items] == [
        (
            "command",
            "Nothing holds it off any more: command to close the switch, try 1: read back and confirmed.",
        ),
        ("state", "Supply state is now: No contact with the meter (end of overload)."),
        ("hold", "No longer held off: overload (its delay was over)."),
        ("command", "Command to open the switch (overload), try 2: read back and confirmed."),
        ("state", "Supply state is now: Load off (overload)."),
        ("hold", "Held off: overload."),
    ]
    placed, sent = items[-1], items[3]
    assert (placed["step"], placed["hold_id"], placed["reason"]) == ("placed", hold_id, "overload")
    assert (placed["cause"], placed["actor"]) == ("hold.overload.placed", "rule:overload")
    assert "up to 2500 W" in placed["evidence"]["text"]
    assert (sent["command_id"], sent["reasons"], sent["attempt"]) == (opened, ["overload"], 2)
    assert (sent["outcome"], sent["read_back_relay"]) == ("confirmed", "open")
    assert sent["read_back_at"] == sent["finished_at"] == "2026-05-20T04:00:01Z"
    chinese = told(campus, language="zh")["items"]
    assert chinese[-1]["detail"]["text"] == "断电原因产生：功率超限。"
    assert all(one["detail"]["text"] != two["detail"]["text"] for one, two in zip(items, chinese, strict=True))


def test_a_hold_that_changes_no_state_is_told_and_one_in_shadow_is_not(campus):
    place(campus, "overload")
    campus.clock.advance(1)
    place(campus, "shed")
    place(campus, "arrears", shadow=True)
    found = [(one["type"], one["reason"]) for one in told(campus)["items"]]
    assert found == [("hold", "shed"), ("state", None), ("hold", "overload")]


def test_a_lock_out_is_told_with_who_placed_it_and_why(sqlite_campus):
    campus = sqlite_campus
    lockout = campus.ask(
        "maintenance", "POST", f"/circuits/{CIRCUIT}/lockouts", json={"reason": "wiring"}
    ).json()
    campus.clock.advance(1)
    campus.ask("maintenance", "DELETE", f"/lockouts/{lockout['lockout_id']}")
    texts = [one["detail"]["text"] for one in told(campus)["items"] if one["type"] == "hold"]
    assert texts == [
        "No longer held off: lock-out (removed by staff).",
        "Held off: lock-out, by maintenance. wiring",
    ]


def test_the_time_before_the_residency_is_not_told(campus):
    hold_id = place(campus, "overload", evidence={"samples": [[campus.clock.now().isoformat(), 2500.0]]})
    send(campus, Relay.OPEN, hold_ids=[hold_id])
    campus.clock.advance(60)
    with campus.books.write() as connection:
        connection.execute(sa.update(residencies).values(from_at=campus.clock.now()))
    campus.clock.advance(60)
    release(campus, hold_id, "overload", {})
    own = told(campus)["items"]
    assert [(one["type"], one["step"]) for one in own] == [("state", None), ("hold", "released")]
    assert "2500" not in str(own)
    assert len(told(campus, who="maintenance")["items"]) == 5


@pytest.mark.parametrize("cursor", ["x", "1.2", "1.9.x", "1.2.x", "99999999999999999.1.x", "1..", "-1.1.x"])
def test_a_cursor_that_no_page_gave_out_is_refused(sqlite_campus, cursor):
    assert sqlite_campus.ask("student", "GET", PATH, params={"cursor": cursor}).status_code == 422


STEPS = st.lists(st.sampled_from(["wait", "hold", "release", "command", "shadow"]), min_size=1, max_size=7)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, limit=st.integers(1, 4))
def test_pages_follow_each_other_without_gap_or_repeat_though_much_has_the_same_instant(
    sqlite_campus, steps, limit
):
    campus = sqlite_campus
    standing = []
    for step in steps:
        match step:
            case "wait":
                campus.clock.advance(1)
            case "hold":
                standing.append(place(campus, Reason.SHED if standing else Reason.OVERLOAD))
            case "release" if standing:
                hold_id = standing.pop()
                with campus.books.write() as connection:
                    (hold,) = [
                        one for one in holds.standing(connection)[CIRCUIT] if one.hold_id == hold_id
                    ] or [None]
                    if hold is not None:
                        holds.release(
                            connection,
                            hold_id=hold_id,
                            released_by=hold.placed_by,
                            evidence={},
                            now=campus.clock.now(),
                        )
            case "command":
                send(campus, Relay.OPEN)
            case "shadow":
                place(campus, Reason.CURFEW, shadow=True)
    with campus.books.read() as connection:
        whole, none = timeline.page(connection, circuit_id=CIRCUIT, spans=None, limit=timeline.MAX_LISTED)
        assert none is None
        found, cursor = [], None
        while True:
            some, cursor = timeline.page(connection, circuit_id=CIRCUIT, spans=None, limit=limit, cursor=cursor)
            found += some
            if cursor is None:
                break
            assert len(some) == limit
    assert found == whole
    assert [one.at for one in whole] == sorted((one.at for one in whole), reverse=True)
