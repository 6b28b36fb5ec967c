"""`dormpower-mqtt`: a module of two channels that speaks MQTT; it counts whole Wh and answers no Modbus."""

from collections.abc import Mapping
from typing import Any, ClassVar

from simulators.faults import MQTT_FAULTS, FaultKind
from simulators.modules.base import SimulatedModule


class DormpowerMqtt(SimulatedModule):
    """What such a module says; who sends it is `simulators.mqtt_modules`."""

    CHANNELS: ClassVar[int] = 2
    MODULUS: ClassVar[int] = 10**9
    FUNCTIONS: ClassVar[frozenset[int]] = frozenset()
    FAULTS: ClassVar[frozenset[FaultKind]] = MQTT_FAULTS

    def channel_payloads(self) -> list[Mapping[str, Any]]:
        """Return the channels as a reading carries them."""
        payloads: list[Mapping[str, Any]] = []
        for number in range(len(self.channels)):
            shown = self.measure(number)
            payloads.append(
                {
                    "channel": number,
                    "wh": shown.counts,
                    "v": round(shown.voltage_v, 1),
                    "a": round(shown.current_a, 3),
                    "w": round(shown.power_w, 1),
                    "pf": round(shown.power_factor, 3),
                    "relay": "closed" if shown.relay_closed else "open",
                    "flags": sorted(shown.flags),
                }
            )
        return payloads
