"""What both stores agree on: instants in milliseconds, steps in whole seconds, finite values."""

import math
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
MAX_STEP_S = 366 * 86_400


def to_ms(at: datetime) -> int:
    """Return a reading's instant in milliseconds since 1970 UTC; what is finer is cut off."""
    return (at - _EPOCH) // _MILLISECOND


def to_ms_up(at: datetime) -> int:
    """Return a bound of a span in milliseconds, rounded up: `at_ms >= bound` is then exactly `at >= start`."""
    return -((_EPOCH - at) // _MILLISECOND)


def from_ms(at_ms: int) -> datetime:
    """Return the UTC instant of milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=at_ms)


def check_page(*, limit: int, every_s: int | None = None) -> None:
    """Raise ValueError for a page or a step that can't be served."""
    if limit < 1:
        raise ValueError(f"limit: expected 1 or more, got {limit}")
    if every_s is not None and not 1 <= every_s <= MAX_STEP_S:
        raise ValueError(f"every_s: expected 1 to {MAX_STEP_S} seconds, got {every_s}")


def check_relay(relay: str | None) -> None:
    """Raise ValueError for a relay's state that is none."""
    if relay not in {"open", "closed", None}:
        raise ValueError(f"relay: expected open, closed or None, got {relay!r}")


def known(value: float | None) -> float | None:
    """Return a quantity, or None where it is not a finite number: no store keeps that, and it says nothing."""
    return value if value is not None and math.isfinite(value) else None
