"""Circuits that are found open, on record as the gateway puts them there."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.engine import Connection

from dormpower.books import holds, openings
from dormpower.domain.holds import Reason
from dormpower.domain.openings import OpeningsPolicy


def find_open(
    connection: Connection,
    circuit_ids: Sequence[str],
    *,
    policy: OpeningsPolicy,
    period_s: float,
    now: datetime,
) -> None:
    """Hold the circuits as opened locally, and tell of them."""
    for circuit_id in circuit_ids:
        holds.place(
            connection,
            circuit_id=circuit_id,
            reason=Reason.OPENED_LOCALLY,
            placed_by="rule:trips",
            evidence={"sampling_period_s": period_s},
            alarmed=False,
            now=now,
        )
    standing = holds.standing(connection, circuit_ids)
    found = [hold for circuit_id in circuit_ids for hold in standing[circuit_id]]
    openings.tell(connection, found, policy=policy, now=now)
