"""How often and how soon a relay may close: what protects contacts and compressors, and people beside them.

A compressor that restarts against pressure stalls, so air conditioning stays off for a while (a Lennox manual
asks for 240 s); lamps need nothing. A module that tripped by itself, or was opened by hand, closes again by its
profile's own delay a few times a day at most; then a person looks (invariant 21).
"""

from dataclasses import dataclass

RULE = "rule:min_off"


@dataclass(frozen=True, slots=True, kw_only=True)
class MinimumOff:
    """For how many campus seconds a relay stays open before it closes again, by kind (invariant 20)."""

    ac_s: float = 300.0
    lighting_s: float = 0.0

    def of(self, kind: str) -> float:
        """Return the seconds of a kind."""
        return self.ac_s if kind == "ac" else self.lighting_s


@dataclass(frozen=True, slots=True, kw_only=True)
class TripsPolicy:
    """How often a campus day a module's own trip may end by its profile's delay."""

    restores_a_day: int = 3
