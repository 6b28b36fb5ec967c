"""Spreading closings over time: a building that comes back at once would trip its feeder again (invariant 23).

At most `circuits` closings begin in a building in any batch of `every_s` campus seconds. A single closing on a
quiet day is let through at once; what comes in a crowd is given its own batch, in the order of asking, so that
nobody waits for more than the crowd before it.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

RULE = "rule:closings"


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadPolicy:
    """How many closings a building bears in how many campus seconds. Raises ValueError below 1."""

    circuits: int = 20
    every_s: float = 10.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.circuits < 1 or self.every_s <= 0:
            raise ValueError(
                f"closings: expected 1 or more in more than 0 s, got {self.circuits} in {self.every_s} s"
            )


@dataclass(slots=True)
class _Batch:
    at: datetime
    used: int = 0


@dataclass(slots=True)
class Spread:
    """Gives out times to close. What it knows need not outlast a restart: it begins with one batch at once."""

    policy: SpreadPolicy
    _batches: dict[str, _Batch] = field(default_factory=dict)
    _given: dict[str, datetime] = field(default_factory=dict)

    def slot(self, circuit_id: str, *, group: str, now: datetime) -> datetime:
        """Return when a circuit may close; at or before `now` it is used up by that."""
        at = self._given.pop(circuit_id, None)
        if at is None:
            at = self._next(group, now)
        if at > now:
            self._given[circuit_id] = at
        return at

    def keep(self, circuit_id: str, *, now: datetime) -> None:
        """Keep a slot that came without being used: the circuit need not stand in line again."""
        self._given[circuit_id] = now

    def forget(self, circuit_id: str) -> None:
        """Take back what was given: the circuit is not to close any more."""
        self._given.pop(circuit_id, None)

    def _next(self, group: str, now: datetime) -> datetime:
        batch = self._batches.get(group)
        every = timedelta(seconds=self.policy.every_s)
        if batch is None or now >= batch.at + every:
            batch = self._batches[group] = _Batch(at=now)
        elif batch.used >= self.policy.circuits:
            batch.at, batch.used = batch.at + every, 0
        batch.used += 1
        return max(batch.at, now)
