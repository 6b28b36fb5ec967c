"""A light responder for load tests: dormpower-dual modules made of precomputed bytes, on many ports.

`python -m simulators.responder --ports N --units 32` prints the ports as JSON and answers until SIGTERM.
Registers advance with real time at a steady power, so that readings stay plausible; relays take commands and
remember them.
"""

import argparse
import asyncio
import json
import signal
import struct
import sys
import time
from functools import partial
from typing import Any

import uvloop

from simulators.frames import RtuFraming, SocketFraming, UnableToFrameError

_WORDS = 0x3C
_REFRESH_S = 1.0
_POWERS_W = (180, 620)
_PACK = struct.Struct(">IHHihHH")


class Image:
    """One unit's registers; rewritten once a second."""

    __slots__ = ("block", "closed", "energies_wh")

    def __init__(self, number: int) -> None:
        self.block = bytearray(2 * _WORDS)
        self.closed = [True, True]
        self.energies_wh = [1_000_000.0 + 1000 * number, 2_000_000.0 + 1000 * number]
        struct.pack_into(">HHI", self.block, 0, 0x4450, 0x0102, number)
        for channel in range(2):
            struct.pack_into(">H", self.block, 2 * (0x18 + 0x20 * channel), 1)
        self.refresh(0.0)

    def refresh(self, elapsed_s: float) -> None:
        """Let so much time pass."""
        for channel, power_w in enumerate(_POWERS_W):
            flowing_w = power_w if self.closed[channel] else 0
            self.energies_wh[channel] += flowing_w * elapsed_s / 3600
            counts = int(self.energies_wh[channel] / 10) % 100_000_000
            amps = flowing_w * 100 // 220
            address = 2 * (0x10 + 0x20 * channel)
            _PACK.pack_into(
                self.block, address, counts, 2200, amps, flowing_w * 10, 1000, 5000, self.closed[channel]
            )

    def answer(self, pdu: bytes) -> bytes:
        """Answer a request."""
        function, address, value = pdu[0], (pdu[1] << 8) | pdu[2], (pdu[3] << 8) | pdu[4]
        if function == 3 and address + value <= _WORDS and value:
            return bytes((3, 2 * value)) + self.block[2 * address : 2 * (address + value)]
        if function in {6, 16} and address in {0x1B, 0x3B}:
            word = value if function == 6 else int.from_bytes(pdu[6:8], "big")
            if word not in {0xAA55, 0x55AA}:
                return bytes((function | 0x80, 3))
            self.closed[(address - 0x1B) // 0x20] = word == 0xAA55
            self.refresh(0.0)
            return pdu[:5]
        return bytes((function | 0x80, 2))


class _Responder(asyncio.Protocol):
    """One connection. A segment that is exactly one frame, the usual case, takes the short way."""

    def __init__(self, images: dict[int, Image], *, rtu: bool) -> None:
        self._images = images
        self._rtu = rtu
        self._framing = RtuFraming() if rtu else SocketFraming()
        self._partial = False
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._rtu and not self._partial and len(data) == 12 and data[5] == 6:
            image = self._images.get(data[6])
            if image is not None:
                pdu = image.answer(data[7:])
                self._transport.write(data[:4] + (len(pdu) + 1).to_bytes(2, "big") + data[6:7] + pdu)
            return
        try:
            answers = []
            for request in self._framing.feed(data):
                image = self._images.get(request.unit)
                if image is not None:
                    answers.append(request.frame(image.answer(request.pdu)))
            self._partial = self._framing.waiting
            if answers:
                self._transport.write(b"".join(answers))
        except UnableToFrameError:
            self._transport.close()


async def serve(*, host: str, ports: list[int], units: int, rtu: bool, stopped: asyncio.Event) -> None:
    """Answer on so many ports (0 takes a free one) until told to stop; prints the ports as one line of JSON."""
    loop = asyncio.get_running_loop()
    images = [{unit: Image(line * 256 + unit) for unit in range(1, units + 1)} for line in range(len(ports))]
    servers = [
        await loop.create_server(partial(_Responder, line, rtu=rtu), host, port)
        for line, port in zip(images, ports, strict=True)
    ]
    sys.stdout.write(json.dumps({"ports": [server.sockets[0].getsockname()[1] for server in servers]}) + "\n")
    sys.stdout.flush()
    last_s = time.monotonic()
    try:
        while not stopped.is_set():
            try:
                await asyncio.wait_for(stopped.wait(), _REFRESH_S)
            except TimeoutError:
                now_s = time.monotonic()
                for number, line in enumerate(images):
                    for image in line.values():
                        image.refresh(now_s - last_s)
                    if number % 16 == 0:
                        await asyncio.sleep(0)
                last_s = now_s
    finally:
        for server in servers:
            server.close()


async def _run(arguments: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    first = arguments.first_port
    ports = [first + index if first else 0 for index in range(arguments.ports)]
    rtu = arguments.framer == "rtu"
    await serve(host=arguments.host, ports=ports, units=arguments.units, rtu=rtu, stopped=stopped)


def main() -> int:
    """Answer until SIGTERM or Ctrl-C; exit code 0 then, 1 where a port can't be had."""
    parser = argparse.ArgumentParser(prog="python -m simulators.responder", description=__doc__)
    parser.add_argument("--ports", type=int, default=1, help="how many lines")
    parser.add_argument("--first-port", type=int, default=0, help="0: free ports, told on standard output")
    parser.add_argument("--units", type=int, default=32, help="units on each line, from 1")
    parser.add_argument("--framer", choices=("socket", "rtu"), default="socket")
    parser.add_argument("--host", default="127.0.0.1")
    try:
        uvloop.run(_run(parser.parse_args()))
    except OSError as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
