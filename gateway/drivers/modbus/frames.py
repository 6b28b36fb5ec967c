"""Modbus requests as values, and cutting a byte stream into answers. Pure: no sockets, no time.

The frames are pymodbus's (`FramerSocket`, `FramerRTU`); what is added here is the discipline that a line needs:
several answers in one segment, what follows an answer is kept, and an answer is told whether it can be the one
that was asked for. The PDU is checked and unpacked by the plan (`planning.py`), because building a list of
registers for each poll costs more than the poll.
"""

import struct
from dataclasses import dataclass
from typing import Protocol

from pymodbus.framer import FramerRTU, FramerSocket
from pymodbus.pdu import DecodePDU

READ_COILS = 1
READ_DISCRETE = 2
READ_HOLDING = 3
READ_INPUT = 4
WRITE_COIL = 5
WRITE_REGISTER = 6
WRITE_REGISTERS = 16
EXCEPTION = 0x80

EXCEPTION_NAMES = {
    1: "function not supported",
    2: "no such register",
    3: "value not accepted",
    4: "device failure",
    5: "accepted, still working on it",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "the device behind the gateway does not answer",
}
SILENT_BEHIND_GATEWAY = frozenset({10, 11})
"""Exceptions by which a gateway says that the module itself is silent."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `answer_bytes` is the length of a good answer's PDU; `echo` what a write's repeats."""

    unit: int
    pdu: bytes
    answer_bytes: int
    echo: bytes = b""

    @property
    def function(self) -> int:
        """The function code."""
        return self.pdu[0]


@dataclass(slots=True)
class Frame:
    """One answer from the wire; `transaction` is 0 in RTU framing, which has none.

    A value: replaced, never changed (not frozen, for speed of making).
    """

    unit: int
    transaction: int
    pdu: bytes


def read_request(*, unit: int, function: int, address: int, count: int) -> Request:
    """Return a read of `count` registers (functions 3, 4) or bits (1, 2)."""
    payload_bytes = 2 * count if function in (READ_HOLDING, READ_INPUT) else (count + 7) // 8
    return Request(unit, struct.pack(">BHH", function, address, count), 2 + payload_bytes)


def write_request(*, unit: int, function: int, address: int, words: tuple[int, ...]) -> Request:
    """Return a write of a coil (5), one register (6) or registers (16)."""
    if function == WRITE_REGISTERS:
        head = struct.pack(">BHH", function, address, len(words))
        return Request(unit, head + struct.pack(f">B{len(words)}H", 2 * len(words), *words), 5, head)
    pdu = struct.pack(">BHH", function, address, words[0])
    return Request(unit, pdu, 5, pdu)


def fits(request: Request, pdu: bytes) -> bool:
    """Return whether an answer can be the answer to the request: function, byte count, echo."""
    function = request.pdu[0]
    if pdu[0] != function:
        return pdu[0] == function | EXCEPTION and len(pdu) == 2
    if len(pdu) != request.answer_bytes:
        return False
    return pdu == request.echo if request.echo else pdu[1] == len(pdu) - 2


class UnableToCutError(Exception):
    """The bytes are no frame: a bad check sum, or the stream is out of step. The rest was dropped."""


class Cutter(Protocol):
    """Builds requests' frames and cuts a stream into answers."""

    def frame(self, request: Request, transaction: int) -> bytes:
        """Return the request as it goes on the wire."""

    def cut(self, data: bytes) -> tuple[Frame | None, bytes]:
        """Return the first answer, or None while it isn't complete, and what follows it.

        Raises UnableToCutError.
        """


class SocketCutter:
    """Modbus TCP: a header with transaction and length."""

    def __init__(self) -> None:
        self._framer = FramerSocket(DecodePDU(is_server=False))

    def frame(self, request: Request, transaction: int) -> bytes:
        """Return the request as it goes on the wire."""
        return self._framer.encode(request.pdu, request.unit, transaction)

    def cut(self, data: bytes) -> tuple[Frame | None, bytes]:
        """Return the first answer and what follows; a length that no answer has is out of step."""
        if len(data) >= 6 and (data[2] or data[3] or data[4] or not 3 <= data[5] <= 254):
            raise UnableToCutError(f"not a Modbus TCP header: {data[:7].hex(' ')}")
        used, unit, transaction, pdu = self._framer.decode(data)
        if not used:
            return None, data
        return Frame(unit, transaction, pdu), data[used:]


class RtuCutter:
    """Modbus RTU: unit, PDU and check sum, the length known from the function alone."""

    def __init__(self) -> None:
        self._framer = FramerRTU(DecodePDU(is_server=False))

    def frame(self, request: Request, transaction: int) -> bytes:
        """Return the request as it goes on the wire; there is no transaction in it."""
        return self._framer.encode(request.pdu, request.unit, transaction)

    def cut(self, data: bytes) -> tuple[Frame | None, bytes]:
        """Return the first answer and what follows. pymodbus drops what follows; here it is kept."""
        used, unit, _, pdu = self._framer.decode(data)
        if not used:
            return None, data
        if not pdu:
            raise UnableToCutError(f"bad check sum in {len(data)} bytes: {data[:16].hex(' ')}")
        body = bytes((unit,)) + pdu
        return Frame(unit, 0, pdu), data[data.index(body) + len(body) + 2 :]
