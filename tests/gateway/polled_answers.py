"""Answers as a module of the profile `dormpower-dual` would give them to a poll, and the samples they hold."""

from collections.abc import Mapping
from dataclasses import dataclass

from config.profile_file import ModbusProfile
from config.profiles import load_profiles
from gateway.columns import PackedChannels
from gateway.drivers.modbus.module import PreparedPlans
from gateway.ports import Rate

RELAY_CLOSED = 0x0001  # of the status register, beside the flags
STEP_WH = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """What one channel of the module shows; `status` are the relay's bit and the flags'."""

    register_wh: int
    power_w: float
    status: int = RELAY_CLOSED
    voltage_v: float = 220.0
    power_factor: float = 1.0

    def raw(self) -> dict[str, int]:
        """Return its registers as the module counts them."""
        return {
            "register_wh": self.register_wh // STEP_WH,
            "voltage_v": round(self.voltage_v * 10),
            "current_a": round(self.power_w / self.voltage_v / (self.power_factor or 1.0) * 100),
            "power_w": round(self.power_w * 10),
            "power_factor": round(self.power_factor * 1000),
            "frequency_hz": 5_000,
            "flags": self.status,
            "relay": self.status,
        }


def dual_plans() -> PreparedPlans:
    """Return the profile's plans."""
    profile = load_profiles()["dormpower-dual"]
    assert isinstance(profile, ModbusProfile)
    return PreparedPlans(profile)


def polled(plans: PreparedPlans, rate: Rate, channels: Mapping[int, Channel]) -> PackedChannels:
    """Return what polling hands on of a module with these channels."""
    plan, decoder = plans.polls[rate]
    (block,) = plan.blocks
    raw = {number: channel.raw() for number, channel in channels.items()}
    answer = block.layout().pack(*(raw[want.channel][want.name] for want in block.slots()))
    taken = decoder.channels((answer,))
    assert isinstance(taken, PackedChannels)
    return taken
