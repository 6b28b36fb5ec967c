"""Control: looks at what intake took in and at what the books want, decides, and has the reconciler act.

What is known of circuits, and what the rules say of one, is `gateway.looks`; here it is decided when to look.
Three ways lead to a look at a circuit: an observation (in intake's transaction), an intent (somebody committed
something that can change a wanted relay), and the sweep once a minute. All three ask the same rules with the
same facts, so that a lost hint or a restart costs time, never a decision. Decisions are made on the gateway's
one writer thread; relays are switched from the event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from datetime import datetime
from typing import TypeVar
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.engine import Connection

from dormpower.books import (
    commands,
    intents,
    meter_changes,
    openings,
    quarantines,
    shadow,
    states,
)
from dormpower.books import control as books_control
from dormpower.books.database import Books
from dormpower.books.intents import Intent
from dormpower.clock import Clock
from dormpower.domain.holds import SupplyState
from dormpower.domain.openings import OpeningsPolicy
from dormpower.domain.samples import Observation
from dormpower.domain.silences import Cut
from dormpower.domain.spread import SpreadPolicy
from dormpower.wake import WakeListener
from gateway import policy_changes
from gateway.closing_room import Room
from gateway.contacts import Contacts
from gateway.control_memory import CircuitMemory, ControlledCircuit
from gateway.decisions import PaymentPending
from gateway.looking import (
    Outcome,
)
from gateway.looks import BatchLooks, Looks
from gateway.policies import CircuitFacts, Policy
from gateway.ports import Switch
from gateway.reconciler import Reconciler
from gateway.steady_rows import SteadyRows

log = structlog.get_logger()

INTENTS_AT_ONCE = 200
SWEEP_CHUNK = 100  # some 10 ms of the writer, which commands and intents share
DUE_CHUNK = 20  # at a boundary every look writes: the transactions stay short
SWEEP_S = 60.0
TICK_S = 1.0
METERING_CAUSES = frozenset({meter_changes.INTENT_CAUSE, quarantines.INTENT_CAUSE})

Result = TypeVar("Result")


class Control:
    """The gateway's control part; see the module's text."""

    def __init__(
        self,
        *,
        books: Books,
        clock: Clock,
        switch: Switch,
        circuits: Mapping[str, ControlledCircuit],
        policies: Sequence[Policy],
        executor: Executor,
        zone: ZoneInfo,
        stale_after_s: float,
        warning_channels: Sequence[str] = (),
        payment_pending: PaymentPending | None = None,
        reload: Callable[[str], None] = lambda _: None,
        wake: WakeListener | None = None,
        spread: SpreadPolicy | None = None,
        room: Room | None = None,
        line_of: Mapping[str, str] | None = None,
        openings_policy: OpeningsPolicy | None = None,
        steady: SteadyRows | None = None,
    ) -> None:
        self._books = books
        self._clock = clock
        self._executor = executor
        self._stale_after_s = stale_after_s
        self._reload = reload  # of a circuit whose metering a person changed: intake reads it anew
        self._wake = wake
        # Held from the start of a look until memory knows its outcome: the next look starts from there. Intake
        # holds it around each batch, since `decide_batch` looks too.
        self.turn = asyncio.Lock()
        self.looks = Looks(
            clock=clock,
            circuits=circuits,
            policies=policies,
            zone=zone,
            stale_after_s=stale_after_s,
            warning_channels=warning_channels,
            payment_pending=payment_pending,
            openings_policy=openings_policy or OpeningsPolicy(),
            steady=steady or SteadyRows(circuits),
        )
        self._contacts = Contacts(
            books=books,
            clock=clock,
            circuits=circuits,
            run=self.run_on_writer,
            kick=self._kick_module,
            zone=zone,
            line_of=line_of,
        )
        self.reconciler = Reconciler(
            books=books,
            clock=clock,
            switch=switch,
            memories=self.looks.memories,
            run=self.run_on_writer,
            reachable=self._contacts.reachable,
            stale_after_s=stale_after_s,
            spread=spread,
            room=room,
        )

    def adopt(
        self,
        policies: Sequence[Policy],
        *,
        spread: SpreadPolicy,
        warning_channels: Sequence[str],
        circuits: Mapping[str, ControlledCircuit],
    ) -> None:
        """Go by other policies from now on: under `turn`, after the commit that put them on record.

        What rules make of the samples goes on as far as the new ones can take it over. A sweep then looks at
        everything with them.
        """
        self.looks.adopt(policies, warning_channels=warning_channels, circuits=circuits)
        self.reconciler.adopt(spread)

    def facts_now(self, connection: Connection, circuit_id: str, policy: Policy) -> CircuitFacts:
        """Return what a policy would look at now, without a new sample: for trying one out. Under `turn`."""
        return self.looks.facts_now(connection, circuit_id, policy)

    def memory(self, circuit_id: str) -> CircuitMemory:
        """Return what is in memory of a circuit: for figures and tests, not for changing."""
        return self.looks.memories[circuit_id]

    # --- start ---------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take over everything from the books; commands that a gateway's end cut off are put to rest."""
        now = self._clock.now()
        with self._books.write() as connection:
            commands.interrupt_unfinished(connection, now)
            states.set_stale_after_s(connection, self._stale_after_s)
            in_shadow = shadow.awaits_confirmation(connection)
            policy_changes.take_over(connection, self.looks.policies, shadow_only=in_shadow, now=now)
        with self._books.read() as connection:
            self.looks.begin(connection, now)
            self._contacts.load(connection)

    # --- observations --------------------------------------------------------------------------------------

    def decide_batch(
        self, connection: Connection, observations: Sequence[Observation], now: datetime
    ) -> Callable[[], None]:
        """Judge a batch in intake's transaction; return what to do to memory after its commit.

        An unchanged observation of a quiet circuit costs no query. Runs on the writer thread; what it returns
        runs on the event loop.
        """
        looked = self.looks.at_batch(connection, observations, now)
        return lambda: self._take_over_batch(looked)

    def is_fresh(self, memory: CircuitMemory) -> bool:
        """Whether an accepted reading of a circuit is within the stale limit."""
        return self.looks.is_fresh(memory)

    def _take_over_batch(self, looked: BatchLooks) -> None:
        first_seen = self.looks.end_batch(looked.touched)
        self._take_over(looked.outcomes, judged=True)
        for circuit_id in first_seen:
            self.looks.settle(circuit_id)
            self.reconciler.kick(circuit_id)

    def _take_over(self, found: Sequence[tuple[CircuitMemory, Outcome]], *, judged: bool) -> None:
        """Take outcomes over into memory and look at the relays where they are not as wanted."""
        for memory, outcome in found:
            self.looks.take_over(memory, outcome, judged=judged)
            if memory.seen and memory.circuit.has_relay:
                self.reconciler.kick(memory.circuit.circuit_id)

    # --- intents and sweep ---------------------------------------------------------------------------------

    async def handle_intents(self) -> int:
        """Take what is unhandled, decide anew, and reconcile these circuits at once; return how many."""
        async with self.turn:
            handled, found = await self.run_on_writer(self._handle)
            self._take_over(found, judged=False)
        for circuit_id in sorted({one.circuit_id for one in handled if one.cause in METERING_CAUSES}):
            self._reload(circuit_id)
        return len(handled)

    def _handle(self) -> tuple[list[Intent], list[tuple[CircuitMemory, Outcome]]]:
        now = self._clock.now()
        with self._books.read() as connection:
            if not intents.unhandled(connection, 1):
                return [], []
        with self._books.write() as connection:
            taken = intents.unhandled(connection, INTENTS_AT_ONCE)
            found = self.looks.again(connection, {intent.circuit_id for intent in taken}, now)
            openings.keep_up(connection, now=now)
            intents.mark_handled(connection, [intent.intent_id for intent in taken], now)
        return taken, found

    async def look_due(self) -> int:
        """Look at the circuits at which a schedule's boundary has come; return how many."""
        now = self._clock.now()
        due = sorted(circuit_id for circuit_id, at in self.looks.due_at.items() if at <= now)
        for start in range(0, len(due), DUE_CHUNK):
            chunk = set(due[start : start + DUE_CHUNK])
            await self._look_at_chunk(chunk)
        return len(due)

    async def sweep(self) -> None:
        """Look at everything: what a lost hint, a missed timer or a silent module left undone.

        Intents are taken between the chunks: who has just paid waits for one of them, not for a whole campus.
        """
        ids = sorted(self.looks.memories)
        for start in range(0, len(ids), SWEEP_CHUNK):
            chunk = set(ids[start : start + SWEEP_CHUNK])
            await self._look_at_chunk(chunk)
            while await self.handle_intents():
                pass
        await self.run_on_writer(self._ask_again)
        await self._contacts.sweep(
            [
                Cut(circuit_id=circuit_id, at=memory.cut_due_at)
                for circuit_id, memory in self.looks.memories.items()
                if memory.cut_due_at is not None
            ]
        )

    def _ask_again(self) -> None:
        now = self._clock.now()
        with self._books.write() as connection:
            books_control.ask_again(connection, now)

    async def _look_at_chunk(self, circuit_ids: set[str]) -> None:
        async with self.turn:
            found = await self.run_on_writer(lambda: self._sweep_chunk(circuit_ids))
            self._take_over(found, judged=False)

    def _sweep_chunk(self, circuit_ids: set[str]) -> list[tuple[CircuitMemory, Outcome]]:
        with self._books.write() as connection:
            return self.looks.again(connection, circuit_ids, self._clock.now())

    # --- contact with the field ----------------------------------------------------------------------------

    def reachable(self, memory: CircuitMemory) -> bool:
        """Whether a circuit's module and line are in contact."""
        return self._contacts.reachable(memory)

    def note_module(self, module_id: str, *, online: bool, detail: str = "") -> None:
        """Take note that a module answers again, or no longer; call on transitions."""
        self._contacts.note_module(module_id, online=online, detail=detail)

    def note_line(self, line_id: str, *, online: bool, detail: str = "") -> None:
        """Take note that a line is up again, or down: one alarm, whatever hangs on it."""
        self._contacts.note_line(line_id, online=online, detail=detail)

    def _kick_module(self, module_id: str) -> None:
        for circuit_id in self.looks.of_module(module_id):
            if self.looks.memories[circuit_id].seen:
                self.reconciler.kick(circuit_id)

    # --- running -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve wake-ups, intents, timers and the sweep until cancelled."""
        swept_at = self._clock.monotonic()
        while True:
            if self._wake is not None:
                await self._wake.wait(TICK_S)
            else:
                await asyncio.sleep(TICK_S)
            try:
                while await self.handle_intents():
                    pass
                await self.look_due()
                self.reconciler.kick_due()
                if self._clock.monotonic() - swept_at >= SWEEP_S:
                    swept_at = self._clock.monotonic()
                    await self.sweep()
            except Exception:
                # Supervised: the books may be away for a moment; the next tick tries again.
                log.exception("control.tick_failed")

    async def settle(self) -> None:
        """Wait until notes are written and no command is under way."""
        await self._contacts.settle()
        await self.reconciler.settle()

    def run_on_writer(self, function: Callable[[], Result]) -> Awaitable[Result]:
        """Run a function on the one thread that writes the gateway's part of the books."""
        return asyncio.get_running_loop().run_in_executor(self._executor, function)

    def figures(self) -> dict[str, int]:
        """Return how many circuits are in each supply state."""
        counts = dict.fromkeys((state.value for state in SupplyState), 0)
        for memory in self.looks.memories.values():
            counts[memory.state.value] += 1
        return counts
