"""A resident sees the time of the own residency only, everywhere (invariant 34)."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import holds
from dormpower.books.tables import ledger_accounts, residencies, settled_days, state_changes
from dormpower.domain.holds import Reason
from dormpower.readings.port import Reading

CIRCUIT = "south-01-101-ac"


@pytest.fixture
def newcomer(campus):
    """The student moved in at noon two days ago."""
    campus.moved_in_at = campus.clock.now() - timedelta(days=2)
    with campus.books.write() as connection:
        connection.execute(sa.update(residencies).values(from_at=campus.moved_in_at))
    return campus


def test_readings_begin_with_the_residency(newcomer):
    moved_in_at = newcomer.moved_in_at
    newcomer.readings.append(
        [
            Reading(circuit_id=CIRCUIT, at=moved_in_at + timedelta(hours=hours), register_wh=1000 + hours)
            for hours in (-2, -1, 0, 1)
        ]
    )
    span = {
        "start": (moved_in_at - timedelta(days=1)).isoformat(),
        "end": (moved_in_at + timedelta(days=1)).isoformat(),
    }
    for extra in ({}, {"every": 60}):
        own = newcomer.ask("student", "GET", f"/circuits/{CIRCUIT}/readings", params=span | extra).json()
        assert [one["register_wh"] for one in own["items"]] == [1000, 1001]
        staff = newcomer.ask("finance", "GET", f"/circuits/{CIRCUIT}/readings", params=span | extra).json()
        assert [one["register_wh"] for one in staff["items"]] == [998, 999, 1000, 1001]


def test_usage_shows_the_days_that_lie_wholly_within_the_residency(newcomer):
    today = newcomer.clock.now().date()
    with newcomer.books.write() as connection:
        connection.execute(
            settled_days.insert(),
            [
                {
                    "circuit_id": CIRCUIT,
                    "used_on": today - timedelta(days=ago),
                    "account_id": f"acc-{CIRCUIT}",
                    "energy_wh": 1000 * ago,
                    "estimated": False,
                    "settled_at": newcomer.clock.now(),
                }
                for ago in (1, 2, 3)
            ],
        )
    query = {"from": str(today - timedelta(days=3)), "to": str(today)}
    own = newcomer.ask("student", "GET", f"/circuits/{CIRCUIT}/usage/daily", params=query).json()
    assert [one["energy_wh"] for one in own["items"]] == [None, None, 1000, None]
    assert [one["quality"] for one in own["items"]][:3] == ["open", "open", "measured"]
    assert own["total_wh"] == 1000
    staff = newcomer.ask("finance", "GET", f"/circuits/{CIRCUIT}/usage/daily", params=query).json()
    assert [one["energy_wh"] for one in staff["items"]] == [3000, 2000, 1000, None]
    assert staff["total_wh"] == 6000
    assert [one["on"] for one in staff["items"]] == [str(today - timedelta(days=ago)) for ago in (3, 2, 1, 0)]


def test_a_day_before_the_residency_looks_like_one_that_nobody_knows(newcomer):
    today = newcomer.clock.now().date()
    before, unknown = str(today - timedelta(days=4)), str(today - timedelta(days=300))
    with newcomer.books.write() as connection:
        connection.execute(
            settled_days.insert().values(
                circuit_id=CIRCUIT,
                used_on=today - timedelta(days=4),
                account_id=f"acc-{CIRCUIT}",
                energy_wh=4000,
                estimated=False,
                settled_at=newcomer.clock.now(),
            )
        )

    def day(who, on):
        query = {"from": on, "to": on}
        (item,) = newcomer.ask(who, "GET", f"/circuits/{CIRCUIT}/usage/daily", params=query).json()["items"]
        return {key: value for key, value in item.items() if key != "on"}

    assert day("student", before) == day("finance", unknown)
    assert day("finance", before)["energy_wh"] == 4000


def test_the_timeline_begins_with_the_residency(newcomer):
    with newcomer.books.write() as connection:
        connection.execute(
            state_changes.insert(),
            [
                {
                    "circuit_id": CIRCUIT,
                    "changed_at": newcomer.moved_in_at + timedelta(hours=hours),
                    "from_state": "normal",
                    "to_state": "arrears",
                    "cause": f"after {hours} h",
                    "actor": "rule:arrears",
                    "evidence": {},
                }
                for hours in (-1, 0, 1)
            ],
        )
    own = newcomer.ask("student", "GET", f"/circuits/{CIRCUIT}/timeline").json()["items"]
    assert [one["cause"] for one in own] == ["after 1 h", "after 0 h"]
    assert len(newcomer.ask("admin", "GET", f"/circuits/{CIRCUIT}/timeline").json()["items"]) == 3


def shown(campus, who):
    answer = campus.ask(who, "GET", "/rooms/south-01-101", headers={"Accept-Language": "en"})
    return next(one for one in answer.json()["circuits"] if one["circuit_id"] == CIRCUIT)


def test_warnings_to_those_who_lived_there_before_are_in_no_evidence(newcomer):
    moved_in_at, now = newcomer.moved_in_at, newcomer.clock.now()
    first_at, second_at = moved_in_at - timedelta(hours=1), moved_in_at + timedelta(hours=1)
    with newcomer.books.write() as connection:
        holds.place(
            connection,
            circuit_id=CIRCUIT,
            reason=Reason.ARREARS,
            placed_by="rule:arrears",
            evidence={
                "available_wh": 0,
                "floor_wh": 0,
                "first_warning_at": first_at.isoformat(),
                "second_warning_at": second_at.isoformat(),
                "sampled_at": now.isoformat(),
            },
            now=now,
        )
    timeline = newcomer.ask("student", "GET", f"/circuits/{CIRCUIT}/timeline").json()["items"]
    told = [shown(newcomer, "student")["holds"][0]["evidence"], timeline[-1]["evidence"]]
    for evidence in told:
        assert evidence["params"]["first_warning_at"] is None
        assert evidence["params"]["second_warning_at"] == second_at.isoformat()
        assert evidence["params"]["sampled_at"] == now.isoformat()
    assert "warned at ? and 2026-05-18 13:00" in told[0]["text"]
    staff = shown(newcomer, "finance")["holds"][0]["evidence"]
    assert staff["params"]["first_warning_at"] == first_at.isoformat()


@pytest.mark.parametrize(("days_ago", "power_w"), [(3, None), (1, 12.5)])
def test_the_last_power_of_those_who_lived_there_before_is_not_shown(newcomer, days_ago, power_w):
    newcomer.seen(CIRCUIT, at=newcomer.clock.now() - timedelta(days=days_ago))
    assert shown(newcomer, "student")["power_w"] == power_w
    assert shown(newcomer, "maintenance")["power_w"] == 12.5


def test_days_left_go_by_the_own_days_alone(newcomer):
    today = newcomer.clock.now().date()
    with newcomer.books.write() as connection:
        connection.execute(
            sa.update(ledger_accounts)
            .where(ledger_accounts.c.ledger_account_id == f"wh:account:acc-{CIRCUIT}")
            .values(balance=12_000)
        )
        for ago, energy_wh in ((1, 1_000), (2, 5_000), (3, 9_000)):
            connection.execute(
                settled_days.insert().values(
                    circuit_id=CIRCUIT,
                    used_on=today - timedelta(days=ago),
                    account_id=f"acc-{CIRCUIT}",
                    energy_wh=energy_wh,
                    estimated=False,
                    settled_at=newcomer.clock.now(),
                )
            )
    assert shown(newcomer, "finance")["days_left"] == 2
    assert shown(newcomer, "student")["days_left"] == 12
