"""Holds: the wanted relay, the state that people see, and what ends each hold."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dormpower.domain.holds import (
    RESETTABLE,
    STATE_OF_REASONS,
    Hold,
    Reason,
    Release,
    SupplyState,
    explain,
    reason_of,
    supply_state,
    wanted_relay,
)
from dormpower.domain.samples import Relay

NOW = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)


def hold(reason: Reason, *, shadow: bool = False, expected: datetime | None = None) -> Hold:
    return Hold(
        hold_id=f"hld_{reason}",
        circuit_id="r-1-ac",
        reason=reason,
        placed_at=NOW,
        placed_by="rule:test",
        shadow=shadow,
        expected_release_at=expected,
    )


def state(*holds: Hold, seen_s: float | None = 0.0) -> SupplyState:
    seen_at = None if seen_s is None else NOW - timedelta(seconds=seen_s)
    return supply_state(holds, last_seen_at=seen_at, now=NOW, stale_after_s=90.0)


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason.LOCKOUT, SupplyState.LOCKED_OUT),
        (Reason.EMERGENCY, SupplyState.LOCKED_OUT),
        (Reason.VACANT, SupplyState.LOCKED_OUT),
        (Reason.OVERLOAD, SupplyState.LOAD_OFF),
        (Reason.PROHIBITED, SupplyState.LOAD_OFF),
        (Reason.MODULE_TRIP, SupplyState.LOAD_OFF),
        (Reason.OPENED_LOCALLY, SupplyState.LOAD_OFF),
        (Reason.SHED, SupplyState.LOAD_OFF),
        (Reason.ARREARS, SupplyState.ARREARS),
        (Reason.CURFEW, SupplyState.SCHEDULED_OFF),
    ],
)
def test_each_reason_shows_as_its_state(reason: Reason, expected: SupplyState) -> None:
    assert state(hold(reason)) is expected
    assert state(hold(reason), seen_s=None) is expected  # the cause is known whatever the module says


def test_a_hold_for_a_reason_that_this_version_does_not_know_keeps_off_and_is_maintenance_s() -> None:
    unknown = hold(reason_of("quake"))
    assert wanted_relay([unknown]) is Relay.OPEN
    assert state(unknown) is SupplyState.LOAD_OFF
    assert state(unknown, hold(Reason.LOCKOUT)) is SupplyState.LOCKED_OUT
    assert unknown.release is Release.MAINTENANCE
    assert explain(unknown).params == {"reason_code": "quake"}
    assert reason_of("shed") is Reason.SHED


def test_the_first_match_wins() -> None:
    everything = [hold(reason) for reason in Reason]
    for expected, members in STATE_OF_REASONS:
        assert state(*everything) is expected
        everything = [one for one in everything if one.reason not in members]
    assert state(*everything) is SupplyState.NORMAL


@pytest.mark.parametrize(
    ("seen_s", "expected"),
    [(None, SupplyState.OFFLINE), (90.0, SupplyState.NORMAL), (90.001, SupplyState.OFFLINE)],
)
def test_without_holds_contact_decides(seen_s: float | None, expected: SupplyState) -> None:
    assert state(seen_s=seen_s) is expected


@given(st.lists(st.tuples(st.sampled_from(Reason), st.booleans())))
def test_a_relay_is_wanted_closed_if_and_only_if_no_enforced_hold_stands(
    standing: list[tuple[Reason, bool]],
) -> None:
    holds = [hold(reason, shadow=shadow) for reason, shadow in standing]
    closed = all(shadow for _, shadow in standing)
    assert (wanted_relay(holds) is Relay.CLOSED) == closed
    assert (state(*holds) is SupplyState.NORMAL) == closed


@pytest.mark.parametrize("reason", list(Reason))
def test_a_trip_with_a_time_set_ends_by_its_timer_and_nothing_else_does(reason: Reason) -> None:
    timed = hold(reason, expected=NOW)
    assert (timed.release is Release.TIMER) == (reason in RESETTABLE)
    assert hold(reason).release is not Release.TIMER
