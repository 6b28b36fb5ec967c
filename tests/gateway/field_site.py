"""A composed gateway with a field: simulated modules on real sockets, polled in virtual time."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from dormpower.books import alarms, commands, holds, trips
from dormpower.books.alarms import Alarm
from dormpower.domain.restoring import Restore
from gateway.ports import Rate
from simulators.campus import build_campus
from simulators.demo_site import free_ports
from simulators.models import simulated_models
from tests.gateway.composed_site import ComposedSite

POLL_S = 30.0
ANSWER_MS = 5_000  # nothing here waits for a silent module


class FieldSite(ComposedSite):
    """The gateway of a site file and the modules that it names, on one line of the loopback."""

    def __init__(self, folder: Path, document: Mapping[str, Any], *, at: datetime) -> None:
        (port,) = free_ports(1)
        lines = [{**line, "port": port, "timeout_ms": ANSWER_MS} for line in document["lines"]]
        super().__init__(folder, {**document, "lines": lines}, at=at)
        models = simulated_models(self.settings.profiles)
        self.campus = build_campus(self.settings.site, clock=self.clock, models=models)
        self.run(self.campus.start)

    def poll(self, times: int = 1, *, after_s: float = POLL_S) -> None:
        """Let time pass, poll each module once, and carry out what follows; so many times."""

        async def go() -> None:
            for _ in range(times):
                self.clock.advance(after_s)
                for poller in self.gateway._pollers:
                    await poller._cycle(Rate.FULL)
                await self.gateway.intake.flush()
                await self._rest()

        self.run(go)

    def settle(self) -> None:
        """Let control take up what a person has just put on record."""
        self.run(self._rest)

    def fault(self, module_id: str, kind: str, **params: Any) -> None:
        """Let a module have a fault."""
        self.run(lambda: self.campus.fault(module_id, kind, **params))

    def contacts(self, circuit_id: str) -> str:
        """Return what is really with a circuit's relay."""
        return str(self.campus.truth(circuit_id)["contacts"])

    def control(self, circuit_id: str) -> tuple[str, str]:
        """Return the supply state, and how far the relay follows."""
        memory = self.gateway.control.memory(circuit_id)
        return memory.state.value, memory.control.value

    def reasons(self, circuit_id: str) -> list[str]:
        """Return why a circuit is off."""
        return [hold.reason.value for hold in self.holds(circuit_id)]

    def active(self) -> list[tuple[str, str]]:
        """Return the active alarms: kind and subject."""
        with self.books.read() as connection:
            return sorted((one.kind, one.subject_id) for one in alarms.active(connection))

    def told(self, kind: str) -> list[Alarm]:
        """Return the alarms of a kind, also those that are over."""
        with self.books.read() as connection:
            found, _ = alarms.listing(connection, kinds=[kind])
            return found

    def sent(self, circuit_id: str) -> list[str]:
        """Return the commands on record of a circuit, oldest first."""
        with self.books.read() as connection:
            return [one.relay for one in reversed(commands.history(connection, circuit_id))]

    def closings(self, circuit_id: str, since: datetime) -> tuple[Restore, ...]:
        """Return the closings by timers."""
        with self.books.read() as connection:
            return trips.restores(connection, circuit_ids=[circuit_id], since=since).get(circuit_id, ())

    def lock_out(self, circuit_id: str, holder: str) -> str:
        """Lock a circuit out; returns the lock-out's id."""
        with self.books.write() as connection:
            lockout = holds.place_lockout(
                connection, circuit_id=circuit_id, holder=holder, reason="work", now=self.clock.now()
            )
        self.settle()
        return str(lockout.lockout_id)

    def reset(self, circuit_id: str) -> None:
        """Reset a circuit as maintenance does."""
        with self.books.write() as connection:
            holds.reset(connection, circuit_id, "maintenance", self.clock.now())
        self.settle()

    def close(self) -> None:
        """End the field, then everything else."""
        self.run(self._leave_the_field)
        super().close()

    async def _leave_the_field(self) -> None:
        for field_line in self.gateway._lines:
            field_line.line.close()
        await self.campus.stop()
