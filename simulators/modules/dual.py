"""`dormpower-dual`, the reference module with two channels: 0 lighting, 1 air conditioning.

FC03 reads; FC06 and FC16 write; big-endian. The energy counts 10 Wh and starts over at 100 000 000 counts.
"""

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import ClassVar

from simulators.frames import READ_HOLDING, WRITE_REGISTER, WRITE_REGISTERS
from simulators.modules.base import ILLEGAL_ADDRESS, ILLEGAL_VALUE, RefusedRequestError, SimulatedModule

MODEL = 0x4450
FIRMWARE = 0x0102
CLOSE = 0xAA55
OPEN = 0x55AA
_BLOCK = 0x10
_STRIDE = 0x20
_LIMIT = 0x0A
_RELAY = 0x0B
_BITS = {
    "overload_trip": 0x02,
    "prohibited_trip": 0x04,
    "over_temperature": 0x08,
    "cover_open": 0x10,
    "relay_fault": 0x20,
}


class DormpowerDual(SimulatedModule):
    """Registers 0000–003B: identity, then a block for each channel; what lies between reads as zero."""

    CHANNELS: ClassVar[int] = 2
    RESOLUTION_WH: ClassVar[int] = 10
    MODULUS: ClassVar[int] = 100_000_000
    FUNCTIONS: ClassVar[frozenset[int]] = frozenset({READ_HOLDING, WRITE_REGISTER, WRITE_REGISTERS})

    def image(self, function: int) -> Mapping[int, bytes]:  # noqa: ARG002 - FC03 is the only one that reads
        """Return the whole map as one block."""
        image = bytearray(2 * (_BLOCK + _STRIDE + 0x0C))
        struct.pack_into(">HHI", image, 0, MODEL, FIRMWARE, zlib.crc32(self.module_id.encode()))
        for number in range(len(self.channels)):
            self._pack(image, number)
        return {0: bytes(image)}

    def _pack(self, image: bytearray, number: int) -> None:
        shown = self.measure(number)
        contacts = self.channels[number].contacts
        bits = sum(_BITS[flag] for flag in shown.flags) | (0x01 if shown.relay_closed else 0)
        struct.pack_into(
            ">IHHihHHHHH",
            image,
            2 * (_BLOCK + _STRIDE * number),
            shown.counts,
            round(shown.voltage_v * 10),
            round(shown.current_a * 100),
            round(shown.power_w * 10),
            round(shown.power_factor * 1000),
            round(shown.frequency_hz * 100),
            bits,
            contacts.trips if contacts is not None else 0,
            contacts.limit_w if contacts is not None else 0,
            0,
        )

    def write(self, address: int, words: Sequence[int]) -> None:
        """Take power limits and relay commands; all words are judged before any acts."""
        targets = [self._target(address + index) for index in range(len(words))]
        for (_, register), word in zip(targets, words, strict=True):
            if register == _RELAY and word not in {CLOSE, OPEN}:
                raise RefusedRequestError(ILLEGAL_VALUE)
        for (number, register), word in zip(targets, words, strict=True):
            if register == _RELAY:
                self.command(number, closed=word == CLOSE)
            else:
                contacts = self.channels[number].contacts
                if contacts is not None:
                    contacts.limit_w = word

    def _target(self, address: int) -> tuple[int, int]:
        number, register = divmod(address - _BLOCK, _STRIDE)
        if not 0 <= number < len(self.channels) or register not in {_LIMIT, _RELAY}:
            raise RefusedRequestError(ILLEGAL_ADDRESS)
        return number, register
