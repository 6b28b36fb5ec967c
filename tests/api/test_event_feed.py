"""The feed's own rules: gaps in the ids, and clients that don't keep up."""

from datetime import UTC, datetime

import pytest

from api import event_feed
from api.event_feed import Batch, EventFeed, Stream
from dormpower.books.events import Event

NOW = datetime(2026, 5, 20, tzinfo=UTC)


def event(event_id):
    return Event(event_id=event_id, kind="circuit", subject_id="c", happened_at=NOW)


@pytest.fixture
def feed(monkeypatch):
    feed = EventFeed(books=None, present=None, poll_s=1, max_streams=1, max_streams_a_user=1)
    clock = {"now": 0.0}
    monkeypatch.setattr(event_feed.time, "monotonic", lambda: clock["now"])
    return feed, clock


def test_a_gap_is_waited_for_and_then_taken_for_a_rollback(feed):
    feed, clock = feed
    found = [event(6), event(8), event(9)]
    assert feed._up_to_gap(found, 5) == found[:1]
    clock["now"] = 1.9
    assert feed._up_to_gap(found[1:], 6) == []
    clock["now"] = 2.0
    assert feed._up_to_gap(found[1:], 6) == found[1:]


def test_a_row_that_commits_late_is_not_passed_over(feed):
    feed, clock = feed
    assert feed._up_to_gap([event(8)], 6) == []
    clock["now"] = 1.0
    both = [event(7), event(8)]
    assert feed._up_to_gap(both, 6) == both


def test_each_gap_has_its_own_wait(feed):
    feed, clock = feed
    assert feed._up_to_gap([event(7)], 5) == []
    clock["now"] = 2.0
    assert feed._up_to_gap([event(7), event(9)], 5) == [event(7)]


def test_a_stream_that_does_not_keep_up_gets_resync_and_is_given_up_the_second_time():
    stream = Stream(1)
    for number in range(event_feed.QUEUE_BATCHES + 1):
        stream.put(Batch(events=[event(number)], latest_id=number))
    assert not stream.ended
    only = stream._batches.get_nowait()
    assert only.resync
    assert only.latest_id == event_feed.QUEUE_BATCHES
    assert stream._batches.empty()
    for number in range(event_feed.QUEUE_BATCHES + 1):
        stream.put(Batch(events=[event(number)], latest_id=number))
    assert stream.ended
