"""The reconciler: closes the gap between the wanted and the reported relay of each circuit.

One task a circuit at most, a bounded number at once. What to do next is `domain.reconcile`; this file carries
it out: record the command, send it, put on record what was read back. The books are asked again for standing
holds in the transaction that records a closing, so that a hold that is on record is never overlooked.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import structlog
from sqlalchemy.engine import Connection

from dormpower.books import alarms, commands, confirmations, holds
from dormpower.books import control as books_control
from dormpower.books.database import Books
from dormpower.clock import Clock
from dormpower.domain.alarms import PRIORITIES, AlarmKind
from dormpower.domain.confirming import ReadBack
from dormpower.domain.holds import Hold, wanted_relay
from dormpower.domain.reconcile import (
    COMMAND_LIFE_S,
    TRIES,
    Control,
    Failed,
    ReconcileFacts,
    Send,
    Settled,
    Step,
    Waiting,
    WaitsFor,
    WaitUntil,
    control_of,
    next_step,
    waiting_of,
)
from dormpower.domain.samples import Relay
from dormpower.domain.spread import Spread, SpreadPolicy
from dormpower.domain.trips import Judged
from gateway.closing_room import Room
from gateway.control_memory import CircuitMemory
from gateway.ports import Switch, SwitchOutcome, SwitchResult

log = structlog.get_logger()

MAX_AT_ONCE = 64
MAX_STEPS = 8  # commands in one go; then the next tick goes on

Result = TypeVar("Result")


class Run(Protocol):
    """Runs a function on the writer thread."""

    def __call__(self, function: Callable[[], Result]) -> Awaitable[Result]:
        """Return what the function returns."""


class Reconciler:
    """Drives circuits to their wanted relay."""

    def __init__(
        self,
        *,
        books: Books,
        clock: Clock,
        switch: Switch,
        memories: Mapping[str, CircuitMemory],
        run: Run,
        reachable: Callable[[CircuitMemory], bool],
        stale_after_s: float,
        spread: SpreadPolicy | None = None,
        room: Room | None = None,
    ) -> None:
        self._books = books
        self._clock = clock
        self._switch = switch
        self._memories = memories
        self._run = run
        self._reachable = reachable
        self._stale_after_s = stale_after_s
        self._spread = None if spread is None else Spread(spread)
        self._room = room
        self._at_once = asyncio.Semaphore(MAX_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._timers: dict[str, WaitUntil | Failed] = {}

    def step_of(self, memory: CircuitMemory) -> Step:
        """Return what there is to do for a circuit now."""
        now = self._clock.now()
        fresh_at = memory.fresh_at
        return next_step(
            ReconcileFacts(
                wanted=memory.wanted,
                actual=memory.judged.relay,
                seen_in_this_run=memory.seen,
                fresh=memory.believed
                and fresh_at is not None
                and now - fresh_at <= timedelta(seconds=self._stale_after_s),
                reachable=self._reachable(memory),
                has_relay=memory.circuit.has_relay,
                has_readback=memory.circuit.has_readback,
                outstanding=memory.outstanding,
                sent=memory.sent,
                failures=memory.failures,
                last_try_at=memory.last_try_at,
                opened_at=memory.opened_at,
                min_off_s=memory.circuit.min_off_s,
                after_trip_or_shed=memory.after_trip_or_shed,
            ),
            now=now,
            real_now=self._clock.real_now(),
        )

    def kick(self, circuit_id: str) -> None:
        """Look at a circuit soon, in a task of its own."""
        if circuit_id in self._tasks:
            self._again.add(circuit_id)
            return
        task = asyncio.get_running_loop().create_task(self._task(circuit_id), name=f"reconcile {circuit_id}")
        self._tasks[circuit_id] = task
        task.add_done_callback(lambda _: self._done(circuit_id))

    def kick_due(self) -> None:
        """Look at the circuits whose waiting is over."""
        now, real_now = self._clock.now(), self._clock.real_now()
        for circuit_id, step in list(self._timers.items()):
            campus_at = step.campus_at if isinstance(step, WaitUntil) else None
            if (campus_at is not None and now >= campus_at) or (
                step.real_at is not None and real_now >= step.real_at
            ):
                del self._timers[circuit_id]
                self.kick(circuit_id)

    async def settle(self) -> None:
        """Wait until no task is under way (a test's and a shutdown's end)."""
        while self._tasks:
            await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _done(self, circuit_id: str) -> None:
        self._tasks.pop(circuit_id, None)
        if circuit_id in self._again:
            self._again.discard(circuit_id)
            self.kick(circuit_id)

    async def _task(self, circuit_id: str) -> None:
        async with self._at_once:
            try:
                await self.reconcile(circuit_id)
            except Exception:
                # A supervised task: the next tick or sweep looks at this circuit again.
                log.exception("control.reconcile_failed", circuit=circuit_id)

    async def reconcile(self, circuit_id: str) -> None:
        """Do what there is to do for one circuit, until it is settled or has to wait."""
        memory = self._memories[circuit_id]
        for _ in range(MAX_STEPS):
            step = self._let_close(memory, self.step_of(memory))
            if not isinstance(step, Send):
                await self._rest(memory, step)
                return
            await self._carry_out(memory, step)
        self._timers[circuit_id] = Failed(real_at=self._clock.real_now())

    def adopt(self, spread: SpreadPolicy) -> None:
        """Spread closings by another policy from now on."""
        if self._spread is None or self._spread.policy != spread:
            self._spread = Spread(spread)

    def _let_close(self, memory: CircuitMemory, step: Step) -> Step:
        """Let a closing wait for its turn where a whole building comes back, and for room (invariant 23)."""
        circuit, now = memory.circuit, self._clock.now()
        if not isinstance(step, Send) or step.relay is not Relay.CLOSED:
            if memory.wanted is Relay.OPEN and self._spread is not None:
                self._spread.forget(circuit.circuit_id)
            if self._room is not None:
                away = self._room.leave if isinstance(step, Settled) else self._room.step_aside
                (self._room.withdraw if memory.wanted is Relay.OPEN else away)(circuit.circuit_id)
            return step
        if self._spread is not None:
            # Payments have batches of their own: who has just paid does not stand in line behind a building.
            group = f"{circuit.campus}/{circuit.building}/{'first' if memory.closes_first else ''}"
            at = self._spread.slot(circuit.circuit_id, group=group, now=now)
            if at > now:
                return WaitUntil(why=WaitsFor.SPREAD, campus_at=at)
        if self._room is None or self._room.ask(memory):
            return step
        if self._spread is not None:
            self._spread.keep(circuit.circuit_id, now=now)
        return self._room.wait_of(circuit.circuit_id)

    async def _rest(self, memory: CircuitMemory, step: Step) -> None:
        circuit_id = memory.circuit.circuit_id
        expected_at: datetime | None = None
        self._timers.pop(circuit_id, None)
        if isinstance(step, WaitUntil | Failed):
            self._timers[circuit_id] = step
            expected_at = step.campus_at if isinstance(step, WaitUntil) else None
        control, waiting = control_of(step, failures=memory.failures), waiting_of(step)
        known = (memory.control, memory.expected_change_at, memory.waiting)
        if (control, expected_at, waiting) != known:
            await self._run(lambda: self._save_control(memory, control, expected_at, waiting))

    def _save_control(
        self, memory: CircuitMemory, control: Control, expected_at: datetime | None, waiting: Waiting | None
    ) -> None:
        with self._books.write() as connection:
            books_control.save_wait(
                connection,
                circuit_id=memory.circuit.circuit_id,
                control=control,
                expected_change_at=expected_at,
                waiting=waiting,
                now=self._clock.now(),
            )
        memory.control, memory.expected_change_at, memory.waiting = control, expected_at, waiting
        memory.settle_quiet()

    async def _carry_out(self, memory: CircuitMemory, step: Send) -> None:
        memory.outstanding = True
        try:
            expires_at = self._clock.real_now() + timedelta(seconds=COMMAND_LIFE_S)
            command_id = await self._run(lambda: self._record(memory, step, expires_at))
            if command_id is None:
                return
            memory.sent = step.relay
            if step.relay is Relay.OPEN:
                memory.ours_open = True
            sent_at = self._clock.now()
            result = await self._switch.switch(
                module_id=memory.circuit.module_id,
                channel=memory.circuit.channel,
                relay=step.relay,
                command_id=command_id,
                expires_at=expires_at,
            )
            await self._run(lambda: self._finish(memory, step, command_id, result, sent_at=sent_at))
        finally:
            memory.outstanding = False

    def _record(self, memory: CircuitMemory, step: Send, expires_at: datetime) -> str | None:
        """Put the command on record; None where the books want something else by now."""
        circuit, now = memory.circuit, self._clock.now()
        with self._books.write() as connection:
            standing = holds.standing(connection, [circuit.circuit_id]).get(circuit.circuit_id, ())
            if wanted_relay(standing) is not step.relay:
                memory.set_holds(standing)
                return None
            values: dict[str, object] = {"control": Control.PENDING.value, "expected_change_at": None}
            if step.relay is Relay.OPEN:
                values["commanded_relay"] = Relay.OPEN.value
            if memory.failures + 1 > TRIES:
                values["control"] = Control.FAILED.value
            books_control.save(connection, circuit_id=circuit.circuit_id, now=now, **values)
            command_id = commands.record(
                connection,
                circuit_id=circuit.circuit_id,
                module_id=circuit.module_id,
                channel=circuit.channel,
                relay=step.relay,
                cause=_cause(standing),
                attempt=step.attempt,
                now=now,
                expires_at=expires_at,
            )
        memory.control, memory.expected_change_at = Control(str(values["control"])), None
        memory.stir()
        return command_id

    def _finish(
        self, memory: CircuitMemory, step: Send, command_id: str, result: SwitchResult, *, sent_at: datetime
    ) -> None:
        circuit_id, now = memory.circuit.circuit_id, self._clock.now()
        done = result.outcome is SwitchOutcome.CONFIRMED or (
            result.outcome is SwitchOutcome.UNCONFIRMED and not memory.circuit.has_readback
        )
        failures = 0 if done else memory.failures + 1
        values: dict[str, object] = {"failures": failures}
        if done:
            values |= self._relay_values(memory, step.relay, now)
        with self._books.write() as connection:
            commands.finish(
                connection,
                command_id=command_id,
                outcome=result.outcome.value,
                read_back=result.relay,
                now=now,
            )
            books_control.save(connection, circuit_id=circuit_id, now=now, **values)
            if result.relay is not None:
                books_control.save_relay(connection, circuit_id=circuit_id, relay=result.relay, now=now)
            read_back = ReadBack(
                relay=result.relay,
                drawing=AlarmKind.OPEN_BUT_DRAWING in memory.active_alarms,
                read_at=sent_at,  # a hold that was placed after it waits for the next one
            )
            evidence = {"by": "command", "command_id": command_id, "outcome": result.outcome.value}
            standing = confirmations.note(
                connection, circuit_id=circuit_id, read_back=read_back, evidence=evidence, now=now
            )
            self._tell_of_failures(connection, memory, step, result, failures, now=now)
        self._take_over(memory, step, result, values, failures=failures, done=done, now=now)
        memory.set_holds(standing)
        memory.settle_quiet()

    @staticmethod
    def _relay_values(memory: CircuitMemory, relay: Relay, now: datetime) -> dict[str, object]:
        values: dict[str, object] = {"control": Control.SETTLED.value, "expected_change_at": None}
        if relay is Relay.CLOSED:
            return values | {"commanded_relay": Relay.CLOSED.value, "opened_at": None}
        if memory.judged.relay is not Relay.OPEN or memory.opened_at is None:
            values["opened_at"] = now
        return values

    @staticmethod
    def _tell_of_failures(
        connection: Connection,
        memory: CircuitMemory,
        step: Send,
        result: SwitchResult,
        failures: int,
        *,
        now: datetime,
    ) -> None:
        circuit = memory.circuit
        if failures == TRIES:
            alarms.raise_alarm(
                connection,
                kind=AlarmKind.RELAY_FAILED,
                priority=PRIORITIES[AlarmKind.RELAY_FAILED],
                subject_kind="circuit",
                subject_id=circuit.circuit_id,
                circuit_id=circuit.circuit_id,
                module_id=circuit.module_id,
                building=circuit.building,
                detail={
                    "wanted": step.relay.value,
                    "tries": failures,
                    "outcome": result.outcome.value,
                    "detail": result.detail,
                },
                now=now,
            )
        elif failures == 0 and memory.failures:
            alarms.clear_alarm(
                connection,
                kind=AlarmKind.RELAY_FAILED,
                subject_kind="circuit",
                subject_id=circuit.circuit_id,
                now=now,
            )

    def _take_over(
        self,
        memory: CircuitMemory,
        step: Send,
        result: SwitchResult,
        written: Mapping[str, object],
        *,
        failures: int,
        done: bool,
        now: datetime,
    ) -> None:
        memory.failures = failures
        memory.last_try_at = self._clock.real_now()
        memory.command_ended_at = now
        if result.relay is not None:
            memory.judged = Judged(
                relay=result.relay,
                flags=memory.judged.flags,
                drawing_samples=memory.judged.drawing_samples if result.relay is Relay.OPEN else 0,
            )
        if not done:
            return
        memory.control, memory.expected_change_at = Control.SETTLED, None
        if step.relay is Relay.CLOSED:
            memory.ours_open = memory.after_trip_or_shed = False
        opened_at = written.get("opened_at", memory.opened_at)
        memory.opened_at = opened_at if isinstance(opened_at, datetime) else None


def _cause(standing: tuple[Hold, ...]) -> dict[str, object]:
    enforced = [hold for hold in standing if not hold.shadow]
    return {"holds": [{"hold_id": hold.hold_id, "reason": hold.reason.value} for hold in enforced]}
