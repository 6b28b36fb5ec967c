"""Books that are busy or out of reach: an answer that says to ask again, and nothing half done."""

import threading
import time

import pytest
import sqlalchemy as sa

from dormpower.books import database, holds, states
from dormpower.domain.holds import Reason

CIRCUITS = [f"south-01-{number}-{kind}" for number in (101, 102) for kind in ("ac", "lighting")]
FLOOR = {"campus": "south", "building": "01", "floor": "1"}
PLACE = ("maintenance", "POST", f"/circuits/{CIRCUITS[0]}/lockouts")


def wait_for_waiters(campus, count: int) -> None:
    """Wait until so many transactions wait for others' locks."""
    deadline = time.monotonic() + 30
    waiting = sa.text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    while True:
        with campus.books.read() as connection:
            if connection.scalar(waiting) == count:
                return
        assert time.monotonic() < deadline, f"not {count} wait"


def is_unavailable(answer) -> bool:
    document = answer.json()
    return (answer.status_code, document["type"].rpartition(":")[2], answer.headers["retry-after"]) == (
        503,
        "unavailable",
        "1",
    )


def test_a_writer_whose_turn_never_comes_is_told_to_ask_again(sqlite_campus, monkeypatch):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.05)
    with sqlite_campus.books.write():
        answer = sqlite_campus.ask(*PLACE, json={"reason": "work"})
    assert is_unavailable(answer)
    assert sqlite_campus.ask(*PLACE, json={"reason": "work"}).status_code == 202


def test_a_fault_that_does_not_pass_is_none_of_these(sqlite_campus):
    with sqlite_campus.books.write() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON holds BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    assert sqlite_campus.ask(*PLACE, json={"reason": "work"}).status_code == 500


@pytest.mark.needs("postgres", "initdb")
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_reset_that_gives_way_to_another_transaction_does_nothing_and_may_be_sent_again(campus):
    """Two that lock circuits in another order: the reset is the last one to wait, so PostgreSQL ends it."""
    with campus.books.write() as connection:
        for circuit_id in CIRCUITS:
            holds.place(
                connection,
                circuit_id=circuit_id,
                reason=Reason.OPENED_LOCALLY,
                placed_by="rule:trips",
                evidence={},
                now=campus.clock.now(),
            )
    began, go_on = threading.Event(), threading.Event()
    answers = []

    def another() -> None:
        with campus.books.write() as connection:
            connection.exec_driver_sql("SET LOCAL deadlock_timeout = '1h'")
            states.lock(connection, CIRCUITS[2])
            began.set()
            assert go_on.wait(30)
            states.lock(connection, CIRCUITS[0])

    def reset() -> None:
        answers.append(campus.ask("maintenance", "POST", "/resets", json={"scope": FLOOR}))

    threads = [threading.Thread(target=another), threading.Thread(target=reset)]
    with campus.books.write() as connection:
        states.lock(connection, CIRCUITS[1])
        threads[0].start()
        assert began.wait(30)
        threads[1].start()
        wait_for_waiters(campus, 1)
        go_on.set()
        wait_for_waiters(campus, 2)
    for thread in threads:
        thread.join(60)
    assert is_unavailable(answers[0])
    with campus.books.read() as connection:
        assert sorted(holds.standing(connection)) == CIRCUITS
    again = campus.ask("maintenance", "POST", "/resets", json={"scope": FLOOR})
    assert (again.status_code, again.json()["released"]) == (200, 4)
