"""Eastron SDM120/220/230 (one phase) and SDM630 (three phases): FC04, float32 big-endian, no relay.

Register 0156 is import plus export; 0048 is import (volkszaehler/mbmd).
"""

import struct
from collections.abc import Mapping
from math import sqrt
from typing import ClassVar

from simulators.faults import METER_FAULTS, FaultKind
from simulators.frames import READ_INPUT
from simulators.modules.base import Measured, SimulatedModule

_EXPORT_KWH = 0.0


def _reactive(shown: Measured) -> tuple[float, float]:
    apparent_va = shown.power_w / shown.power_factor
    return apparent_va, sqrt(max(apparent_va**2 - shown.power_w**2, 0.0))


def _floats(values: Mapping[int, float], *, last: int) -> bytes:
    block = bytearray(2 * (last + 2))
    for address, value in values.items():
        struct.pack_into(">f", block, 2 * address, value)
    return bytes(block)


class EastronSdm230(SimulatedModule):
    """SDM120, SDM220 and SDM230 share these registers. The energy shows whole Wh."""

    FUNCTIONS: ClassVar[frozenset[int]] = frozenset({READ_INPUT})
    FAULTS: ClassVar[frozenset[FaultKind]] = METER_FAULTS
    MODULUS: ClassVar[int] = 10**9  # 999 999.999 kWh

    def image(self, function: int) -> Mapping[int, bytes]:  # noqa: ARG002 - FC04 is the only one that reads
        """Return 0000–0159; what is not documented reads as zero."""
        shown = self.measure(0)
        apparent_va, reactive_var = _reactive(shown)
        import_kwh = shown.counts / 1000
        values = {
            0x0000: shown.voltage_v,
            0x0006: shown.current_a,
            0x000C: shown.power_w,
            0x0012: apparent_va,
            0x0018: reactive_var,
            0x001E: shown.power_factor,
            0x0046: shown.frequency_hz,
            0x0048: import_kwh,
            0x004A: _EXPORT_KWH,
            0x0156: import_kwh + _EXPORT_KWH,
        }
        return {0: _floats(values, last=0x0158)}


class EastronSdm630(SimulatedModule):
    """Three phases that carry 40, 35 and 25 % of the load."""

    FUNCTIONS: ClassVar[frozenset[int]] = frozenset({READ_INPUT})
    FAULTS: ClassVar[frozenset[FaultKind]] = METER_FAULTS
    MODULUS: ClassVar[int] = 10**9
    SHARES: ClassVar[tuple[float, ...]] = (0.40, 0.35, 0.25)

    def image(self, function: int) -> Mapping[int, bytes]:  # noqa: ARG002 - FC04 is the only one that reads
        """Return 0000–0159; what is not documented reads as zero."""
        shown = self.measure(0)
        apparent_va, reactive_var = _reactive(shown)
        import_kwh = shown.counts / 1000
        values = {
            0x0034: shown.power_w,
            0x0038: apparent_va,
            0x003C: reactive_var,
            0x003E: shown.power_factor,
            0x0046: shown.frequency_hz,
            0x0048: import_kwh,
            0x004A: _EXPORT_KWH,
            0x0156: import_kwh + _EXPORT_KWH,
        }
        for phase, share in enumerate(self.SHARES):
            values[0x0000 + 2 * phase] = shown.voltage_v
            values[0x0006 + 2 * phase] = shown.current_a * share
            values[0x000C + 2 * phase] = shown.power_w * share
            values[0x0012 + 2 * phase] = apparent_va * share
            values[0x0018 + 2 * phase] = reactive_var * share
            values[0x001E + 2 * phase] = shown.power_factor
        return {0: _floats(values, last=0x0158)}
