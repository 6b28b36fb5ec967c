"""Chint DDSU666: float32 big-endian, power in kW, no relay.

One source reads it with FC03 (OpenEMS), another with FC04 (Tasmota); this one answers both alike.
"""

import struct
from collections.abc import Mapping
from math import sqrt
from typing import ClassVar

from simulators.faults import METER_FAULTS, FaultKind
from simulators.modules.base import SimulatedModule


class ChintDdsu666(SimulatedModule):
    """2000–200F measured values, 4000–400B energy; the display counts 10 Wh."""

    RESOLUTION_WH: ClassVar[int] = 10
    MODULUS: ClassVar[int] = 10**8
    FAULTS: ClassVar[frozenset[FaultKind]] = METER_FAULTS

    def image(self, function: int) -> Mapping[int, bytes]:  # noqa: ARG002 - both functions show the same
        """Return the two blocks."""
        shown = self.measure(0)
        apparent_va = shown.power_w / shown.power_factor
        reactive_kvar = sqrt(max(apparent_va**2 - shown.power_w**2, 0.0)) / 1000
        now = bytearray(2 * 0x10)
        for offset, value in {
            0x00: shown.voltage_v,
            0x02: shown.current_a,
            0x04: shown.power_w / 1000,
            0x06: reactive_kvar,
            0x0A: shown.power_factor,
            0x0E: shown.frequency_hz,
        }.items():
            struct.pack_into(">f", now, 2 * offset, value)
        energy = bytearray(2 * 0x0C)
        struct.pack_into(">f", energy, 0, shown.counts / 100)
        return {0x2000: bytes(now), 0x4000: bytes(energy)}
