"""One Modbus line: one request at a time, commands ahead of polls, and no answer ever taken for another's.

Theory of operation
-------------------
- A request has the line to itself from its first byte to its answer or its deadline. Who waits stands in one of
  two lanes; the command lane is served first (`turns.py`).
- Polls of modules side by side are a *series*: each request is sent as soon as the answer before it is there,
  without waking anybody in between. A series ends where somebody waits for the line, or something goes wrong.
- Deadlines are swept by one timer a line instead of one for each request.
- Modbus TCP answers carry a transaction id; late ones are dropped by it. RTU answers carry none: an answer from
  another unit, for another function or of another length is dropped and waited past. After a time-out the line
  rests until it has been silent for half a time-out; if the answer that is owed did not come meanwhile and the
  line is TCP, the connection is replaced, because what arrives on a closed one can't be taken for anything.
  The unit that owes it is not asked by the same function before two more time-outs are over, because a serial
  port has no connection to replace, and some converters pass late bytes on to the new one. Other units are.
- A connection that fails is opened again after a delay that doubles up to a bound, with jitter. Nothing is sent
  twice by the line itself: repeating is the caller's decision.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dormpower.domain.site import Framer, Line, Transport
from gateway.drivers.modbus.frames import (
    EXCEPTION,
    EXCEPTION_NAMES,
    SILENT_BEHIND_GATEWAY,
    Cutter,
    Frame,
    Request,
    RtuCutter,
    SocketCutter,
    UnableToCutError,
    fits,
)
from gateway.drivers.modbus.transport import Connector, Link, UnableToConnectError, open_link
from gateway.drivers.modbus.turns import Priority, Turns
from gateway.drivers.modbus.wire import silence_s, transfer_s
from gateway.ports import (
    ConnectionLostError,
    FieldError,
    LineDownError,
    NoAnswerError,
    RefusedError,
    UnusableReplyError,
)

MAX_BUFFER_BYTES = 4096
SILENT_REQUESTS_BEFORE_RECONNECT = 5
LATEST_ANSWER_TIMEOUTS = 2
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
SHORTEST_CONNECT_S = 2.0


class RequestWithdrawnError(FieldError):
    """The caller no longer wanted the request when its turn came; nothing was sent."""


@dataclass(slots=True)
class LineCounters:
    """What happened on a line since it was made."""

    requests: int = 0
    timeouts: int = 0
    unusable: int = 0
    refused: int = 0
    strays: int = 0
    connections: int = 0
    failed_connections: int = 0


@dataclass(slots=True, eq=False)
class _Series:
    """Requests that follow each other, and who takes their answers."""

    requests: Sequence[Request]
    take: Callable[[bytes], None]
    answered: int = 0


class ModbusLine:
    """One bus; owns its connection and opens it when needed."""

    def __init__(
        self, line: Line, *, connector: Connector = open_link, jitter: Callable[[], float] | None = None
    ):
        self.line = line
        self.counters = LineCounters()
        self._connector = connector
        self._jitter = jitter if jitter is not None else random.random  # spreads retries, guards nothing
        self._rtu = line.transport is Transport.SERIAL or line.framer is Framer.RTU
        self._cutter: Cutter = RtuCutter() if self._rtu else SocketCutter()
        self._timeout_s = line.timeout_ms / 1000
        self._gap_s = max(line.gap_ms / 1000, silence_s(line))
        self._link: Link | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # kept, since asking for it is a call of the system
        self._buffer = b""
        self._closed = False
        self._turns = Turns(line.line_id)
        self._request: Request | None = None
        self._series: _Series | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._transaction = 0
        self._deadline_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._last_byte_s = 0.0
        self._owed: dict[tuple[int, int], tuple[Request, float]] = {}  # by unit and function, until when
        self._dirty = False
        self._stray = ""
        self._silent_requests = 0
        self._proven = False
        self._failures = 0
        self._retry_at_s = 0.0

    # --- what others use ---------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        """Whether the connection is open now."""
        return self._link is not None

    @property
    def retry_in_s(self) -> float:
        """Seconds until a connection may be tried again; 0 when it may be tried now."""
        return max(0.0, self._retry_at_s - asyncio.get_running_loop().time())

    async def execute(
        self,
        request: Request,
        *,
        priority: Priority = Priority.POLL,
        wanted: Callable[[], bool] | None = None,
        gap_s: float = 0.0,
    ) -> bytes:
        """Send a request and return its answer's PDU, checked for unit, function and length.

        `wanted` is asked immediately before the first byte is sent. Raises LineDownError, NoAnswerError,
        UnusableReplyError, RefusedError, LineBusyError, RequestWithdrawnError.
        """
        await self._turns.take(priority)
        try:
            await self._make_ready(request, gap_s)
            if wanted is not None and not wanted():
                raise RequestWithdrawnError(f"line {self.line.line_id}: withdrawn before it was sent")
            return await self._transact(request)
        finally:
            self._turns.pass_on()

    @property
    def takes_series(self) -> bool:
        """Whether requests may follow each other at once: the bus needs no rest, answers are told apart."""
        return not self._rtu and not self._gap_s

    async def series(self, requests: Sequence[Request], take: Callable[[bytes], None]) -> None:
        """Send polls one after the other and hand each answer's PDU to `take`; one at least, where none fails.

        Ends early where somebody else waits for the line. Raises what `execute` and `take` raise, about the
        request after the answers that were taken.
        """
        await self._turns.take(Priority.POLL)
        try:
            await self._make_ready(requests[0], 0.0)
            self._series = _Series(requests, take)
            await self._transact(requests[0])
        finally:
            self._series = None
            self._turns.pass_on()

    def close(self) -> None:
        """Close the connection for good; who waits gets LineDownError."""
        self._closed = True
        self._drop()
        self._turns.close()
        self._fail(LineDownError(f"line {self.line.line_id}: closed"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- one transaction ---------------------------------------------------------------------------------

    async def _make_ready(self, request: Request, gap_s: float) -> None:
        if self._link is None or self._dirty or self._silent_requests >= SILENT_REQUESTS_BEFORE_RECONNECT:
            await self._prepare()
        if self._owed:
            await self._outlast(request)
        if self._gap_s or gap_s:
            await self._rest(max(self._gap_s, gap_s))

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        return loop

    async def _transact(self, request: Request) -> bytes:
        loop = self._running_loop()
        answer: asyncio.Future[bytes] = loop.create_future()
        self._answer = answer
        try:
            self._send(request, loop)
            if self._timer is None:
                self._timer = loop.call_at(self._deadline_s, self._sweep)
            return await answer
        except asyncio.CancelledError:
            self._owe(request)
            raise
        finally:
            self._request = self._answer = None

    def _send(self, request: Request, loop: asyncio.AbstractEventLoop) -> None:
        if self._link is None:
            raise LineDownError(f"line {self.line.line_id}: {self.line.endpoint}: connection lost")
        self._transaction = self._transaction % 0xFFFF + 1
        self._request = request
        self._stray = ""
        self._silent_requests += 1
        self.counters.requests += 1
        self._deadline_s = loop.time() + self._timeout_s
        if self._rtu:
            self._buffer = b""  # what came unasked is noise, not the start of this answer
            self._deadline_s += transfer_s(self.line, request)
        self._link.write(self._cutter.frame(request, self._transaction))

    def _go_on(self, series: _Series, pdu: bytes) -> None:
        """Hand an answer of a series on, and send the next request."""
        try:
            series.take(pdu)
            series.answered += 1
            if series.answered < len(series.requests) and not self._turns.awaited:
                self._send(series.requests[series.answered], self._running_loop())
                return
        except Exception as fault:  # noqa: BLE001 - raised again where the series is awaited
            self._fail(fault)
            return
        if self._answer is not None:
            self._answer.set_result(pdu)

    def _sweep(self) -> None:
        """Judge the deadline of the request in flight; one timer serves them all."""
        self._timer = None
        if self._answer is None or self._answer.done():
            return
        loop = asyncio.get_running_loop()
        if loop.time() < self._deadline_s:
            self._timer = loop.call_at(self._deadline_s, self._sweep)
            return
        request = self._request
        if request is not None:
            self._owe(request)
        unit = request.unit if request is not None else 0
        where = f"line {self.line.line_id} unit {unit}"
        if self._buffer or self._stray:
            self.counters.unusable += 1
            said = self._stray or f"only {len(self._buffer)} bytes of an answer"
            self._fail(UnusableReplyError(f"{where}: {said} within {self.line.timeout_ms} ms"))
            if not self._rtu and self._buffer:
                self._drop()  # half a frame would swallow the next answer
            return
        self.counters.timeouts += 1
        self._fail(NoAnswerError(f"{where}: no answer within {self.line.timeout_ms} ms"))

    def _owe(self, request: Request) -> None:
        if self._rtu:
            until_s = asyncio.get_running_loop().time() + LATEST_ANSWER_TIMEOUTS * self._timeout_s
            self._owed[request.unit, request.function] = (request, until_s)
            self._dirty = True

    def _fail(self, fault: Exception) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(fault)

    def _receive(self, data: bytes) -> None:
        self._silent_requests = 0
        self._last_byte_s = self._running_loop().time()
        self._buffer = self._buffer + data if self._buffer else data
        if len(self._buffer) > MAX_BUFFER_BYTES:
            self._out_of_step(f"{len(self._buffer)} bytes that are no answer")
            return
        while self._buffer:
            try:
                frame, self._buffer = self._cutter.cut(self._buffer)
            except UnableToCutError as fault:
                self._out_of_step(str(fault))
                return
            if frame is None:
                return
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        if self._owed and self._was_owed(frame):
            self.counters.strays += 1
            return
        request, answer, pdu = self._request, self._answer, frame.pdu
        if request is None or answer is None or answer.done():
            self.counters.strays += 1
            return
        if not self._rtu and frame.transaction != self._transaction:
            self.counters.strays += 1  # a late answer to a request before
            return
        if frame.unit != request.unit or not fits(request, pdu):
            self.counters.strays += 1
            self._stray = f"an answer of unit {frame.unit}, function {pdu[0]}, {len(pdu)} bytes"
            if not self._rtu:
                self.counters.unusable += 1
                where = f"line {self.line.line_id} unit {request.unit}"
                self._fail(UnusableReplyError(f"{where}: {self._stray}, which is not what was asked for"))
            return
        self._failures, self._proven = 0, True
        if pdu[0] & EXCEPTION:
            self._refuse(request.unit, pdu[1])
            return
        if self._series is None:
            answer.set_result(pdu)
        else:
            self._go_on(self._series, pdu)

    def _was_owed(self, frame: Frame) -> bool:
        """Whether an answer is a late one of before; then nothing is owed there any more."""
        owed = self._owed.get((frame.unit, frame.pdu[0] & ~EXCEPTION))
        if owed is None or not fits(owed[0], frame.pdu):
            return False
        del self._owed[frame.unit, owed[0].function]
        return True

    def _refuse(self, unit: int, code: int) -> None:
        where = f"line {self.line.line_id} unit {unit}"
        meaning = EXCEPTION_NAMES.get(code, "unknown exception")
        if code in SILENT_BEHIND_GATEWAY:
            self.counters.timeouts += 1
            self._fail(NoAnswerError(f"{where}: exception {code} ({meaning})"))
            return
        self.counters.refused += 1
        self._fail(RefusedError(f"{where}: refused with exception {code} ({meaning})", code=code))

    def _out_of_step(self, what: str) -> None:
        self._buffer = b""
        self.counters.unusable += 1
        unit = self._request.unit if self._request is not None else 0
        self._fail(UnusableReplyError(f"line {self.line.line_id} unit {unit}: {what}"))
        if self._rtu:
            self._dirty = True
        else:
            self._drop()

    # --- the connection ----------------------------------------------------------------------------------

    async def _prepare(self) -> None:
        """Bring the line to a state in which the next answer can only be the next request's."""
        if self._closed:
            raise LineDownError(f"line {self.line.line_id}: closed")
        if self._silent_requests >= SILENT_REQUESTS_BEFORE_RECONNECT:
            self._silent_requests = 0
            self._drop()  # a peer that vanished without a word looks just like this
        if self._link is not None and self._dirty:
            await self._drain()
        if self._link is None:
            await self._connect()

    async def _drain(self) -> None:
        """Let the line fall silent; replace a TCP connection on which an answer is still owed."""
        loop = asyncio.get_running_loop()
        quiet_s = self._timeout_s / 2
        limit_s = loop.time() + 4 * self._timeout_s
        since_s = loop.time()
        while self._link is not None and loop.time() < limit_s:
            silent_s = loop.time() - max(self._last_byte_s, since_s)
            if silent_s >= quiet_s:
                break
            await asyncio.sleep(quiet_s - silent_s)
        still_owed = any(until_s > loop.time() for _, until_s in self._owed.values())
        if still_owed and self.line.transport is Transport.TCP:
            self._drop()
        self._dirty, self._buffer = False, b""

    async def _outlast(self, request: Request) -> None:
        """Wait out the answer that a unit may still owe: it would pass for this request's."""
        owed = self._owed.get((request.unit, request.function))
        if owed is not None:
            await asyncio.sleep(max(0.0, owed[1] - asyncio.get_running_loop().time()))
            self._owed.pop((request.unit, request.function), None)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        where = f"line {self.line.line_id}: {self.line.endpoint}"
        if loop.time() < self._retry_at_s:
            raise LineDownError(f"{where}: down, next try in {self._retry_at_s - loop.time():.1f} s")
        self._buffer, self._dirty = b"", False
        try:
            link = await self._connector(
                self.line,
                receive=self._receive,
                lost=self._lost,
                timeout_s=max(SHORTEST_CONNECT_S, self._timeout_s),
            )
        except UnableToConnectError as fault:
            self.counters.failed_connections += 1
            self._back_off()
            raise LineDownError(f"line {self.line.line_id}: {fault}") from fault
        if self._closed:
            link.close()
            raise LineDownError(f"{where}: closed")
        self._link, self._proven = link, False
        self.counters.connections += 1

    def _back_off(self) -> None:
        delay_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 2 ** min(self._failures, 16))
        self._failures += 1
        self._retry_at_s = asyncio.get_running_loop().time() + delay_s * (0.75 + 0.5 * self._jitter())

    def _lost(self, fault: Exception | None) -> None:
        self._link = None
        self._buffer = b""
        if not self._proven or self._answer is not None:
            self._back_off()  # a peer that takes connections and drops them is tried no faster than a dead one
        unit = self._request.unit if self._request is not None else 0
        reason = f": {fault}" if fault is not None else ""
        where = f"line {self.line.line_id}: {self.line.endpoint}"
        self._fail(ConnectionLostError(f"{where}: connection lost while unit {unit} was asked{reason}"))

    def _drop(self) -> None:
        link, self._link = self._link, None
        self._buffer = b""
        if link is not None:
            link.close()

    async def _rest(self, gap_s: float) -> None:
        loop = asyncio.get_running_loop()
        remaining_s = self._last_byte_s + gap_s - loop.time()
        if remaining_s > 0:
            await asyncio.sleep(remaining_s)
