"""Lines on real sockets: Modbus TCP, RTU over TCP, and serial ports, with what goes wrong on them.

A line is one bus: it handles one request at a time, in the order of arrival, whatever connection they came by.
With `wire` set it takes as long as a real RS-485 line at that baud rate. Where nothing has to wait the answer
goes out at once, from within the arrival of its request.
"""

import asyncio
import contextlib
import os
import termios
import tty
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog

from simulators.faults import LINE_FAULTS, FaultKind, UnableToInjectFaultError
from simulators.frames import Request, RtuFraming, SocketFraming, UnableToFrameError
from simulators.modules.base import SimulatedModule

log = structlog.get_logger()

GATEWAY_TARGET_FAILED = 0x0B
_BACKLOG = 64
"""Requests that wait on one line; a master that sends more without reading answers loses the rest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """The timing of a serial bus: 10 bits a byte with 8N1, 11 with parity or a second stop bit."""

    baud: int = 9600
    bits_per_byte: int = 10
    answer_time_s: float = 0.02

    def transfer_s(self, request_bytes: int, answer_bytes: int) -> float:
        """Return how long one transaction keeps the bus, with 3.5 characters of silence each way."""
        characters = request_bytes + answer_bytes + 2 * 3.5
        return characters * self.bits_per_byte / self.baud + self.answer_time_s


class Output(Protocol):
    """Where answers go; a closed connection swallows them."""

    def write(self, data: bytes) -> object:
        """Send bytes."""

    def abort(self) -> None:
        """Hang up, where there is a connection."""


@dataclass(slots=True)
class _Waiting:
    request: Request
    output: Output


class SimulatedLine:
    """One line and the modules on it, by unit."""

    def __init__(
        self,
        *,
        line_id: str,
        rtu: bool,
        now_ms: Callable[[], int],
        wire: Wire | None = None,
        unknown_unit_code: int | None = None,
        after_write: Callable[[], None] | None = None,
        before_answer: Callable[[], None] | None = None,
    ) -> None:
        self.line_id = line_id
        self.rtu = rtu
        self.units: dict[int, SimulatedModule] = {}
        self.wire = wire
        self.unknown_unit_code = unknown_unit_code
        self.answers = 0
        self._now_ms = now_ms
        self._after_write = after_write
        self._before_answer = before_answer
        self._down = False
        self._host: str | None = None
        self._port = 0
        self._server: asyncio.Server | None = None
        self._connections: set[_Connection] = set()
        self._waiting: deque[_Waiting] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._late: set[asyncio.TimerHandle] = set()

    # --- listening -----------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The port that the line listens on, once started."""
        return self._port

    async def start(self, *, host: str = "127.0.0.1", port: int = 0) -> int:
        """Listen; returns the port. Raises OSError where it can't."""
        self._host, self._port = host, port
        await self._listen()
        return self._port

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), self._host, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and drop all connections."""
        for timer in self._late:
            timer.cancel()
        self._late.clear()
        self._waiting.clear()
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
            self._worker = None
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in list(self._connections):
            connection.abort()
        if server is not None:
            await server.wait_closed()

    async def fault(self, kind: FaultKind, params: Mapping[str, Any]) -> None:  # noqa: ARG002 - the port's form
        """Let a line fault begin. Raises UnableToInjectFaultError."""
        if kind not in LINE_FAULTS:
            raise UnableToInjectFaultError(f"{self.line_id}: {kind} is not a fault of a line")
        if not self._down:
            self._down = True
            await self.stop()
            log.info("simulator.line_down", line=self.line_id)

    async def clear(self) -> None:
        """End the line's fault: listen again on the same port."""
        if self._down:
            self._down = False
            await self._listen()
            log.info("simulator.line_up", line=self.line_id)

    # --- requests ------------------------------------------------------------------------------------------

    def framing(self) -> SocketFraming | RtuFraming:
        """Return a fresh framing for a connection."""
        return RtuFraming() if self.rtu else SocketFraming()

    def accept(self, request: Request, output: Output) -> None:
        """Take a request: answer at once, or in turn where the bus takes time."""
        if self._worker is None and self._delay_s(request) is None:
            self._answer(request, output)
            return
        if len(self._waiting) < _BACKLOG:
            self._waiting.append(_Waiting(request, output))
        if self._worker is None:
            self._worker = asyncio.get_running_loop().create_task(self._work())
            self._worker.add_done_callback(self._worker_done)

    def _worker_done(self, worker: asyncio.Task[None]) -> None:
        if self._worker is worker:
            self._worker = None
        if not worker.cancelled() and worker.exception() is not None:
            log.error("simulator.line_broken", line=self.line_id, exc_info=worker.exception())

    async def _work(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            await asyncio.sleep(self._delay_s(waiting.request) or 0.0)
            self._answer(waiting.request, waiting.output)
        self._worker = None

    def _delay_s(self, request: Request) -> float | None:
        """Return how long the bus is kept by this request; None where an answer goes out at once."""
        module = self.units.get(request.unit)
        slow = module.faults.get(FaultKind.SLOW) if module is not None else None
        if slow is None and self.wire is None:
            return None
        delay_s = float(slow.params.get("delay_s", 1.0)) if slow is not None else 0.0
        if self.wire is not None:
            reads = request.pdu[0] in {3, 4} and len(request.pdu) >= 5
            answer_bytes = 5 + 2 * request.pdu[4] if reads else 8
            delay_s += self.wire.transfer_s(len(request.pdu) + 3, answer_bytes if module is not None else 0)
        return delay_s

    def _answer(self, request: Request, output: Output) -> None:
        module = self.units.get(request.unit)
        if module is None:
            if request.unit == 0 and self.rtu:
                self._broadcast(request)
            elif not self.rtu and self.unknown_unit_code is not None:
                output.write(request.frame(bytes((request.pdu[0] | 0x80, self.unknown_unit_code))))
            return
        module.use(FaultKind.SLOW)
        if module.use(FaultKind.DEAD) is not None:
            return
        if module.use(FaultKind.HANG_UP) is not None:
            output.abort()
            return
        if self._before_answer is not None:
            self._before_answer()
        refused = module.use(FaultKind.EXCEPTION)
        if refused is not None:
            pdu = bytes((request.pdu[0] | 0x80, int(refused.get("code", 4))))
        else:
            pdu = module.answer(request.pdu, now_ms=self._now_ms())
            if request.pdu[0] not in {3, 4} and self._after_write is not None:
                self._after_write()
                if self._before_answer is not None:
                    self._before_answer()  # a switching is kept before it is confirmed
        self.answers += 1
        self._send(module, request, pdu, output)

    def _broadcast(self, request: Request) -> None:
        """Unit 0 on a bus: all take a write, none answers."""
        if request.pdu[0] in {5, 6, 16}:
            for module in self.units.values():
                module.answer(request.pdu, now_ms=self._now_ms())

    def _send(self, module: SimulatedModule, request: Request, pdu: bytes, output: Output) -> None:
        wrong = module.use(FaultKind.WRONG_UNIT)
        data = request.frame(pdu, unit=None if wrong is None else request.unit % 247 + 1)
        if module.use(FaultKind.CRC_ERROR) is not None:
            spoilt = -1 if self.rtu else 0
            data = data[:spoilt] + bytes((data[spoilt] ^ 0xFF,)) + (b"" if self.rtu else data[1:])
        if module.use(FaultKind.HALF_FRAME) is not None:
            data = data[: len(data) // 2]
        late = module.use(FaultKind.LATE_ANSWER)
        if late is None:
            output.write(data)
            return
        loop = asyncio.get_running_loop()
        self._late = {timer for timer in self._late if timer.when() > loop.time() and not timer.cancelled()}
        self._late.add(loop.call_later(float(late.get("delay_s", 1.0)), output.write, data))


class _Connection(asyncio.Protocol):
    """One TCP connection to a line."""

    def __init__(self, line: SimulatedLine) -> None:
        self._line = line
        self._framing = line.framing()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # create_server hands out stream transports
        self._line._connections.add(self)  # noqa: SLF001 - one unit with its line

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's form
        self._transport = None
        self._line._connections.discard(self)  # noqa: SLF001 - one unit with its line

    def data_received(self, data: bytes) -> None:
        try:
            for request in self._framing.feed(data):
                self._line.accept(request, self)
        except UnableToFrameError:
            self.abort()

    def write(self, data: bytes) -> None:
        """Send an answer, unless the other side has gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()


class SerialServer:
    """A line on a pseudo terminal: masters open `device` as they would a serial port."""

    def __init__(self, line: SimulatedLine) -> None:
        self._line = line
        self._framing = line.framing()
        self._master = -1
        self._slave = -1
        self._link: str | None = None
        self.device = ""

    def start(self, link: str | None = None) -> str:
        """Open the terminal; returns its device, or `link` made to point at it. Raises OSError."""
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave, termios.TCSANOW)
        os.set_blocking(self._master, False)
        self.device = os.ttyname(self._slave)
        if link is not None:
            with contextlib.suppress(FileNotFoundError):
                if os.path.islink(link):  # noqa: PTH114 - a path given as text
                    os.unlink(link)  # noqa: PTH108 - see above
            os.symlink(self.device, link)  # noqa: PTH211 - see above
            self._link = link
        asyncio.get_running_loop().add_reader(self._master, self._readable)
        return link or self.device

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for request in self._framing.feed(os.read(self._master, 4096)):
                self._line.accept(request, self)

    def write(self, data: bytes) -> None:
        """Send an answer; a full terminal loses it, as a wire without a reader does."""
        if self._master >= 0:
            with contextlib.suppress(BlockingIOError):
                os.write(self._master, data)

    def abort(self) -> None:
        """Do nothing: a serial port has no connection to lose."""

    def stop(self) -> None:
        """Close the terminal."""
        if self._master < 0:
            return
        asyncio.get_running_loop().remove_reader(self._master)
        os.close(self._master)
        os.close(self._slave)
        self._master = -1
        if self._link is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._link)  # noqa: PTH108 - a path given as text
