"""What every control policy has in common: it looks at facts and proposes to place or release its own holds.

A policy is one file that decides (pure, here in the domain) and one line that registers it with the gateway
(`gateway/policies.py`). Nothing else knows which policies there are: holds combine by themselves.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dormpower.domain.alarms import AlarmKind
from dormpower.domain.holds import AnyReason, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Place the rule's hold. `counts` says whether the breaker counts it (invariant 24)."""

    reason: Reason
    evidence: Mapping[str, Any] = field(default_factory=dict)
    shadow: bool = False
    expected_release_at: datetime | None = None
    counts: bool = False
    exempt: bool = False  # announced ahead by a person, or the going on of a hold that stands: never counted
    deferred: bool = False  # was due already while courtesy hours put it off: spread below the breaker's bound


@dataclass(frozen=True, slots=True, kw_only=True)
class LetGo:
    """Release the rule's own hold."""

    reason: AnyReason
    evidence: Mapping[str, Any] = field(default_factory=dict)
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Latch:
    """Take the time off the rule's own hold: from now on only maintenance ends it (invariant 21)."""

    reason: AnyReason
    evidence: Mapping[str, Any] = field(default_factory=dict)
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing to do yet, and why; `until_at` (campus time) where that is known."""

    why: str
    until_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LookAgain:
    """Look at the circuit again at an instant (campus time): a boundary of a schedule."""

    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseAlarm:
    """Tell staff of a condition of the circuit; `shadow`: only put on record that they would have been told."""

    kind: AlarmKind
    evidence: Mapping[str, Any] = field(default_factory=dict)
    shadow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearAlarm:
    """The condition has ended."""

    kind: AlarmKind
    shadow: bool = False
