"""Server-sent events over a real server on a loopback port."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa
import uvicorn

from api.app import create_app
from api.context import ApiSettings
from api.event_feed import Batch
from api.present import present_of
from dormpower.books import alarms, circuits_view, events, users
from dormpower.books.events import Event
from dormpower.books.residencies import end_residency
from dormpower.books.tables import users as users_table

DEADLINE_S = 15
OWN, OTHER = "south-01-101-ac", "south-01-102-ac"
QUICK = ApiSettings(event_poll_s=0.02, heartbeat_s=0.1, max_streams_a_user=2, max_streams=3)


@contextmanager
def serving(context) -> Iterator[str]:
    """A server on a free port; yields its address."""
    app = create_app(context)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=2)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    deadline = time.monotonic() + DEADLINE_S
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(DEADLINE_S)
        assert not thread.is_alive()


@pytest.fixture
def live(sqlite_books, make_campus):
    campus = make_campus(sqlite_books, QUICK)
    with serving(campus.context) as url:
        campus.url = url
        yield campus


@contextmanager
def listening(campus, who, last_event_id=None):
    """Open a stream; yields an iterator of (id, event, data), heartbeats as (None, "heartbeat", None)."""
    headers = {"Authorization": f"Bearer {campus.tokens[who]}"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = str(last_event_id)
    with httpx.stream("GET", f"{campus.url}/api/v1/events", headers=headers, timeout=DEADLINE_S) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        assert next(lines) == "retry: 3000"
        assert next(lines) == ""
        yield parse(lines)


def parse(lines):
    found = {}
    for line in lines:
        if line == ": heartbeat":
            yield None, "heartbeat", None
        elif line == "":
            if found:
                yield int(found["id"]), found["event"], json.loads(found["data"])
            found = {}
        else:
            name, _, value = line.partition(": ")
            found[name] = value


def next_event(stream):
    return next(one for one in stream if one[1] != "heartbeat")


def change(campus, *circuit_ids):
    with campus.books.write() as connection:
        for circuit_id in circuit_ids:
            events.append(connection, kind="circuit", subject_id=circuit_id, now=campus.clock.now())


def raise_alarm(campus):
    with campus.books.write() as connection:
        return alarms.raise_alarm(
            connection,
            kind="load_off",
            priority="medium",
            subject_kind="circuit",
            subject_id=OWN,
            circuit_id=OWN,
            detail={},
            now=campus.clock.now(),
        )


def test_a_change_arrives_as_the_object_that_the_other_routes_give(live):
    with listening(live, "maintenance") as stream:
        change(live, OWN)
        first_id, kind, circuit = next_event(stream)
        alarm_id = raise_alarm(live)
        second_id, second_kind, alarm = next_event(stream)
    room = live.ask("maintenance", "GET", "/rooms/south-01-101").json()
    assert (kind, circuit) == ("circuit", room["circuits"][1])
    assert (second_kind, alarm["alarm_id"]) == ("alarm", alarm_id)
    assert alarm == live.ask("maintenance", "GET", "/alarms").json()["items"][0]
    assert second_id > first_id


def test_a_resident_gets_the_own_rooms_circuits_and_nothing_else(live):
    with listening(live, "student") as stream:
        change(live, OTHER)
        raise_alarm(live)
        change(live, OWN)
        _, kind, circuit = next_event(stream)
    assert (kind, circuit["circuit_id"]) == ("circuit", OWN)


def test_last_event_id_resumes_with_what_was_missed_and_nothing_twice(live):
    with listening(live, "finance") as stream:
        change(live, OWN)
        seen_id, _, _ = next_event(stream)
    change(live, OTHER, OWN)
    with listening(live, "finance", seen_id) as stream:
        missed = [next_event(stream) for _ in range(2)]
        change(live, OTHER)
        later = next_event(stream)
    ids = [one[0] for one in [*missed, later]]
    assert [one[2]["circuit_id"] for one in [*missed, later]] == [OTHER, OWN, OTHER]
    assert ids == sorted(set(ids))
    assert ids[0] == seen_id + 1


@pytest.mark.parametrize("unknown", ["999999", "no-number", "-4"])
def test_an_id_that_cant_be_resumed_yields_resync(live, unknown):
    change(live, OWN)
    with listening(live, "finance", unknown) as stream:
        event_id, kind, _ = next_event(stream)
    assert kind == "resync"
    with live.books.read() as connection:
        assert event_id == events.latest_id(connection)


def test_an_id_of_dropped_events_yields_resync(live):
    change(live, OWN, OWN, OWN)
    with live.books.write() as connection:
        events.drop_before(connection, live.clock.now() + timedelta(seconds=1))
    with listening(live, "finance", 1) as stream:
        assert next_event(stream)[1] == "resync"


def test_an_idle_stream_has_a_heartbeat(live):
    with listening(live, "student") as stream:
        assert next(stream) == (None, "heartbeat", None)
        assert next(stream) == (None, "heartbeat", None)


class RestlessFeed:
    """A feed where something of another's room is always at hand; ends after so many batches."""

    def __init__(self, campus, batches):
        with campus.books.read() as connection:
            present = present_of(connection, campus.context)
            views = circuits_view.of_circuits(connection, circuit_ids=[OTHER], present=present)
        event = Event(event_id=1, kind="circuit", subject_id=OTHER, happened_at=campus.clock.now())
        self._batch = Batch(events=[event], circuits=views, latest_id=1)
        self._left = batches
        self.ended = False

    async def open(self, *, user_id, last_event_id):
        return self

    async def next(self, timeout_s):
        self.ended = self._left == 0
        self._left -= 1
        return self._batch

    def close(self, stream):
        pass


def test_a_stream_has_its_heartbeat_though_others_rooms_never_rest(sqlite_books, make_campus):
    campus = make_campus(sqlite_books, ApiSettings(heartbeat_s=0.0))
    campus.client.app.state.event_feed = RestlessFeed(campus, batches=2)
    found = campus.ask("student", "GET", "/events").text
    assert found == "retry: 3000\n\n" + 2 * ": heartbeat\n\n"


def ends(stream):
    """Whether the stream ends by itself, whatever heartbeats come before."""
    deadline = time.monotonic() + DEADLINE_S
    for one in stream:
        assert one[1] == "heartbeat"
        assert time.monotonic() < deadline
    return True


def test_the_stream_of_a_disabled_user_ends(live):
    with listening(live, "maintenance") as stream:
        with live.books.write() as connection:
            users.disable_user(connection, username="maintenance", now=live.clock.real_now())
        change(live, OWN)
        assert ends(stream)


def test_a_residency_that_ends_ends_the_view_and_a_role_taken_away_its_alarms(live):
    with listening(live, "student") as own, listening(live, "maintenance") as staff:
        with live.books.write() as connection:
            end_residency(
                connection, user_id=live.user_ids["student"], room_id="south-01-101", at=live.clock.now()
            )
            connection.execute(
                sa.update(users_table).where(users_table.c.username == "maintenance").values(role="finance")
            )
        raise_alarm(live)
        change(live, OWN)
        assert next_event(staff)[1] == "circuit"
        assert next(own) == (None, "heartbeat", None)
        assert next(own) == (None, "heartbeat", None)


def test_streams_are_bounded_by_user_and_in_all(live):
    with listening(live, "student"), listening(live, "student"):
        header = {"Authorization": f"Bearer {live.tokens['student']}"}
        refused = httpx.get(f"{live.url}/api/v1/events", headers=header, timeout=DEADLINE_S)
        assert refused.status_code == 429
        with listening(live, "finance"):
            header = {"Authorization": f"Bearer {live.tokens['admin']}"}
            refused = httpx.get(f"{live.url}/api/v1/events", headers=header, timeout=DEADLINE_S)
            assert refused.status_code == 503
            assert refused.headers["content-type"] == "application/problem+json"


def test_events_want_sign_in(live):
    assert httpx.get(f"{live.url}/api/v1/events", timeout=DEADLINE_S).status_code == 401
