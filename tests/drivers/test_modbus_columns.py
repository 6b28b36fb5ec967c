"""Polls that are decoded together come out as they do one by one, to the last bit."""

from pathlib import Path
from struct import Struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.profile_file import ModbusProfile
from config.profiles import load_profiles
from dormpower.domain.samples import ChannelSample
from dormpower.readings.columns import known_number
from gateway.columns import RELAYS, PackedChannels
from gateway.drivers.modbus.decoding import Decoder
from gateway.drivers.modbus.planning import plan_poll
from gateway.ports import Rate

OF_VENDORS = Path(__file__).parent / "vendor_profiles"
PROFILES = {
    name: profile for name, profile in load_profiles(OF_VENDORS).items() if isinstance(profile, ModbusProfile)
}
QUANTITIES = ("voltage_v", "current_a", "power_w", "power_factor", "frequency_hz")


def in_columns(name: str, rate: Rate) -> tuple[Decoder, Struct] | None:
    """Return a profile's decoder and its answer's layout; None where answers are decoded one by one."""
    plan = plan_poll(PROFILES[name], rate)
    decoder = Decoder(PROFILES[name], plan)
    layout = plan.blocks[0].layout()
    taken = decoder.channels([bytes(block.layout().size) for block in plan.blocks])
    return (decoder, layout) if isinstance(taken, PackedChannels) else None


WAYS = {(name, rate): in_columns(name, rate) for name in sorted(PROFILES) for rate in Rate}
TOGETHER = {key: way for key, way in WAYS.items() if way is not None}


def test_a_model_of_plain_integers_in_one_answer_is_decoded_together():
    assert {name for name, _ in TOGETHER} >= {"dormpower-dual"}
    assert not {name for name, _ in TOGETHER} & {"eastron-sdm230", "eastron-sdm630", "chint-ddsu666"}  # floats


@pytest.mark.parametrize("key", TOGETHER, ids=lambda key: f"{key[0]}-{key[1]}")
@given(data=st.data())
def test_together_or_one_by_one_the_samples_are_the_same(key: tuple[str, Rate], data: st.DataObject):
    decoder, layout = TOGETHER[key]
    answers = data.draw(st.lists(st.binary(min_size=layout.size, max_size=layout.size), min_size=1, max_size=5))
    columns = decoder.columns(answers)
    for number, answer in enumerate(answers):
        together = []
        for one in columns:
            quantities = {name: known_number(getattr(one, name)[number].item()) for name in QUANTITIES}
            register_wh = None if one.register_wh is None else one.register_wh[number].item()
            together.append(
                ChannelSample(one.channel, register_wh, relay=RELAYS[one.relay[number]], **quantities)
            )
        alone = decoder.decode((answer,))
        assert [bool(sample.flags) for sample in alone] == [bool(one.flagged[number]) for one in columns]
        for sample in alone:
            sample.flags = frozenset()
        assert together == alone


def test_channels_as_they_came_are_a_sequence_of_samples():
    decoder, layout = TOGETHER["dormpower-dual", Rate.FULL]
    answer = bytes(layout.size)
    packed = decoder.channels((answer,))
    samples = decoder.decode((answer,))
    assert (len(packed), list(packed), packed[1], packed[:1]) == (2, samples, samples[1], samples[:1])
    assert packed == samples
    assert repr(packed) == repr(samples)
