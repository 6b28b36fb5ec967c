"""A reset over a part of the site."""

import pytest
import sqlalchemy as sa

from dormpower.books import holds, scoped_holds
from dormpower.books.tables import audit_log
from dormpower.domain.holds import Reason
from dormpower.domain.scopes import Scope

FLOOR = {"campus": "south", "building": "01", "floor": "1"}


def place(campus, circuit_id, reason, *, shadow=False):
    with campus.books.write() as connection:
        holds.place(
            connection,
            circuit_id=circuit_id,
            reason=reason,
            placed_by="rule:test",
            evidence={},
            shadow=shadow,
            now=campus.clock.now(),
        )


def standing(campus, *, shadow=False):
    with campus.books.read() as connection:
        return {
            (hold.circuit_id, hold.reason)
            for found in holds.standing(connection).values()
            for hold in found
            if hold.shadow is shadow
        }


def test_a_reset_of_a_floor_releases_its_trips_and_nothing_else(campus, monkeypatch):
    monkeypatch.setattr("dormpower.books.scoped_resets.AT_ONCE", 2)
    for number in (101, 102):
        for kind in ("lighting", "ac"):
            place(campus, f"south-01-{number}-{kind}", Reason.OPENED_LOCALLY)
    place(campus, "south-01-101-ac", Reason.OVERLOAD)
    place(campus, "south-01-101-ac", Reason.ARREARS)
    place(campus, "south-01-102-ac", Reason.SHED)
    place(campus, "south-01-102-ac", Reason.PROHIBITED, shadow=True)
    place(campus, "south-01-203-ac", Reason.OPENED_LOCALLY)
    scoped_holds.place(
        books=campus.books,
        reason=Reason.LOCKOUT,
        scope=Scope(room_id="south-01-102"),
        holder="wang",
        note="riser",
        placed_by="wang",
        now=campus.clock.now(),
    )
    answer = campus.ask("maintenance", "POST", "/resets", json={"scope": FLOOR})
    assert answer.status_code == 200
    assert (answer.json()["circuits"], answer.json()["released"]) == (4, 5)
    assert standing(campus) == {
        ("south-01-101-ac", Reason.ARREARS),
        ("south-01-102-ac", Reason.SHED),
        ("south-01-102-ac", Reason.LOCKOUT),
        ("south-01-102-lighting", Reason.LOCKOUT),
        ("south-01-203-ac", Reason.OPENED_LOCALLY),
    }
    assert standing(campus, shadow=True) == {("south-01-102-ac", Reason.PROHIBITED)}
    again = campus.ask("maintenance", "POST", "/resets", json={"scope": FLOOR}).json()
    assert (again["circuits"], again["released"]) == (0, 0)
    with campus.books.read() as connection:
        actions = list(connection.scalars(sa.select(audit_log.c.action)))
    assert actions.count("scope.reset") == 2
    assert actions.count("circuit.reset") == 4


@pytest.mark.parametrize("scope", [{}, {"kind": "ac"}, {"campus": "south", "floor": "1"}, {"room_id": "none"}])
def test_a_scope_that_names_too_little_is_refused(campus, scope):
    assert campus.ask("maintenance", "POST", "/resets", json={"scope": scope}).status_code == 422
