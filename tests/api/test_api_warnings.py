"""Warnings on the room's status: which were given, what they say, and when a cut could come."""

from datetime import timedelta

from dormpower.books import control
from dormpower.books.residencies import begin_residency, end_residency
from dormpower.domain.arrears import Warnings
from dormpower.domain.holds import Enforcement
from tests.api.conftest import OWN

LIGHTING = f"{OWN}-lighting"


def warn(campus, **given):
    with campus.books.write() as connection:
        control.save_warnings(
            connection, circuit_id=LIGHTING, warnings=Warnings(**given), now=campus.clock.now()
        )


def shown(campus, who="student"):
    answer = campus.ask(who, "GET", f"/rooms/{OWN}", headers={"Accept-Language": "en"})
    return answer.json()["circuits"][0]


def test_the_warnings_that_were_given_are_shown_with_the_earliest_instant_of_a_cut(campus):
    now = campus.clock.now()
    warn(campus, first_at=now - timedelta(hours=1))
    circuit = shown(campus)
    assert [(one["number"], one["warned_at"]) for one in circuit["warnings"]] == [(1, "2026-05-20T03:00:00Z")]
    assert circuit["cut_not_before_at"] is None
    warn(campus, first_at=now - timedelta(hours=1), second_at=now)
    circuit = shown(campus)
    assert [one["number"] for one in circuit["warnings"]] == [1, 2]
    assert circuit["cut_not_before_at"] == "2026-05-20T16:00:00Z"  # twelve hours of lead
    assert "2026-05-21 00:00" in circuit["warnings"][1]["detail"]["text"]  # in the site's time


def test_a_warning_in_shadow_told_nobody(campus):
    now = campus.clock.now()
    warn(campus, first_at=now, second_at=now, mode=Enforcement.SHADOW)
    circuit = shown(campus)
    assert (circuit["warnings"], circuit["cut_not_before_at"]) == ([], None)


def test_a_warning_from_before_the_residency_is_another_s_but_a_cut_ahead_is_told(campus):
    now = campus.clock.now()
    warn(campus, first_at=now - timedelta(days=2), second_at=now - timedelta(hours=2))
    with campus.books.write() as connection:
        user_id = campus.user_ids["student"]
        end_residency(connection, user_id=user_id, room_id=OWN, at=now - timedelta(days=3))
        begin_residency(connection, user_id=user_id, room_id=OWN, from_at=now - timedelta(days=1))
    assert [one["number"] for one in shown(campus)["warnings"]] == [2]
    assert shown(campus)["cut_not_before_at"] == "2026-05-20T14:00:00Z"
    assert [one["number"] for one in shown(campus, "maintenance")["warnings"]] == [1, 2]
