"""Keeps each module's own power limit in step with the overload policy, where the profile has such a register.

Theory of operation. One task goes through the circuits at a slow pace: reads the limit that the module has (at
the start, again after a while, and after a limit in force has changed), writes only where it is another than
wanted, reads back, and puts the write on record with what was there before. A register that wears out with
writing is written a few times a day at most: at the boundaries of the night's limit. A limit that the module
does not keep after its tries is an alarm. What is wanted is the lower of the overload policy's limit and the
site's night limit, of those that are enforced.

Only an enforced policy writes: in shadow nothing may change what a module does by itself. Where we have set a
limit and the policy no longer wants one, it is taken back (0 is none). That a limit is ours is on record before
it is written, so that a lost answer or a crash leaves none behind.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

import structlog

from dormpower.books import alarms, audit_log, policies
from dormpower.books.database import Books
from dormpower.clock import Clock
from dormpower.domain.alarms import PRIORITIES, AlarmKind
from dormpower.domain.holds import Enforcement
from dormpower.domain.protection import OverloadPolicy
from gateway.control_memory import ControlledCircuit
from gateway.night_limits import NightLimits, lowest_in_force
from gateway.ports import FieldError, RefusedError

log = structlog.get_logger()

NAME = "power_limit"
ACTOR = "rule:overload"
PACE_S = 1.0  # real, between two modules: polls keep their rhythm
ROUND_S = 30.0  # real, between two rounds
READ_AGAIN_S = 3600.0  # real
TRIES = 3

Result = TypeVar("Result")


class LimitRegister(Protocol):
    """A module with a power limit of its own on each channel."""

    @property
    def has_power_limit(self) -> bool:
        """Whether the model has one."""

    def limit_for(self, limit_w: int) -> int:
        """Return the nearest limit that the register can hold."""

    async def read_power_limit(self, channel: int) -> int:
        """Return the limit in W, 0 for none. Raises FieldError."""

    async def write_power_limit(self, channel: int, limit_w: int) -> int:
        """Write once and return what was read back. Raises FieldError."""


class Run(Protocol):
    """Runs a function on the writer thread."""

    def __call__(self, function: Callable[[], Result]) -> Awaitable[Result]:
        """Return what the function returns."""


@dataclass(slots=True)
class _Known:
    limit_w: int | None = None
    wanted_w: int | None = None
    read_at_s: float = 0.0
    failures: int = 0
    ours: bool = False  # one that we have set, or were about to set, is on record
    was_w: int | None = None  # before a write whose end is not on record yet


class PowerLimits:
    """See the module's text."""

    def __init__(
        self,
        *,
        books: Books,
        clock: Clock,
        run: Run,
        modules: Mapping[str, LimitRegister],
        circuits: Mapping[str, ControlledCircuit],
        overload: Mapping[str, OverloadPolicy],
        night: NightLimits | None = None,
        reachable: Callable[[ControlledCircuit], bool] = lambda _: True,
    ) -> None:
        self._books = books
        self._clock = clock
        self._run = run
        self._modules = modules
        self._overload = overload
        self._night = night
        self._reachable = reachable
        self._circuits = [
            circuit
            for circuit in circuits.values()
            if circuit.module_id in modules and modules[circuit.module_id].has_power_limit
        ]
        self._changed = asyncio.Event()  # the policy: the next round begins at once
        self._known = {circuit.circuit_id: _Known() for circuit in self._circuits}

    def adopt(self, overload: Mapping[str, OverloadPolicy], night: NightLimits) -> None:
        """Keep modules in step with another policy from now on."""
        self._overload, self._night = overload, night
        self._changed.set()

    async def load(self) -> None:
        """Take over for which circuits a limit of ours is on record."""

        def read() -> set[str]:
            with self._books.read() as connection:
                return {
                    circuit_id for circuit_id, kept in policies.memories(connection).items() if NAME in kept
                }

        for circuit_id in await self._run(read):
            if circuit_id in self._known:
                self._known[circuit_id].ours = True

    async def run(self, *, pace_s: float = PACE_S) -> None:
        """Go round until cancelled."""
        await self.load()
        while True:
            for circuit in self._circuits:
                if await self._look_supervised(circuit):
                    await asyncio.sleep(pace_s)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), ROUND_S)
            self._changed.clear()

    async def _look_supervised(self, circuit: ControlledCircuit) -> bool:
        try:
            return await self.look(circuit)
        except Exception:
            # Supervised: the books may be away for a moment; the next round looks again.
            log.exception("power_limit.look_failed", circuit=circuit.circuit_id)
            return True

    async def look(self, circuit: ControlledCircuit) -> bool:
        """Bring one circuit's limit in step; True where something went over the line."""
        known = self._known[circuit.circuit_id]
        wanted_w = self._wanted_w(circuit, known)
        if wanted_w is None or not self._reachable(circuit):
            return False
        if known.wanted_w != wanted_w:
            known.wanted_w, known.failures = wanted_w, 0
        due = known.limit_w is None or self._clock.monotonic() - known.read_at_s >= READ_AGAIN_S
        if not due and known.limit_w == wanted_w:
            return False
        module = self._modules[circuit.module_id]
        try:
            before_w = await module.read_power_limit(circuit.channel)
            after_w = before_w
            if before_w != wanted_w and known.failures < TRIES:
                after_w = await self._write(module, circuit, wanted_w, before_w)
        except FieldError as fault:
            log.debug("power_limit.not_reached", circuit=circuit.circuit_id, fault=str(fault))
            return True  # the module's silence has an alarm of its own
        was_w = before_w if known.was_w is None else known.was_w
        failed_before = known.failures > 0
        known.failures = 0 if after_w == wanted_w else known.failures + 1
        if was_w != wanted_w or failed_before or (known.ours and not wanted_w):
            await self._run(lambda: self._record(circuit, known, was_w, wanted_w, after_w))
        known.was_w = None
        known.read_at_s = self._clock.monotonic()
        known.limit_w = after_w if after_w == wanted_w else None
        return True

    async def _write(
        self, module: LimitRegister, circuit: ControlledCircuit, wanted_w: int, before_w: int
    ) -> int:
        known = self._known[circuit.circuit_id]
        if wanted_w and not known.ours:
            await self._run(lambda: self._note_ours(circuit, wanted_w))
            known.ours = True
        known.was_w = before_w if known.was_w is None else known.was_w
        try:
            return await module.write_power_limit(circuit.channel, wanted_w)
        except RefusedError:
            return before_w  # a try that failed

    def _wanted_w(self, circuit: ControlledCircuit, known: _Known) -> int | None:
        policy = self._overload.get(circuit.circuit_id)
        if policy is not None and policy.module_limit:
            limit = lowest_in_force(
                policy, self._night, circuit.circuit_id, Enforcement.ENFORCE, at=self._clock.now()
            )
            if limit is not None:
                return self._modules[circuit.module_id].limit_for(limit.limit_w)
        return 0 if known.ours else None

    def _note_ours(self, circuit: ControlledCircuit, limit_w: int) -> None:
        with self._books.write() as connection:
            policies.remember(connection, circuit_id=circuit.circuit_id, rule=NAME, memory={"limit_w": limit_w})

    def _record(
        self, circuit: ControlledCircuit, known: _Known, before_w: int, wanted_w: int, after_w: int
    ) -> None:
        now: datetime = self._clock.now()
        kept = after_w == wanted_w
        subject = {"subject_kind": "circuit", "subject_id": circuit.circuit_id}
        detail = {"before_w": before_w, "wanted_w": wanted_w, "read_back_w": after_w}
        with self._books.write() as connection:
            if known.failures <= TRIES and not before_w == wanted_w == after_w:
                audit_log.write(
                    connection, actor=ACTOR, action="power_limit.written", **subject, detail=detail, now=now
                )
            if kept:
                memory = {"limit_w": wanted_w} if wanted_w else None
                policies.remember(connection, circuit_id=circuit.circuit_id, rule=NAME, memory=memory)
                alarms.clear_alarm(connection, kind=AlarmKind.LIMIT_NOT_KEPT, **subject, now=now)
            elif known.failures == TRIES:
                alarms.raise_alarm(
                    connection,
                    kind=AlarmKind.LIMIT_NOT_KEPT,
                    priority=PRIORITIES[AlarmKind.LIMIT_NOT_KEPT],
                    **subject,
                    circuit_id=circuit.circuit_id,
                    module_id=circuit.module_id,
                    building=circuit.building,
                    detail=detail,
                    now=now,
                )
        if kept:
            known.ours = bool(wanted_w)
