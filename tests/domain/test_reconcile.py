"""The reconciler's table."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dormpower.domain.reconcile import (
    BACK_OFF_S,
    TRIES,
    Control,
    Failed,
    ReconcileFacts,
    Send,
    Settled,
    Step,
    WaitUntil,
    control_of,
    next_step,
)
from dormpower.domain.samples import Relay

NOW = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)
OPEN, CLOSED = Relay.OPEN, Relay.CLOSED


def step(wanted: Relay, actual: Relay | None, **more: Any) -> Step:
    known = {"seen_in_this_run": True, "fresh": True, "reachable": True}
    facts = ReconcileFacts(**{"wanted": wanted, "actual": actual, **known, **more})
    return next_step(facts, now=NOW, real_now=NOW)


@pytest.mark.parametrize(
    ("wanted", "actual", "more", "expected"),
    [
        (OPEN, CLOSED, {}, Send(relay=OPEN, attempt=1)),
        (CLOSED, OPEN, {}, Send(relay=CLOSED, attempt=1)),
        (OPEN, OPEN, {}, Settled()),
        (CLOSED, None, {}, Send(relay=CLOSED, attempt=1)),
        (OPEN, CLOSED, {"has_relay": False}, Settled()),
        (OPEN, CLOSED, {"outstanding": True}, WaitUntil(why="command_under_way")),
        (OPEN, CLOSED, {"seen_in_this_run": False}, WaitUntil(why="first_reading")),
        (OPEN, CLOSED, {"reachable": False}, WaitUntil(why="unreachable")),
        (CLOSED, OPEN, {"fresh": False}, Send(relay=CLOSED, attempt=1)),  # a payer is not kept in the dark
        (CLOSED, OPEN, {"fresh": False, "after_trip_or_shed": True}, WaitUntil(why="no_fresh_reading")),
        (
            CLOSED,
            OPEN,
            {"opened_at": NOW - timedelta(seconds=299), "min_off_s": 300},
            WaitUntil(why="minimum_off", campus_at=NOW + timedelta(seconds=1)),
        ),
        (
            CLOSED,
            OPEN,
            {"opened_at": NOW - timedelta(seconds=300), "min_off_s": 300},
            Send(relay=CLOSED, attempt=1),
        ),
        (OPEN, CLOSED, {"opened_at": NOW, "min_off_s": 300}, Send(relay=OPEN, attempt=1)),
        (
            OPEN,
            CLOSED,
            {"failures": 1, "last_try_at": NOW},
            WaitUntil(why="back_off", real_at=NOW + timedelta(seconds=1)),
        ),
        (
            OPEN,
            CLOSED,
            {"failures": 5, "last_try_at": NOW},
            Failed(real_at=NOW + timedelta(seconds=120)),
        ),
        (
            OPEN,
            CLOSED,
            {"failures": 5, "last_try_at": NOW - timedelta(seconds=120)},
            Send(relay=OPEN, attempt=6),
        ),
        (OPEN, None, {"has_readback": False}, Send(relay=OPEN, attempt=1)),
        (OPEN, None, {"has_readback": False, "sent": OPEN}, Settled()),
        (CLOSED, None, {"has_readback": False}, Settled()),
        (CLOSED, None, {"has_readback": False, "sent": OPEN}, Send(relay=CLOSED, attempt=1)),
        # A command that failed may have acted, and may not.
        (OPEN, None, {"has_readback": False, "sent": OPEN, "failures": 1}, Send(relay=OPEN, attempt=2)),
        (CLOSED, None, {"has_readback": False, "sent": OPEN, "failures": 1}, Send(relay=CLOSED, attempt=2)),
    ],
)
def test_the_table(wanted: Relay, actual: Relay | None, more: dict[str, Any], expected: Step) -> None:
    assert step(wanted, actual, **more) == expected


@pytest.mark.parametrize(
    ("made", "failures", "control"),
    [
        (Settled(), 0, Control.SETTLED),
        (Send(relay=OPEN, attempt=1), 0, Control.PENDING),
        (WaitUntil(why="back_off"), 2, Control.PENDING),
        (WaitUntil(why="minimum_off"), 0, Control.WAITING),
        (WaitUntil(why="unreachable"), 0, Control.WAITING),
        (Failed(real_at=NOW), 5, Control.FAILED),
        (Send(relay=OPEN, attempt=6), 5, Control.FAILED),
    ],
)
def test_what_people_see_of_it(made: Step, failures: int, control: Control) -> None:
    assert control_of(made, failures=failures) is control


def test_back_off_grows_and_ends_at_a_slow_beat() -> None:
    assert list(BACK_OFF_S) == sorted(BACK_OFF_S)
    assert len(BACK_OFF_S) == TRIES + 1
    assert sum(BACK_OFF_S[:TRIES]) < 20  # people learn of a stuck relay within seconds; then the slow beat


@given(
    actual=st.sampled_from([None, OPEN, CLOSED]),
    sent=st.sampled_from([None, OPEN, CLOSED]),
    wanted=st.sampled_from(Relay),
    flags=st.tuples(*[st.booleans()] * 7),
    failures=st.integers(0, 9),
)
def test_it_never_sends_what_is_not_wanted_nor_before_something_was_read(
    actual: Relay | None, sent: Relay | None, wanted: Relay, flags: tuple[bool, ...], failures: int
) -> None:
    seen, fresh, reachable, has_relay, has_readback, outstanding, after_trip = flags
    made = step(
        wanted,
        actual,
        sent=sent,
        seen_in_this_run=seen,
        fresh=fresh,
        reachable=reachable,
        has_relay=has_relay,
        has_readback=has_readback,
        outstanding=outstanding,
        after_trip_or_shed=after_trip,
        failures=failures,
    )
    if isinstance(made, Send):
        assert made.relay is wanted
        assert seen
        assert reachable
        assert has_relay
        assert not outstanding
        assert wanted is OPEN or fresh or not after_trip
