"""Intake: samples from the field become readings, charges and observations, about one batch a second.

Theory of operation
-------------------
`submit` puts a module's sample into a bounded queue on the event loop. `run` takes batches from it and hands
each to the one writer thread, which commits in this order: the accepted readings, durable in their store; then
one transaction of the books with positions, segments, quarantines and what the policies decided, short while
intake keeps up, since the books have other writers; then, back on the event loop, the memory of the control
part and each sample's `done` (an MQTT acknowledgement). What memory holds changes only after the commit, so a
batch that failed is judged again from the same states: replaying changes nothing, because the readings store
overwrites the same (circuit, time) and a sample that the books have seen is late.

While the books or the readings store can't be reached the batch is kept and retried with back-off, and the
queue fills; what it then gives up, counted, is told in `sample_queue.py`. Any other fault ends `run`: a broken
invariant stops the gateway, loudly.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from dormpower.books import meters
from dormpower.books.database import Books, is_away
from dormpower.clock import Clock
from dormpower.domain.days import CampusDays
from dormpower.domain.meter_state import MeteringRules, MeterState
from dormpower.domain.samples import ModuleSample, Observation
from dormpower.readings.port import ReadingsStore, UnableToReachReadingsError
from gateway.batch import Batch
from gateway.plain_run import PlainRun
from gateway.point_memory import PointConfig, PointMemory
from gateway.sample_queue import Queued, SampleQueue
from gateway.steady_rows import SteadyRows

log = structlog.get_logger()

AfterCommit = Callable[[], None]
DecideBatch = Callable[[Connection, Sequence[Observation], datetime], AfterCommit]

BATCH_S = 1.0
BATCH_LIMIT = 5_000
# While intake keeps up a transaction takes as many samples as fit into this time by the one before: a campus
# that is believed for the first time costs more a sample, and who pays waits for the same write lock.
TRANSACTION_S = 0.02
LEAST_FITTING = 32
SHORT_QUEUE = 1_000
QUEUE_LIMIT = 50_000
FIRST_RETRY_S = 0.5
LAST_RETRY_S = 30.0
# A module's clock and ours may differ by this; the second figure is real time, for clocks that run fast.
AHEAD = timedelta(minutes=5)
AHEAD_REAL_S = 30


@dataclass(slots=True)
class IntakeCounters:
    """What intake has done since it started; channel samples, except batches and dropped module samples."""

    accepted: int = 0
    late: int = 0
    quarantined: int = 0
    refused: int = 0
    commissioning: int = 0
    without_register: int = 0
    unknown_channel: int = 0
    plain: int = 0
    """Of the accepted and those without a register: judged together."""
    batches: int = 0
    batch_seconds: float = 0.0
    retries: int = 0
    queue_depth: int = 0
    dropped: int = 0


class Intake:
    """Takes samples in. All methods belong to the event loop's thread.

    `turn` is held around each batch until memory knows what it committed; control holds it around its looks.
    `steady` are the rows shared with control; without them every sample is judged by itself, because
    nobody says which circuits are calm. `note_plain` is told of a batch's plain samples after the commit.
    """

    def __init__(
        self,
        *,
        books: Books,
        readings: ReadingsStore,
        clock: Clock,
        points: Mapping[tuple[str, int], PointConfig],
        poll_cycle_s: float,
        zone: tzinfo,
        decide: DecideBatch,
        writer: Executor,
        turn: asyncio.Lock | None = None,
        steady: SteadyRows | None = None,
        note_plain: Callable[[PlainRun], None] = lambda _: None,
        batch_s: float = BATCH_S,
        batch_limit: int = BATCH_LIMIT,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        self.counters = IntakeCounters()
        self._books = books
        self._readings = readings
        self._clock = clock
        self._points = points
        self._channels = {(point.circuit_id, *channel) for channel, point in points.items()}
        self._decide = decide
        self._writer = writer
        self._batch_s = batch_s
        self._batch_limit = batch_limit
        self.rules = MeteringRules(
            days=CampusDays(zone),
            boundary_within=timedelta(seconds=2 * poll_cycle_s * clock.speed),
            ahead=max(AHEAD, timedelta(seconds=AHEAD_REAL_S * clock.speed)),
        )
        steady = steady or SteadyRows(dict.fromkeys(point.circuit_id for point in points.values()))
        self._memory = PointMemory(steady, points)
        self._note_plain = note_plain
        self._queue = SampleQueue(queue_limit)
        self._pending: list[Queued] = []  # the batch that failed, first in line
        self._fitting = batch_limit
        self._reloads: set[str] = set()
        self._wake = asyncio.Event()
        self._full = asyncio.Event()  # a whole batch waits
        self._committing = asyncio.Lock()
        self._turn = turn or asyncio.Lock()
        self._opened = False

    def submit(self, sample: ModuleSample, *, done: Callable[[], None] | None = None) -> None:
        """Queue a sample; `done` is called on the event loop once it is committed."""
        if self._queue.put(sample, done):
            self.counters.queue_depth += 1
            if self.counters.queue_depth == self._batch_limit:
                self._full.set()
        else:
            self.counters.dropped += 1
        if not self._wake.is_set():
            self._wake.set()

    def reload(self, circuit_id: str) -> None:
        """Read a circuit's meter point again at once: a person changed its module, or decided about it."""
        self._reloads.add(circuit_id)
        self._wake.set()

    def state(self, circuit_id: str) -> MeterState | None:
        """Return a circuit's committed meter state; None before the first batch or for an unknown circuit."""
        return self._memory.state(circuit_id)

    async def run(self) -> None:
        """Take batches in until cancelled; what is queued then is left to `flush`."""
        retry_s = FIRST_RETRY_S
        stalled = False
        while True:
            await self._wake.wait()
            started = self._clock.monotonic()
            try:
                await self.flush()
            except (UnableToReachReadingsError, OSError, sa.exc.DBAPIError) as fault:
                if not is_outage(fault):
                    raise
                self.counters.retries += 1
                if not stalled:
                    stalled = True
                    log.warning("intake.stalled", fault=str(fault), waiting=len(self._pending))
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, LAST_RETRY_S)
                continue
            if stalled:
                log.info("intake.resumed")
            stalled = False
            retry_s = FIRST_RETRY_S
            pause_s = self._batch_s - (self._clock.monotonic() - started)
            if pause_s > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause_s):
                        await self._full.wait()

    async def flush(self) -> None:
        """Commit all that is queued now. Raises what the books or the readings store raise; nothing is lost."""
        async with self._committing:
            self._wake.clear()
            left = len(self._pending) + len(self._queue)
            first = True
            while left > 0 or (first and (self._reloads or not self._opened)):
                left -= await self._commit_next()
                first = False

    async def _commit_next(self) -> int:
        async with self._turn:
            return await self._commit_batch()

    async def _commit_batch(self) -> int:
        self._pending += self._queue.take(self._share() - len(self._pending))
        self.counters.queue_depth = len(self._queue)
        if self.counters.queue_depth < self._batch_limit:
            self._full.clear()
        pending, reloads = self._pending, frozenset(self._reloads)
        started = self._clock.monotonic()
        loop = asyncio.get_running_loop()
        commit = loop.run_in_executor(self._writer, self._commit, pending, reloads)
        try:
            batch, after_commit = await asyncio.shield(commit)
        except asyncio.CancelledError:
            # The thread goes on; the batch counts if it commits, and its samples are late if they come again.
            await asyncio.wait([commit])
            if commit.exception() is None:
                batch, after_commit = commit.result()
                self._finish(pending, reloads, batch, after_commit, started)
            raise
        except BaseException:
            self._wake.set()
            raise
        self._finish(pending, reloads, batch, after_commit, started)
        return len(pending)

    def _share(self) -> int:
        """Return how many samples the next transaction takes: as many as may be when intake is behind."""
        behind = len(self._pending) + len(self._queue) > SHORT_QUEUE
        return self._batch_limit if behind else min(self._fitting, self._batch_limit)

    def _finish(
        self,
        pending: list[Queued],
        reloads: frozenset[str],
        batch: Batch,
        after_commit: AfterCommit,
        started: float,
    ) -> None:
        self._pending = []
        self._reloads -= reloads
        self._opened = True
        self._memory.take_over(batch)
        self._count(batch)
        self.counters.batches += 1
        self.counters.batch_seconds += self._clock.monotonic() - started
        after_commit()
        if batch.plain is not None:
            self.counters.plain += len(batch.plain.samples)
            self._note_plain(batch.plain)
        for _, done in pending:
            if done is not None:
                done()

    def _commit(self, pending: Sequence[Queued], reloads: frozenset[str]) -> tuple[Batch, AfterCommit]:
        """Judge and commit a batch, in the writer thread; memory is left as it was."""
        now = self._clock.now()
        batch = self._new_batch(now)
        opened: Mapping[str, meters.MeterPoint] = {}
        if reloads or not self._opened:
            with self._books.write() as connection:
                opened = meters.open_points(
                    connection,
                    rules=self.rules,
                    channels=self._channels,
                    circuit_ids=reloads if self._opened else None,
                )
                batch.adopt(opened, connection)
        with self._books.read() as connection:
            asked = batch.is_asked(connection)
        if not asked:
            # Before the write lock is taken: who pays meanwhile need not wait for it.
            self._judge(batch, pending)
        with self._books.write() as connection:
            began_s = self._clock.monotonic()
            if not asked and batch.is_asked(connection):  # meanwhile: the samples are judged anew after it
                asked, batch = True, self._new_batch(now)
                batch.adopt(opened, connection)
            if asked:
                batch.apply_changes(connection)
                batch.apply_decisions(connection)
                self._judge(batch, pending)
            refined = batch.write(connection)
            if refined:
                self._readings.append(refined)
            after_commit = self._decide(connection, batch.observations, now)
            took_s = (
                self._clock.monotonic() - began_s
            )  # without the disk's share, the same for few and for many
        if pending:
            self._fitting = fitting(len(pending), took_s)
        return batch, after_commit

    def _new_batch(self, now: datetime) -> Batch:
        return Batch(memory=self._memory, points=self._points, rules=self.rules, now=now)

    def _judge(self, batch: Batch, pending: Sequence[Queued]) -> None:
        batch.take([sample for sample, _ in pending])
        if readings := batch.all_readings():
            self._readings.append(readings)

    def _count(self, batch: Batch) -> None:
        for name in (
            "accepted",
            "late",
            "quarantined",
            "refused",
            "commissioning",
            "without_register",
            "unknown_channel",
        ):
            setattr(self.counters, name, getattr(self.counters, name) + batch.counted[name])
        batch.log_transitions()


def fitting(samples: int, took_s: float) -> int:
    """Return how many samples fit into `TRANSACTION_S`, where so many took so long."""
    if took_s <= 0:
        return BATCH_LIMIT
    return max(LEAST_FITTING, int(samples * TRANSACTION_S / took_s))


def is_outage(fault: BaseException) -> bool:
    """Whether a fault passes by itself (store or database away or busy), so that the batch is worth keeping."""
    return is_away(fault) or isinstance(fault, UnableToReachReadingsError | OSError)
