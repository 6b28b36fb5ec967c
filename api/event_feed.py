"""The feed behind `GET /events`: one reader of the books for all streams.

Theory of operation. One task polls the `events` table and hands each batch of new rows to every open stream's
bounded queue. The rows only say that a circuit or an alarm changed; what is sent is the object as it is at that
moment, read once a batch for all streams. A stream that does not keep up loses its queue and gets `resync`:
read everything again. A client that comes back with Last-Event-ID gets what it missed, or `resync` where that
is too old, too much or not ours.

Ids grow in the order of insertion, but on PostgreSQL transactions may commit in another order. A gap in the ids
is therefore waited for, at most 2 s (after that it is a transaction that was rolled back), so that nobody
resumes behind a row that nobody has seen.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from dormpower.books import alarms, circuits_view, events
from dormpower.books.alarms import Alarm
from dormpower.books.circuits_view import CircuitView, Present
from dormpower.books.database import Books
from dormpower.books.events import Event

log = structlog.get_logger()

BATCH = 500
QUEUE_BATCHES = 64
MAX_MISSED = 1000
_GAP_WAIT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Events in order, with the present objects of their subjects. `resync` says that events were lost."""

    events: Sequence[Event] = ()
    circuits: Mapping[str, CircuitView] = field(default_factory=dict)
    alarms: Mapping[str, Alarm] = field(default_factory=dict)
    resync: bool = False
    latest_id: int = 0


class Stream:
    """One client's place in the feed."""

    def __init__(self, user_id: int) -> None:
        self.user_id = user_id
        self._batches: asyncio.Queue[Batch] = asyncio.Queue(maxsize=QUEUE_BATCHES)
        self._overflowed = False
        self.ended = False

    def put(self, batch: Batch) -> None:
        """Queue a batch; a full queue is emptied and replaced by `resync`, and given up the second time."""
        if self._batches.full():
            self.ended = self._overflowed  # nobody has taken anything since: the client is gone
            self._overflowed = True
            while not self._batches.empty():
                self._batches.get_nowait()
            batch = Batch(resync=True, latest_id=batch.latest_id)
        self._batches.put_nowait(batch)

    async def next(self, timeout_s: float) -> Batch | None:
        """Wait for the next batch; None where none came in time, or the feed ended."""
        if self.ended:
            return None
        try:
            async with asyncio.timeout(timeout_s):
                batch = await self._batches.get()
        except TimeoutError:
            return None
        self._overflowed = False
        return batch

    def end(self) -> None:
        """End the stream: whoever waits gets an empty batch and looks at `ended`."""
        self.ended = True
        self.put(Batch())


class TooManyStreamsError(Exception):
    """No room for another stream; `by_user` tells whether it is this user's own bound."""

    def __init__(self, *, by_user: bool) -> None:
        super().__init__("too many streams")
        self.by_user = by_user


class EventFeed:
    """Polls while anybody listens. All public methods are for the event loop's thread."""

    def __init__(
        self,
        *,
        books: Books,
        present: Callable[[Connection], Present],
        poll_s: float,
        max_streams: int,
        max_streams_a_user: int,
    ) -> None:
        self._books = books
        self._present = present
        self._poll_s = poll_s
        self._max_streams = max_streams
        self._max_streams_a_user = max_streams_a_user
        self._streams: set[Stream] = set()
        self._task: asyncio.Task[None] | None = None
        self._latest_id: int | None = None
        self._gap_since: tuple[int, float] | None = None
        self._closed = False
        self._unreachable = False
        self._positioning = asyncio.Lock()

    @property
    def streams(self) -> int:
        """How many streams are open."""
        return len(self._streams)

    async def open(self, *, user_id: int, last_event_id: int | None) -> Stream:
        """Open a stream, with what was missed since `last_event_id` queued. Raises TooManyStreamsError."""
        if len(self._streams) >= self._max_streams or self._closed:
            raise TooManyStreamsError(by_user=False)
        if sum(stream.user_id == user_id for stream in self._streams) >= self._max_streams_a_user:
            raise TooManyStreamsError(by_user=True)
        stream = Stream(user_id)
        async with self._positioning:
            if self._latest_id is None:
                self._latest_id = await asyncio.to_thread(self._read_latest_id)
            up_to = self._latest_id
            self._streams.add(stream)
        if self._task is None:
            self._task = asyncio.create_task(self._poll_for_ever(), name="event-feed")
        if last_event_id is not None:
            try:
                stream.put(await asyncio.to_thread(self._read_missed, last_event_id, up_to))
            except BaseException:
                self.close(stream)
                raise
        return stream

    def close(self, stream: Stream) -> None:
        """Forget a stream; with the last one polling pauses."""
        self._streams.discard(stream)

    def shut(self) -> None:
        """End all streams and take no more: the process is going down."""
        self._closed = True
        for stream in self._streams:
            stream.end()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _poll_for_ever(self) -> None:
        while self._streams:
            await asyncio.sleep(self._poll_s)
            try:
                await self._poll_once()
            except SQLAlchemyError as fault:
                if not self._unreachable:
                    log.warning("events.books_unreachable", fault=type(fault).__name__)
                self._unreachable = True
            else:
                if self._unreachable:
                    log.info("events.books_reachable")
                self._unreachable = False
        self._task = None
        self._latest_id = None  # nobody listens: the next stream starts from the present again

    async def _poll_once(self) -> None:
        async with self._positioning:
            batch = await asyncio.to_thread(self._read_new)
            if batch is None:
                return
            self._latest_id = batch.latest_id
            for stream in list(self._streams):
                stream.put(batch)
                if stream.ended:
                    self.close(stream)

    # --- in a worker thread --------------------------------------------------------------------------------

    def _read_latest_id(self) -> int:
        with self._books.read() as connection:
            return events.latest_id(connection) or 0

    def _read_new(self) -> Batch | None:
        since = self._latest_id or 0
        with self._books.read() as connection:
            found = self._up_to_gap(events.after(connection, since, BATCH), since)
            return self._batch(connection, found) if found else None

    def _read_missed(self, last_event_id: int, up_to: int) -> Batch:
        """Return what came after an id, up to where the stream's own queue begins."""
        if last_event_id == up_to:
            return Batch(latest_id=up_to)
        with self._books.read() as connection:
            oldest = events.oldest_id(connection)
            ours = oldest is not None and oldest - 1 <= last_event_id < up_to
            if not ours or up_to - last_event_id > MAX_MISSED:
                return Batch(resync=True, latest_id=up_to)
            found = [
                event
                for event in events.after(connection, last_event_id, MAX_MISSED)
                if event.event_id <= up_to
            ]
            return self._batch(connection, found) if found else Batch(latest_id=up_to)

    def _up_to_gap(self, found: list[Event], since: int) -> list[Event]:
        expected = since + 1
        for index, event in enumerate(found):
            if event.event_id != expected and not self._waited_for(expected):
                return found[:index]
            expected = event.event_id + 1
        self._gap_since = None
        return found

    def _waited_for(self, missing_id: int) -> bool:
        now = time.monotonic()
        if self._gap_since is None or self._gap_since[0] != missing_id:
            self._gap_since = (missing_id, now)
            return False
        return now - self._gap_since[1] >= _GAP_WAIT_S

    def _batch(self, connection: Connection, found: Sequence[Event]) -> Batch:
        circuit_ids = sorted({event.subject_id for event in found if event.kind == "circuit"})
        alarm_ids = sorted({event.subject_id for event in found if event.kind == "alarm"})
        views: dict[str, CircuitView] = {}
        if circuit_ids:
            views = circuits_view.of_circuits(
                connection, circuit_ids=circuit_ids, present=self._present(connection)
            )
        return Batch(
            events=found,
            circuits=views,
            alarms=alarms.by_ids(connection, alarm_ids) if alarm_ids else {},
            latest_id=found[-1].event_id,
        )
