"""Closings of a building come in batches, in virtual time."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dormpower.domain.spread import Spread, SpreadPolicy

NOW = datetime(2026, 3, 2, 4, 0, tzinfo=UTC)


def test_a_building_comes_back_batch_by_batch_and_another_beside_it():
    spread = Spread(SpreadPolicy(circuits=2, every_s=10))
    slots = [spread.slot(f"c{number}", group="01", now=NOW) for number in range(5)]
    assert [(slot - NOW).total_seconds() for slot in slots] == [0, 0, 10, 10, 20]
    assert spread.slot("other", group="02", now=NOW) == NOW


def test_a_slot_is_kept_until_it_is_used_and_used_once():
    spread = Spread(SpreadPolicy(circuits=1, every_s=10))
    spread.slot("a", group="01", now=NOW)
    slot = spread.slot("b", group="01", now=NOW)
    assert spread.slot("b", group="01", now=NOW + timedelta(seconds=5)) == slot == NOW + timedelta(seconds=10)
    assert spread.slot("b", group="01", now=slot) == slot
    assert spread.slot("b", group="01", now=slot) == slot + timedelta(seconds=10)


def test_a_circuit_that_is_not_to_close_any_more_gives_up_its_slot():
    spread = Spread(SpreadPolicy(circuits=1, every_s=10))
    spread.slot("a", group="01", now=NOW)
    spread.slot("b", group="01", now=NOW)
    spread.forget("b")
    assert spread.slot("b", group="01", now=NOW) == NOW + timedelta(seconds=20)


def test_after_a_quiet_time_a_single_closing_does_not_wait():
    spread = Spread(SpreadPolicy(circuits=1, every_s=10))
    spread.slot("a", group="01", now=NOW)
    later = NOW + timedelta(hours=1)
    assert spread.slot("b", group="01", now=later) == later


@pytest.mark.parametrize("bad", [{"circuits": 0}, {"every_s": 0}])
def test_a_policy_that_would_never_close_is_refused(bad):
    with pytest.raises(ValueError, match="expected 1 or more"):
        SpreadPolicy(**bad)


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8)), max_size=60))
def test_no_span_of_one_batch_length_sees_more_than_two_batches(circuits, asks):
    spread = Spread(SpreadPolicy(circuits=circuits, every_s=10))
    now, closed = NOW, []
    for wait_s, number in asks:
        now += timedelta(seconds=wait_s)
        if spread.slot(str(number), group="01", now=now) <= now:
            closed.append((now - NOW).total_seconds())
    for start in closed:
        # Slots that were given early and are used late may fall together with the batch of that time.
        assert sum(start <= at < start + 10 for at in closed) <= max(2 * circuits, 9 + circuits)
    assert all(count <= 9 + circuits for count in Counter(closed).values())
