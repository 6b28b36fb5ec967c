"""Opening a line's connection: TCP, or a serial port through pyserial. The only place that knows of either."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

import serial

from dormpower.domain.site import Line, Transport

Receive = Callable[[bytes], None]
Lost = Callable[[Exception | None], None]


class UnableToConnectError(Exception):
    """The line's connection can't be opened; the message says which and why."""


class Link(Protocol):
    """An open connection: bytes out, and two callbacks for bytes in and for its end."""

    def write(self, data: bytes) -> None:
        """Send, without waiting."""

    def close(self) -> None:
        """Close; `lost` is not called for it."""


class Connector(Protocol):
    """Opens a line's connection; tests put their own in its place."""

    async def __call__(self, line: Line, *, receive: Receive, lost: Lost, timeout_s: float) -> Link:
        """Open. Raises UnableToConnectError."""


class _TcpLink(asyncio.Protocol):
    def __init__(self, receive: Receive, lost: Lost) -> None:
        self._receive = receive
        self._lost: Lost | None = lost
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has no base class of asyncio's

    def data_received(self, data: bytes) -> None:
        if self._lost is not None:
            self._receive(data)

    def connection_lost(self, exc: Exception | None) -> None:
        lost, self._lost = self._lost, None
        if lost is not None:
            lost(exc)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def close(self) -> None:
        self._lost = None
        if self._transport is not None:
            self._transport.abort()


class _SerialLink:
    """A serial port in the event loop: the file descriptor is read when it has bytes."""

    def __init__(self, port: serial.Serial, receive: Receive, lost: Lost) -> None:
        self._port: serial.Serial | None = port
        self._receive = receive
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._pending = b""
        self._descriptor: int = port.fileno()
        os.set_blocking(self._descriptor, False)
        self._loop.add_reader(self._descriptor, self._on_readable)

    def write(self, data: bytes) -> None:
        self._pending += data
        self._on_writable()

    def close(self) -> None:
        port, self._port = self._port, None
        if port is not None:
            self._loop.remove_reader(self._descriptor)
            self._loop.remove_writer(self._descriptor)
            with suppress(OSError, serial.SerialException):
                port.close()

    def _on_readable(self) -> None:
        try:
            data = os.read(self._descriptor, 4096)
        except BlockingIOError:
            return
        except OSError as fault:
            self._fail(fault)
            return
        if data:
            self._receive(data)
        else:
            self._fail(ConnectionError("the serial port is gone"))

    def _on_writable(self) -> None:
        try:
            sent = os.write(self._descriptor, self._pending)
        except BlockingIOError:
            sent = 0
        except OSError as fault:
            self._fail(fault)
            return
        self._pending = self._pending[sent:]
        if self._pending:
            self._loop.add_writer(self._descriptor, self._on_writable)
        else:
            self._loop.remove_writer(self._descriptor)

    def _fail(self, fault: Exception) -> None:
        if self._port is not None:
            self.close()
            self._lost(fault)


async def open_link(line: Line, *, receive: Receive, lost: Lost, timeout_s: float) -> Link:
    """Open a line's connection. Raises UnableToConnectError."""
    try:
        if line.transport is Transport.SERIAL:
            return _SerialLink(_open_serial(line), receive, lost)
        async with asyncio.timeout(timeout_s):
            _, link = await asyncio.get_running_loop().create_connection(
                lambda: _TcpLink(receive, lost), str(line.host), int(line.port or 0)
            )
    except TimeoutError as fault:
        raise UnableToConnectError(f"{line.endpoint}: no connection within {timeout_s:g} s") from fault
    except (OSError, ValueError, serial.SerialException) as fault:
        raise UnableToConnectError(f"{line.endpoint}: {fault}") from fault
    return link


def _open_serial(line: Line) -> serial.Serial:
    return serial.Serial(
        port=line.device,
        baudrate=line.baud,
        parity=line.parity,
        stopbits=line.stop_bits,
        timeout=0,
        exclusive=True,  # one master a line (invariant 18)
    )
