"""The site's night limits, for each circuit: what the overload rule and the modules' own registers go by."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dormpower.domain.curfew import CurfewPolicy, CurrentLimit, NightLimit, SpanMemo, limits_at, lowest_limit
from dormpower.domain.holds import Enforcement
from dormpower.domain.protection import LimitInForce, OverloadPolicy, limit_in_force
from dormpower.domain.scopes import Where
from gateway.schedule_rule import described_days, described_rule


class NightLimits:
    """Which night limit is in force for a circuit; `where_of` says where each circuit is."""

    __slots__ = ("_limits_of", "_policy", "_spans")

    def __init__(self, policy: CurfewPolicy, where_of: Mapping[str, Where]) -> None:
        self._policy = policy
        self._spans = SpanMemo(policy)
        found = {circuit_id: limits_at(policy, where) for circuit_id, where in where_of.items()}
        self._limits_of: dict[str, tuple[NightLimit, ...]] = {
            one: limits for one, limits in found.items() if limits
        }

    def described(self) -> Mapping[str, Any]:
        """Return limits and modes as JSON values."""
        return {
            "rules": [described_rule(rule) | {"limit_w": rule.limit_w} for rule in self._policy.night_limits],
            **described_days(self._policy.days),
        }

    def modes_of(self, circuit_id: str) -> frozenset[Enforcement]:
        """Return the modes of the limits that a circuit has at some hour."""
        return frozenset(limit.mode for limit in self._limits_of.get(circuit_id, ()))

    def limits_w(self, circuit_id: str) -> list[int]:
        """Return a circuit's limits of all hours."""
        return [limit.limit_w for limit in self._limits_of.get(circuit_id, ())]

    def limit(self, circuit_id: str, mode: Enforcement, *, at: datetime) -> CurrentLimit | None:
        """Return the lowest limit of a mode that is in force; None where there is none."""
        limits = [limit for limit in self._limits_of.get(circuit_id, ()) if limit.mode is mode]
        return lowest_limit(limits, self._spans, now=at) if limits else None


def lowest_in_force(
    policy: OverloadPolicy, night: NightLimits | None, circuit_id: str, mode: Enforcement, *, at: datetime
) -> LimitInForce | None:
    """Return the lower of the overload policy's limit and the night limit, of those that are in a mode."""
    own = limit_in_force(policy, now=at) if policy.mode is mode else None
    found = None if night is None else night.limit(circuit_id, mode, at=at)
    if found is None or (own is not None and own.limit_w <= found.limit_w):
        return own
    return LimitInForce(limit_w=found.limit_w, limit_of=found.name)
