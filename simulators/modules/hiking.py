"""Hiking DDS238-2 ZN/SR: FC03; the relay at 001A (0 open, 1 closed) takes FC16 only (fawno/Modbus)."""

import struct
from collections.abc import Mapping, Sequence
from typing import ClassVar

from simulators.frames import READ_HOLDING, WRITE_REGISTERS
from simulators.modules.base import ILLEGAL_ADDRESS, ILLEGAL_VALUE, RefusedRequestError, SimulatedModule

_RELAY = 0x1A


class HikingDds238(SimulatedModule):
    """0000–001A; the energy counts 10 Wh. FC06 is not understood."""

    RESOLUTION_WH: ClassVar[int] = 10
    MODULUS: ClassVar[int] = 10**8
    FUNCTIONS: ClassVar[frozenset[int]] = frozenset({READ_HOLDING, WRITE_REGISTERS})

    def image(self, function: int) -> Mapping[int, bytes]:  # noqa: ARG002 - FC03 is the only one that reads
        """Return the map as one block."""
        shown = self.measure(0)
        apparent_va = shown.power_w / shown.power_factor
        reactive_var = max(apparent_va**2 - shown.power_w**2, 0.0) ** 0.5
        block = bytearray(2 * (_RELAY + 1))
        struct.pack_into(">I", block, 0x00, shown.counts)
        struct.pack_into(
            ">IIHHhhHH",
            block,
            2 * 0x08,
            0,
            shown.counts,
            round(shown.voltage_v * 10),
            round(shown.current_a * 100),
            round(shown.power_w),
            round(reactive_var),
            round(shown.power_factor * 1000),
            round(shown.frequency_hz * 100),
        )
        struct.pack_into(">H", block, 2 * _RELAY, 1 if shown.relay_closed else 0)
        return {0: bytes(block)}

    def write(self, address: int, words: Sequence[int]) -> None:
        """Switch the relay, or erase the energy total, as the real one does."""
        if address == _RELAY and len(words) == 1:
            if words[0] not in {0, 1}:
                raise RefusedRequestError(ILLEGAL_VALUE)
            self.command(0, closed=words[0] == 1)
        elif address == 0 and all(word == 0 for word in words):
            self.channels[0].set_register_wh(0)
        else:
            raise RefusedRequestError(ILLEGAL_ADDRESS)
