"""What the reconciler asks before a closing begins, and tells of one that does not."""

from typing import Protocol

from dormpower.domain.reconcile import WaitUntil
from gateway.control_memory import CircuitMemory


class Room(Protocol):
    """Says whether a closing may begin (invariant 23); whoever may not is kicked when that has changed."""

    def ask(self, memory: CircuitMemory) -> bool:
        """Whether a circuit may close now; else it waits there."""

    def wait_of(self, circuit_id: str) -> WaitUntil:
        """Return what a circuit that may not close waits for."""

    def step_aside(self, circuit_id: str) -> bool:
        """A circuit can't begin its closing at present, but keeps its place among those that wait."""

    def leave(self, circuit_id: str) -> None:
        """A circuit has no closing to begin."""

    def withdraw(self, circuit_id: str) -> None:
        """A circuit is to be open."""
