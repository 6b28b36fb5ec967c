"""Which modules and lines answer, as alarms: a dead line is one alarm, not one for each module on it.

A module's alarm is held back while its line is down. When the line is back, its modules get until the next
sweep to answer before each is told of by itself.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from dormpower.books import alarms
from dormpower.books.database import Books
from dormpower.books.tables import modules
from dormpower.clock import Clock
from dormpower.domain.alarms import PRIORITIES, AlarmKind
from dormpower.domain.silences import Cut
from gateway import tampering
from gateway.control_memory import CircuitMemory, ControlledCircuit
from gateway.tampering import Subject

log = structlog.get_logger()

# Transitions in one transaction, which stays short: those that answer again cost little together, and a campus
# that comes up has thousands of them.
NOTES_AT_ONCE = 20
ANSWERS_AT_ONCE = 500


class Write(Protocol):
    """Writes what was noted, in a transaction of its own."""

    def __call__(self, connection: Connection, *, now: datetime) -> None:
        """Write."""


class Contacts:
    """Keeps up which modules and lines are reachable, and their alarms."""

    def __init__(
        self,
        *,
        books: Books,
        clock: Clock,
        circuits: Mapping[str, ControlledCircuit],
        run: Callable[[Callable[[], None]], Awaitable[None]],
        kick: Callable[[str], None],
        zone: ZoneInfo,
        line_of: Mapping[str, str] | None = None,
    ) -> None:
        """`line_of` names the lines of all modules: a feeder's meter serves no circuit."""
        self._books = books
        self._clock = clock
        self._run = run
        self._kick = kick
        self._zone = zone
        self._line_of: dict[str, str | None] = {
            **(line_of or {}),
            **{circuit.module_id: circuit.line_id for circuit in circuits.values()},
        }
        self._building_of = {circuit.module_id: circuit.building for circuit in circuits.values()}
        self._modules = {
            module_id: Subject(
                kind="module",
                id=module_id,
                building=self._building_of.get(module_id),
                line_id=line_id,
                circuit_ids=[one.circuit_id for one in circuits.values() if one.module_id == module_id],
            )
            for module_id, line_id in self._line_of.items()
        }
        self._modules_down: dict[str, str] = {}
        self._lines_down: dict[str, str] = {}
        self._told: set[tuple[str, str]] = set()  # (kind, subject) of active alarms
        self._noted: dict[tuple[str, str], None] = {}  # (kind, subject) whose transition waits to be written
        self._noting = False
        self._unwritten: set[tuple[str, str]] = set()  # and whose transition the books did not take
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_order = asyncio.Lock()

    def load(self, connection: Connection) -> None:
        """Take over which alarms are active."""
        self._told = {
            (alarm.kind, alarm.subject_id)
            for alarm in alarms.active(connection)
            if alarm.kind in {AlarmKind.MODULE_OFFLINE, AlarmKind.LINE_OFFLINE}
        }

    def reachable(self, memory: CircuitMemory) -> bool:
        """Whether commands for a circuit have a chance to arrive."""
        circuit = memory.circuit
        return circuit.module_id not in self._modules_down and circuit.line_id not in self._lines_down

    def note_module(self, module_id: str, *, online: bool, detail: str) -> None:
        """Take note of a module's transition."""
        if online:
            self._modules_down.pop(module_id, None)
            self._kick(module_id)
        else:
            self._modules_down[module_id] = detail
        self._note("module", module_id)

    def note_line(self, line_id: str, *, online: bool, detail: str) -> None:
        """Take note of a line's transition."""
        if online:
            self._lines_down.pop(line_id, None)
        else:
            self._lines_down[line_id] = detail
        self._note("line", line_id)
        if online:
            for module_id in self._on_line(line_id):
                self._kick(module_id)

    async def sweep(self, due: Sequence[Cut] = ()) -> None:
        """Tell of modules that stay silent although their line is up, and of silences before a cut.

        Also writes the transitions that the books did not take. `due` are cuts that wait only for a reading.
        """
        unwritten, self._unwritten = self._unwritten, set()
        for kind, subject_id in sorted(unwritten):
            self._note(kind, subject_id)
        silent = [
            module_id
            for module_id in self._modules_down
            if (AlarmKind.MODULE_OFFLINE.value, module_id) not in self._told
            and self._line_of.get(module_id) not in self._lines_down
        ]
        for module_id in silent:
            self._note("module", module_id)
        self._spawn(partial(self._write_cuts, list(due)))
        self._spawn(partial(tampering.clear_quiet_nights, zone=self._zone))
        await self.settle()

    async def settle(self) -> None:
        """Wait until what was noted is written."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _on_line(self, line_id: str) -> list[str]:
        return [module_id for module_id, line in self._line_of.items() if line == line_id]

    def _note(self, kind: str, subject_id: str) -> None:
        """Have it written how a module or a line is by then, together with others that are noted meanwhile."""
        self._noted[kind, subject_id] = None
        if not self._noting:
            self._noting = True
            self._run_task(self._write_noted())

    async def _write_noted(self) -> None:
        try:
            while subjects := self._next_noted():
                for subject in subjects:  # what is noted of them from here on is written after this
                    del self._noted[subject]
                await self._write(partial(self._write_subjects, subjects), subjects)
        finally:
            self._noting = False

    def _next_noted(self) -> Sequence[tuple[str, str]]:
        first = list(itertools.islice(self._noted, ANSWERS_AT_ONCE))
        return [one for one in first if self._answers(*one)] or first[:NOTES_AT_ONCE]

    def _answers(self, kind: str, subject_id: str) -> bool:
        return kind == "module" and subject_id not in self._modules_down

    def _write_subjects(
        self, subjects: Sequence[tuple[str, str]], connection: Connection, *, now: datetime
    ) -> None:
        answering = [subject_id for kind, subject_id in subjects if self._answers(kind, subject_id)]
        if answering:
            self._write_answering(answering, connection, now=now)
        for kind, subject_id in subjects:
            if kind == "line":
                self._write_line(subject_id, connection, now=now)
            elif subject_id not in answering:
                self._write_silent(subject_id, connection, now=now)

    def _spawn(self, write: "Write") -> None:
        self._run_task(self._write(write, ()))

    def _run_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _write(self, write: "Write", subjects: Sequence[tuple[str, str]]) -> None:
        def in_transaction() -> None:
            with self._books.write() as connection:
                write(connection, now=self._clock.now())

        async with self._in_order:
            told = set(self._told)
            try:
                await self._run(in_transaction)
            except Exception:
                # Supervised: the sweep writes again how it is then.
                log.exception("control.contact_not_written")
                self._told = told
                self._unwritten.update(subjects)

    def _write_answering(self, module_ids: Sequence[str], connection: Connection, *, now: datetime) -> None:
        _write_online(connection, module_ids, online=True, now=now)
        tampering.note_answers(connection, kind="module", ids=module_ids, now=now)
        told = [one for one in module_ids if (AlarmKind.MODULE_OFFLINE.value, one) in self._told]
        alarms.clear_alarms(
            connection, kind=AlarmKind.MODULE_OFFLINE, subject_kind="module", subject_ids=told, now=now
        )
        self._told -= {(AlarmKind.MODULE_OFFLINE.value, one) for one in told}

    def _write_silent(self, module_id: str, connection: Connection, *, now: datetime) -> None:
        _write_online(connection, [module_id], online=False, now=now)
        line_id = self._line_of.get(module_id)
        if line_id in self._lines_down:  # behind a line that is down nobody fell silent alone
            return
        tampering.note_silence(connection, self._modules[module_id], zone=self._zone, now=now)
        self._raise(
            connection,
            AlarmKind.MODULE_OFFLINE,
            "module",
            module_id,
            now=now,
            detail={"detail": self._modules_down.get(module_id, ""), "line_id": line_id},
            module_id=module_id,
            line_id=line_id,
            building=self._building_of.get(module_id),
        )

    def _write_cuts(self, due: Sequence[Cut], connection: Connection, *, now: datetime) -> None:
        alone = {
            module_id: subject
            for module_id, subject in self._modules.items()
            if module_id in self._modules_down and subject.line_id not in self._lines_down
        }
        if alone:
            tampering.look_for_cuts(connection, alone, due=due, now=now)

    def _write_line(self, line_id: str, connection: Connection, *, now: datetime) -> None:
        on_line = self._on_line(line_id)
        detail = self._lines_down.get(line_id)  # once: it may come up while this is written
        online = detail is None
        subject = Subject(kind="line", id=line_id, building=None, line_id=line_id)
        if online:
            tampering.note_answers(connection, kind="line", ids=[line_id], now=now)
            self._clear(connection, AlarmKind.LINE_OFFLINE, "line", line_id, now)
            return
        tampering.note_silence(connection, subject, zone=self._zone, now=now)
        for module_id in on_line:
            self._clear(connection, AlarmKind.MODULE_OFFLINE, "module", module_id, now)
        buildings = {self._building_of[one] for one in on_line if one in self._building_of}
        self._raise(
            connection,
            AlarmKind.LINE_OFFLINE,
            "line",
            line_id,
            now=now,
            detail={"detail": detail, "modules": len(on_line)},
            line_id=line_id,
            building=buildings.pop() if len(buildings) == 1 else None,
        )

    def _raise(
        self,
        connection: Connection,
        kind: AlarmKind,
        subject_kind: str,
        subject_id: str,
        *,
        now: datetime,
        detail: dict[str, Any],
        **where: str | None,
    ) -> None:
        alarms.raise_alarm(
            connection,
            kind=kind,
            priority=PRIORITIES[kind],
            subject_kind=subject_kind,
            subject_id=subject_id,
            detail=detail,
            now=now,
            **where,
        )
        self._told.add((kind.value, subject_id))

    def _clear(
        self, connection: Connection, kind: AlarmKind, subject_kind: str, subject_id: str, now: datetime
    ) -> None:
        if (kind.value, subject_id) in self._told:
            alarms.clear_alarm(connection, kind=kind, subject_kind=subject_kind, subject_id=subject_id, now=now)
            self._told.discard((kind.value, subject_id))


def _write_online(connection: Connection, module_ids: Sequence[str], *, online: bool, now: datetime) -> None:
    connection.execute(
        sa.update(modules)
        .where(modules.c.module_id.in_(list(module_ids)))
        .values(online=online, online_changed_at=now)
    )
