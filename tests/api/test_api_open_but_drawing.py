"""A relay that is reported open while current flows is never shown as plainly off (invariant 16)."""

from dormpower.books import alarms, holds
from dormpower.domain.alarms import PRIORITIES, AlarmKind

ROOM = "south-01-101"
CIRCUIT = f"{ROOM}-ac"


def shown(campus, who):
    circuits = campus.get(who, f"/rooms/{ROOM}").json()["circuits"]
    return {one["circuit_id"]: (one["relay"], one["open_but_drawing"], one["control"]) for one in circuits}


def test_an_open_relay_through_which_current_flows_is_told_apart_from_one_that_is_off(campus):
    for kind in ("ac", "lighting"):
        campus.seen(f"{ROOM}-{kind}", relay="open")
    subject = {"subject_kind": "circuit", "subject_id": CIRCUIT, "now": campus.clock.now()}
    with campus.books.write() as connection:
        for kind in ("ac", "lighting"):
            holds.place_lockout(
                connection,
                circuit_id=f"{ROOM}-{kind}",
                holder="wang",
                reason="work",
                now=campus.clock.now(),
            )
        kind = AlarmKind.OPEN_BUT_DRAWING
        alarms.raise_alarm(connection, kind=kind, priority=PRIORITIES[kind], detail={}, **subject)
    off = ("open", False, "settled")
    for who in ("student", "maintenance"):
        assert shown(campus, who) == {CIRCUIT: ("open", True, "failed"), f"{ROOM}-lighting": off}
    with campus.books.write() as connection:
        alarms.clear_alarm(connection, kind=AlarmKind.OPEN_BUT_DRAWING, **subject)
    assert shown(campus, "student") == {CIRCUIT: off, f"{ROOM}-lighting": off}
