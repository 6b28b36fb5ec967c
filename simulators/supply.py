"""Circuits under power: what is drawn, what is counted, and the relay between.

Theory of operation. Power is piecewise constant on a grid of campus steps and an integer (mW), time is integer
milliseconds, so the energy of any stretch is an exact integer (µJ = mW × ms) however often it is asked for:
polling can't change a register. A circuit integrates lazily, up to the instant that is asked about. 1 Wh is
3 600 000 000 µJ; a module's register is the whole counts of its resolution in that integral, and the rest is
carried.
"""

from dataclasses import dataclass, field
from math import hypot
from typing import Protocol

UJ_PER_WH = 3_600_000_000
NOMINAL_VOLTAGE_V = 220.0
FREQUENCY_HZ = 50.0
OVERLOAD_TRIP_MS = 5_000  # FACTS: trips after more than 5 s over the limit
_WIRING_OHM = 0.35

TRIP_FLAGS = frozenset({"overload_trip", "prohibited_trip", "over_temperature"})
"""The flags with which a module opens its relay, where its model does not say otherwise."""


class Timeline(Protocol):
    """Brings what it holds up to an instant: a room, or a fixed load."""

    def advance(self, now_ms: int) -> None:
        """Integrate up to a campus instant (ms since 1970); an earlier one changes nothing."""


class Electric(Protocol):
    """What a module can measure of one channel."""

    energy_uj: int
    """What really flowed since the start: the ground truth; never falls."""

    def advance(self, now_ms: int) -> None:
        """Bring the counters up to a campus instant."""

    def power_mw(self) -> int:
        """Return what flows now."""

    def power_factor(self) -> float:
        """Return P/S of what flows now."""


@dataclass(slots=True)
class Circuit:
    """One circuit behind its relay contacts.

    `trip_flags` open them, and after such a trip the module closes them by itself `closes_after_ms` later, or
    never; `closes_in_ms` is what is left of that.
    """

    circuit_id: str
    contacts_closed: bool = True
    demand_mw: int = 0
    demand_mvar: int = 0
    energy_uj: int = 0
    limit_w: int = 0
    trips: int = 0
    flags: set[str] = field(default_factory=set)
    welded: bool = False
    trip_flags: frozenset[str] = TRIP_FLAGS
    closes_after_ms: int | None = None
    closes_in_ms: int | None = None
    timeline: Timeline | None = None
    _over_ms: int = 0

    def advance(self, now_ms: int) -> None:
        """Bring the circuit's room up to a campus instant."""
        if self.timeline is not None:
            self.timeline.advance(now_ms)

    def conducts(self) -> bool:
        """Return whether current can flow: contacts closed, or welded together."""
        return self.contacts_closed or self.welded

    def power_mw(self) -> int:
        """Return what flows now."""
        return self.demand_mw if self.conducts() else 0

    def power_factor(self) -> float:
        """Return P/S of what flows now; 1 where nothing does."""
        if not self.conducts() or not self.demand_mw:
            return 1.0
        return self.demand_mw / hypot(self.demand_mw, self.demand_mvar)

    def switch(self, *, closed: bool) -> None:
        """Move the contacts by a command or a hand; what the module meant to do by itself is off."""
        self.contacts_closed = closed
        self.closes_in_ms = None

    def report(self, flag: str) -> None:
        """Let the module's own protection see something: a flag, which opens the relay where it is a trip."""
        self.flags.add(flag)
        if flag not in self.trip_flags:
            return
        if self.contacts_closed:
            self.closes_in_ms = self.closes_after_ms
        self.contacts_closed = False
        self.trips += 1

    def integrate(self, elapsed_ms: int) -> int:
        """Let constant demand flow for a while; returns the ms during which current flowed.

        The module's own protection acts within the stretch, at the exact millisecond: after 5 s above its limit
        it reports an overload, which opens the relay unless the model only warns. After its own delay, where it
        has one, it closes again by itself.
        """
        flowing_ms = 0
        while elapsed_ms > 0:
            over = self.contacts_closed and 0 < self.limit_w * 1000 < self.demand_mw
            step_ms = elapsed_ms
            if over:
                step_ms = min(step_ms, OVERLOAD_TRIP_MS - self._over_ms)
            elif self.closes_in_ms is not None:
                step_ms = min(step_ms, self.closes_in_ms)
            if self.conducts():
                self.energy_uj += self.demand_mw * step_ms
                flowing_ms += step_ms
            elapsed_ms -= step_ms
            self._pass(step_ms, over=over)
        return flowing_ms

    def _pass(self, step_ms: int, *, over: bool) -> None:
        self._over_ms = self._over_ms + step_ms if over else 0
        if self._over_ms >= OVERLOAD_TRIP_MS:
            self._over_ms = 0
            self.report("overload_trip")
        elif self.closes_in_ms is not None:
            self.closes_in_ms -= step_ms
            if self.closes_in_ms <= 0:
                self.switch(closed=True)
                self.flags -= self.trip_flags


@dataclass(slots=True)
class FixedLoad:
    """A timeline with constant demand: for tests and meters that stand alone."""

    circuits: tuple[Circuit, ...]
    at_ms: int

    def __post_init__(self) -> None:
        for circuit in self.circuits:
            circuit.timeline = self

    def advance(self, now_ms: int) -> None:
        """Integrate up to a campus instant."""
        if now_ms > self.at_ms:
            for circuit in self.circuits:
                circuit.integrate(now_ms - self.at_ms)
            self.at_ms = now_ms

    def hold(self, now_ms: int) -> None:
        """Go to an instant with nothing flowing meanwhile."""
        self.at_ms = max(self.at_ms, now_ms)


class Feeder:
    """A supply line's meter: everything below it, and the loss on the way (2 %)."""

    LOSS_PERMILLE = 20

    def __init__(self, circuits: tuple[Circuit, ...]) -> None:
        self._circuits = circuits
        self.energy_uj = 0

    def advance(self, now_ms: int) -> None:
        """Bring all circuits below up to a campus instant."""
        for circuit in self._circuits:
            circuit.advance(now_ms)
        total_uj = sum(circuit.energy_uj for circuit in self._circuits)
        self.energy_uj = total_uj * (1000 + self.LOSS_PERMILLE) // 1000

    def power_mw(self) -> int:
        """Return what flows now, loss included."""
        return sum(circuit.power_mw() for circuit in self._circuits) * (1000 + self.LOSS_PERMILLE) // 1000

    def power_factor(self) -> float:
        """Return P/S of the sum."""
        active = sum(circuit.power_mw() for circuit in self._circuits)
        reactive = sum(circuit.demand_mvar for circuit in self._circuits if circuit.conducts())
        return active / hypot(active, reactive) if active else 1.0


def voltage_v(*, key: int, now_ms: int, current_a: float) -> float:
    """Return a socket's voltage: 220 V, a slow wander of ±1.5 %, less the drop on the wiring.

    A function of place and time alone, so that asking changes nothing.
    """
    bucket = now_ms // 10_000
    mixed = (bucket * 0x9E3779B97F4A7C15 + key * 0xC2B2AE3D27D4EB4F) & 0xFFFFFFFFFFFFFFFF
    mixed = ((mixed ^ (mixed >> 29)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    wander = ((mixed >> 40) / 0xFFFFFF - 0.5) * 2 * 0.015
    return NOMINAL_VOLTAGE_V * (1 + wander) - current_a * _WIRING_OHM
