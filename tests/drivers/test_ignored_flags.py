"""A flag that a model's profile ignores is not taken in, whatever the module says; the others are."""

import json
from datetime import UTC, datetime

from config.profiles import ModbusProfile, MqttProfile, load_profiles
from dormpower.domain.flags import Meaning
from dormpower.domain.samples import Flag
from gateway.drivers.modbus.decoding import Decoder
from gateway.drivers.modbus.planning import plan_poll
from gateway.drivers.mqtt.profile_messages import ProfileMessages
from gateway.ports import Rate

IGNORED = {"flag_meanings": {Flag.COVER_OPEN: Meaning.IGNORED}}
COVER_AND_RELAY = 0x0030  # bits 4 and 5 of the dual module's status


def test_the_bit_of_an_ignored_flag_is_passed_over() -> None:
    shipped = load_profiles()["dormpower-dual"]
    assert isinstance(shipped, ModbusProfile)
    profile = shipped.model_copy(update=IGNORED)
    plan = plan_poll(profile, Rate.FAST)
    (block,) = plan.blocks
    registers = [0] * block.count
    registers[0x0018 - block.address] = COVER_AND_RELAY
    answer = bytes((block.function, 2 * block.count)) + b"".join(one.to_bytes(2, "big") for one in registers)
    assert Decoder(profile, plan).decode([answer])[0].flags == {Flag.RELAY_FAULT}
    assert Decoder(shipped, plan).decode([answer])[0].flags == {Flag.COVER_OPEN, Flag.RELAY_FAULT}


def test_the_word_of_an_ignored_flag_is_passed_over() -> None:
    shipped = load_profiles()["dormpower-mqtt"]
    assert isinstance(shipped, MqttProfile)
    channel = {"channel": 0, "wh": 1, "relay": "closed", "flags": ["cover_open", "relay_fault"]}
    said = {"at": None, "boot_id": "b1", "seq": 0, "channels": [channel]}
    flags = {
        profile.meanings.ignored: ProfileMessages(profile)
        .sample(json.dumps(said).encode(), module_id="m", arrived_at=datetime(2026, 3, 1, tzinfo=UTC))
        .channels[0]
        .flags
        for profile in (shipped, shipped.model_copy(update=IGNORED))
    }
    assert flags == {
        frozenset(): {Flag.COVER_OPEN, Flag.RELAY_FAULT},
        frozenset({Flag.COVER_OPEN}): {Flag.RELAY_FAULT},
    }
