"""What a read-back says of a lock-out: a table of what confirms it and what belies it."""

from datetime import UTC, datetime, timedelta

import pytest

from dormpower.domain.confirming import CONFIRMED_REASONS, ReadBack, contradicted, newly_confirmed
from dormpower.domain.holds import Hold, Reason
from dormpower.domain.samples import Relay

NOW = datetime(2026, 3, 2, 4, tzinfo=UTC)
BEFORE, AFTER = NOW - timedelta(seconds=1), NOW + timedelta(seconds=1)


def a_hold(reason: Reason = Reason.LOCKOUT, *, confirmed: bool = False, shadow: bool = False) -> Hold:
    return Hold(
        hold_id="hld_1",
        circuit_id="r-1-ac",
        reason=reason,
        placed_at=NOW,
        placed_by="person:maintenance",
        holder="maintenance",
        note="work",
        evidence={},
        shadow=shadow,
        confirmed_open_at=NOW if confirmed else None,
    )


@pytest.mark.parametrize(
    ("relay", "drawing", "read_at", "confirms", "belies"),
    [
        (Relay.OPEN, False, AFTER, True, False),
        (Relay.OPEN, False, NOW, True, False),
        (Relay.OPEN, False, BEFORE, False, False),  # read before the hold was placed: says nothing of it
        (Relay.OPEN, True, AFTER, False, True),  # welded or bypassed
        (Relay.CLOSED, False, AFTER, False, True),
        (Relay.CLOSED, True, AFTER, False, True),
        (None, False, AFTER, False, False),  # unknown confirms nothing and belies nothing
        (None, True, AFTER, False, False),
    ],
)
def test_only_a_younger_report_of_open_without_current_confirms(
    relay: Relay | None, drawing: bool, read_at: datetime, confirms: bool, belies: bool
) -> None:
    read_back = ReadBack(relay=relay, drawing=drawing, read_at=read_at)
    waiting, done = a_hold(), a_hold(confirmed=True)
    assert newly_confirmed([waiting], read_back) == ((waiting,) if confirms else ())
    assert newly_confirmed([done], read_back) == ()
    assert contradicted([done], read_back) == ((done,) if belies else ())
    assert contradicted([waiting], read_back) == ()


@pytest.mark.parametrize("reason", list(Reason))
def test_holds_that_people_rely_on_are_confirmed_and_no_others(reason: Reason) -> None:
    opened = ReadBack(relay=Relay.OPEN, drawing=False, read_at=AFTER)
    hold = a_hold(reason)
    assert newly_confirmed([hold], opened) == ((hold,) if reason in CONFIRMED_REASONS else ())


def test_a_shadow_hold_is_never_confirmed() -> None:
    assert (
        newly_confirmed([a_hold(shadow=True)], ReadBack(relay=Relay.OPEN, drawing=False, read_at=AFTER)) == ()
    )
