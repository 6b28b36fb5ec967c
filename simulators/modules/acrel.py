"""Acrel DDSY1352: FC03 and FC16; the relay takes two words at 0057 and can't be read back (manual; ems4j)."""

import struct
from collections.abc import Mapping, Sequence
from typing import ClassVar

from simulators.frames import READ_HOLDING, WRITE_REGISTERS
from simulators.modules.base import ILLEGAL_ADDRESS, ILLEGAL_VALUE, RefusedRequestError, SimulatedModule

_RELAY = 0x57


class AcrelDdsy1352(SimulatedModule):
    """0000–0010; the energy counts 10 Wh."""

    RESOLUTION_WH: ClassVar[int] = 10
    MODULUS: ClassVar[int] = 10**8
    FUNCTIONS: ClassVar[frozenset[int]] = frozenset({READ_HOLDING, WRITE_REGISTERS})

    def image(self, function: int) -> Mapping[int, bytes]:  # noqa: ARG002 - FC03 is the only one that reads
        """Return the map as one block; 0057 is not readable."""
        shown = self.measure(0)
        apparent_va = shown.power_w / shown.power_factor
        reactive_var = max(apparent_va**2 - shown.power_w**2, 0.0) ** 0.5
        block = bytearray(2 * 0x11)
        struct.pack_into(">I", block, 0, shown.counts)
        struct.pack_into(
            ">HHhhHH",
            block,
            2 * 0x0B,
            round(shown.voltage_v * 10),
            round(shown.current_a * 100),
            round(shown.power_w),
            round(reactive_var),
            round(apparent_va),
            round(shown.power_factor * 1000),
        )
        return {0: bytes(block)}

    def write(self, address: int, words: Sequence[int]) -> None:
        """Take `0001 0001` (open) and `0001 0000` (close); a first word of 0 leaves the relay to the meter."""
        if address != _RELAY:
            raise RefusedRequestError(ILLEGAL_ADDRESS)
        if len(words) != 2 or words[0] not in {0, 1} or words[1] not in {0, 1}:
            raise RefusedRequestError(ILLEGAL_VALUE)
        if words[0] == 1:
            self.command(0, closed=words[1] == 0)
        else:
            self.command(0, closed=True)
