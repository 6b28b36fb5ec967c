"""Column types of the books."""

from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_ms(at: datetime) -> int:
    """Return an instant as integer milliseconds since 1970 UTC, exactly (no float in between)."""
    return (at - _EPOCH) // _MILLISECOND


def from_ms(at_ms: int) -> datetime:
    """Return the UTC instant of integer milliseconds since 1970."""
    return _EPOCH + timedelta(milliseconds=at_ms)


class Instant(sa.types.TypeDecorator[datetime]):
    """An aware UTC datetime, stored as BIGINT milliseconds: the same order and equality on every database."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> int | None:  # noqa: ARG002
        """Store."""
        return None if value is None else to_ms(value)

    def process_result_value(self, value: Any | None, dialect: sa.Dialect) -> datetime | None:  # noqa: ARG002
        """Load."""
        return None if value is None else from_ms(value)
