"""Modbus frames as bytes: check sums, and cutting a stream into requests. Written for the simulators alone.

Source: MODBUS Application Protocol 1.1b3 and MODBUS over Serial Line 1.02 (modbus.org).
"""

from collections.abc import Iterator
from dataclasses import dataclass

READ_COILS = 1
READ_HOLDING = 3
READ_INPUT = 4
WRITE_COIL = 5
WRITE_REGISTER = 6
WRITE_COILS = 15
WRITE_REGISTERS = 16

_LONGEST_RTU_FRAME = 256
_MBAP = 7


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        remainder = byte
        for _ in range(8):
            remainder = (remainder >> 1) ^ 0xA001 if remainder & 1 else remainder >> 1
        table.append(remainder)
    return tuple(table)


_TABLE = _crc_table()


def crc16(data: bytes) -> int:
    """Return the CRC-16/MODBUS of some bytes; it travels low byte first."""
    crc = 0xFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc


def with_crc(data: bytes) -> bytes:
    """Return an RTU frame: the bytes and their check sum."""
    return data + crc16(data).to_bytes(2, "little")


@dataclass(frozen=True, slots=True)
class Request:
    """One request: who is asked, and what (`pdu` starts with the function code). RTU has no transaction."""

    unit: int
    pdu: bytes
    transaction: int | None = None

    def frame(self, pdu: bytes, *, unit: int | None = None) -> bytes:
        """Return the answer `pdu` as it goes on the wire, in the framing that the request came in."""
        asked = self.unit if unit is None else unit
        if self.transaction is None:
            return with_crc(bytes((asked,)) + pdu)
        header = self.transaction.to_bytes(2, "big") + b"\0\0" + (len(pdu) + 1).to_bytes(2, "big")
        return header + bytes((asked,)) + pdu


class UnableToFrameError(Exception):
    """The stream can't be Modbus TCP; a server closes such a connection."""


class SocketFraming:
    """Cuts a Modbus TCP stream into requests, however its segments fall."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def waiting(self) -> bool:
        """Whether a part of a request has come and the rest has not."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[Request]:
        """Yield the requests that are now complete. Raises UnableToFrameError."""
        self._buffer += data
        while len(self._buffer) >= _MBAP + 1:
            length = int.from_bytes(self._buffer[4:6], "big")
            if self._buffer[2:4] != b"\0\0" or not 2 <= length <= 254:
                raise UnableToFrameError(f"not a Modbus TCP header: {self._buffer[:_MBAP].hex(' ')}")
            if len(self._buffer) < 6 + length:
                return
            frame = bytes(self._buffer[: 6 + length])
            del self._buffer[: 6 + length]
            yield Request(frame[6], frame[7:], int.from_bytes(frame[:2], "big"))


class RtuFraming:
    """Cuts an RTU stream into requests by their length, because a TCP stream keeps no silent gaps.

    A frame whose check sum is wrong is dropped with all that came with it, as a slave drops what follows until
    the next gap.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def waiting(self) -> bool:
        """Whether a part of a request has come and the rest has not."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[Request]:
        """Yield the requests that are now complete."""
        self._buffer += data
        while len(self._buffer) >= 4:
            length = self._length()
            if length is None or len(self._buffer) < length:
                return
            frame = bytes(self._buffer[:length])
            if crc16(frame) != 0:
                self._buffer.clear()
                return
            del self._buffer[:length]
            yield Request(frame[0], frame[1:-2])

    def _length(self) -> int | None:
        function = self._buffer[1]
        if READ_COILS <= function <= WRITE_REGISTER:
            return 8
        if function in {WRITE_COILS, WRITE_REGISTERS}:
            return 9 + self._buffer[6] if len(self._buffer) > 6 else None
        # The length of other functions isn't known: take what is there once its check sum is right.
        if len(self._buffer) > _LONGEST_RTU_FRAME:
            self._buffer.clear()
            return None
        return len(self._buffer) if crc16(bytes(self._buffer)) == 0 else None
