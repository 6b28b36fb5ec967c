"""Golden frames: bytes written down by hand from each map, so that no encoder checks itself.

Answers are PDUs (function, byte count, data). RTU frames and MBAP headers are given whole where framing is the
claim. Register comments say address: raw value.
"""

import math

import pytest

from config.profiles import ModbusProfile, load_profiles
from dormpower.domain.samples import ChannelSample, Flag, Relay
from gateway.drivers.modbus.decoding import Decoder
from gateway.drivers.modbus.frames import Request, RtuCutter, SocketCutter, read_request, write_request
from gateway.drivers.modbus.planning import Plan, plan_poll, plan_relay
from gateway.ports import Rate, UnusableReplyError


def profile_of(name: str) -> ModbusProfile:
    profile = load_profiles()[name]
    assert isinstance(profile, ModbusProfile)
    return profile


def requests_of(plan: Plan) -> list[str]:
    return [
        read_request(unit=1, function=block.function, address=block.address, count=block.count).pdu.hex(" ")
        for block in plan.blocks
    ]


def decode(name: str, *answers: str, rate: Rate = Rate.FULL) -> list[ChannelSample]:
    profile = profile_of(name)
    return Decoder(profile, plan_poll(profile, rate)).decode([bytes.fromhex(answer) for answer in answers])


DUAL = (
    "03 52 "
    "05 f5 e0 ff "  # 0010: 99 999 999 counts of 10 Wh, the last before it starts over (high word in use)
    "09 00 "  # 0012: 2304 × 0.1 V
    "04 d2 "  # 0013: 1234 × 0.01 A
    "00 01 86 a0 "  # 0014: 100000 × 0.1 W (high word in use)
    "03 b6 "  # 0016: 950 × 0.001
    "13 88 "  # 0017: 5000 × 0.01 Hz
    "00 01 "  # 0018: relay closed
    + "00 00 "
    * 23  # 0019-002F
    + "00 00 00 2a "  # 0030: 42 × 10 Wh
    "08 fc "  # 0032: 2300 × 0.1 V
    "00 64 "  # 0033: 100 × 0.01 A
    "ff ff ff 38 "  # 0034: -200 × 0.1 W
    "fc 18 "  # 0036: -1000 × 0.001
    "13 87 "  # 0037: 4999 × 0.01 Hz
    "00 26 "  # 0038: relay open, overload trip, prohibited trip, relay fault
)


def test_both_channels_of_a_dual_come_in_one_transaction() -> None:
    assert requests_of(plan_poll(profile_of("dormpower-dual"), Rate.FULL)) == ["03 00 10 00 29"]
    assert decode("dormpower-dual", DUAL) == [
        ChannelSample(
            channel=0,
            register_wh=999_999_990,
            voltage_v=230.4,
            current_a=12.34,
            power_w=10_000.0,
            power_factor=0.95,
            frequency_hz=50.0,
            relay=Relay.CLOSED,
        ),
        ChannelSample(
            channel=1,
            register_wh=420,
            voltage_v=230.0,
            current_a=1.0,
            power_w=-20.0,
            power_factor=-1.0,
            frequency_hz=49.99,
            relay=Relay.OPEN,
            flags=frozenset({Flag.OVERLOAD_TRIP, Flag.PROHIBITED_TRIP, Flag.RELAY_FAULT}),
        ),
    ]


SDM230_NOW = (
    "04 40 "
    "43 66 80 00 "  # 0000: 230.5 V
    + "00 00 00 00 " * 2
    + "41 20 00 00 "  # 0006: 10 A
    + "00 00 00 00 " * 2
    + "c4 e1 00 00 "  # 000C: -1800 W
    + "00 00 00 00 " * 8
    + "3f 40 00 00 "  # 001E: 0.75
)
SDM230_ENERGY = (
    "04 08 "
    "42 48 00 00 "  # 0046: 50 Hz
    "47 f1 20 10 "  # 0048: 123456.125 kWh
)


@pytest.mark.parametrize("name", ["eastron-sdm120", "eastron-sdm220", "eastron-sdm230"])
def test_a_single_phase_eastron_is_read_with_function_4_and_float32(name: str) -> None:
    plan = plan_poll(profile_of(name), Rate.FULL)
    # 0000-000D and 001E-001F lie 16 registers apart, 0020-0045 too many.
    assert requests_of(plan) == ["04 00 00 00 20", "04 00 46 00 04"]
    (sample,) = decode(name, SDM230_NOW, SDM230_ENERGY)
    assert sample.register_wh == 123_456_125
    assert (sample.voltage_v, sample.current_a, sample.power_w) == (230.5, 10.0, -1800.0)
    assert (sample.power_factor, sample.frequency_hz, sample.relay) == (0.75, 50.0, None)


SDM630 = (
    "04 94 "
    "43 66 00 00 43 67 00 00 43 68 00 00 "  # 0000: 230, 231, 232 V
    "3f 80 00 00 40 00 00 00 40 40 00 00 "  # 0006: 1, 2, 3 A
    "43 16 00 00 43 96 00 00 c3 16 00 00 "  # 000C: 150, 300, -150 W
    + "00 00 00 00 " * 6
    + "3f 80 00 00 3f 00 00 00 3e 80 00 00 "  # 001E: 1, 0.5, 0.25
    + "00 00 00 00 " * 8
    + "43 96 00 00 "  # 0034: 300 W in all
    + "00 00 00 00 " * 4
    + "3f 60 00 00 "  # 003E: 0.875
    + "00 00 00 00 " * 3
    + "42 48 00 00 "  # 0046: 50 Hz
    "3f 80 00 01 "  # 0048: 1.00000011920929 kWh
)


def test_a_three_phase_meter_gives_mean_volts_summed_amps_and_its_own_totals() -> None:
    profile = profile_of("eastron-sdm630")
    plan = plan_poll(profile, Rate.FULL)
    assert requests_of(plan) == ["04 00 00 00 4a"]
    (sample,) = decode("eastron-sdm630", SDM630)
    assert (sample.voltage_v, sample.current_a, sample.power_w) == (231.0, 6.0, 300.0)
    assert (sample.power_factor, sample.frequency_hz, sample.register_wh) == (0.875, 50.0, 1000)
    phases = Decoder(profile, plan).phases([bytes.fromhex(SDM630)], 0)
    assert [phase.power_w for phase in phases] == [150.0, 300.0, -150.0]
    assert [phase.power_factor for phase in phases] == [1.0, 0.5, 0.25]


def test_a_chint_says_kilowatts_and_keeps_its_energy_in_a_block_of_its_own() -> None:
    plan = plan_poll(profile_of("chint-ddsu666"), Rate.FULL)
    assert requests_of(plan) == ["03 20 00 00 10", "03 40 00 00 02"]
    now = (
        "03 20 "
        "43 5c 00 00 "  # 2000: 220 V
        "40 a0 00 00 "  # 2002: 5 A
        "bf 80 00 00 "  # 2004: -1 kW
        + "00 00 00 00 " * 2
        + "3f 00 00 00 "  # 200A: 0.5
        + "00 00 00 00 "
        + "42 48 00 00"  # 200E: 50 Hz
    )
    (sample,) = decode("chint-ddsu666", now, "03 04 44 9a 52 2b")  # 4000: 1234.5677490234375 kWh
    assert sample.register_wh == 1_234_568
    assert (sample.voltage_v, sample.current_a, sample.power_w) == (220.0, 5.0, -1000.0)
    assert (sample.power_factor, sample.frequency_hz) == (0.5, 50.0)


def test_a_hiking_meter_bills_import_and_reads_its_relay_back() -> None:
    plan = plan_poll(profile_of("hiking-dds238-zn-sr"), Rate.FULL)
    assert requests_of(plan) == ["03 00 0a 00 08", "03 00 1a 00 01"]
    now = (
        "03 10 "
        "00 01 00 02 "  # 000A: 65538 × 10 Wh
        "08 fc "  # 000C: 230.0 V
        "01 f4 "  # 000D: 5.00 A
        "fb 82 "  # 000E: -1150 W
        "00 00 "  # 000F: var
        "03 e8 "  # 0010: 1.000
        "13 88 "  # 0011: 50.00 Hz
    )
    (sample,) = decode("hiking-dds238-zn-sr", now, "03 02 00 01")
    assert sample.register_wh == 655_380
    assert (sample.voltage_v, sample.current_a, sample.power_w) == (230.0, 5.0, -1150.0)
    assert (sample.power_factor, sample.frequency_hz, sample.relay) == (1.0, 50.0, Relay.CLOSED)
    assert decode("hiking-dds238-zn-sr", now, "03 02 00 00")[0].relay is Relay.OPEN
    assert decode("hiking-dds238-zn-sr", now, "03 02 00 07")[0].relay is None


def test_an_acrel_meter_has_no_relay_to_read() -> None:
    plan = plan_poll(profile_of("acrel-ddsy1352"), Rate.FULL)
    assert requests_of(plan) == ["03 00 00 00 11"]
    answer = (
        "03 22 "
        "00 02 00 01 " + "00 00 " * 9 + "08 fc "  # 0000: 131073 × 10 Wh  # 000B: 230.0 V
        "00 64 "  # 000C: 1.00 A
        "ff 1a "  # 000D: -230 × 1 W
        "00 00 "  # 000E
        "00 e6 "  # 000F: VA
        "03 e7 "  # 0010: 0.999
    )
    (sample,) = decode("acrel-ddsy1352", answer)
    assert sample.register_wh == 1_310_730
    assert (sample.voltage_v, sample.current_a, sample.power_w) == (230.0, 1.0, -230.0)
    assert (sample.power_factor, sample.frequency_hz, sample.relay) == (0.999, None, None)


@pytest.mark.parametrize(
    ("name", "channel", "opens", "closes", "reads_back"),
    [
        ("dormpower-dual", 0, "06 00 1b 55 aa", "06 00 1b aa 55", ["03 00 18 00 01"]),
        ("dormpower-dual", 1, "06 00 3b 55 aa", "06 00 3b aa 55", ["03 00 38 00 01"]),
        ("hiking-dds238-zn-sr", 0, "10 00 1a 00 01 02 00 00", "10 00 1a 00 01 02 00 01", ["03 00 1a 00 01"]),
        ("acrel-ddsy1352", 0, "10 00 57 00 02 04 00 01 00 01", "10 00 57 00 02 04 00 01 00 00", []),
    ],
)
def test_a_relay_is_written_in_the_documented_form_alone(
    name: str, channel: int, opens: str, closes: str, reads_back: list[str]
) -> None:
    profile = profile_of(name)
    assert profile.relay is not None
    write = profile.relay.write
    address = write.address + channel * profile.channels.stride
    for words, frame in ((write.open, opens), (write.close, closes)):
        request = write_request(unit=1, function=write.function, address=address, words=words)
        assert request.pdu.hex(" ") == frame
    assert requests_of(plan_relay(profile, channel)) == reads_back


def test_a_coil_is_written_with_function_5() -> None:
    request = write_request(unit=1, function=5, address=0x0010, words=(0xFF00,))
    assert request.pdu.hex(" ") == "05 00 10 ff 00"


# The check sums of these frames are from the CRC-16/MODBUS of public examples: 01 03 00 00 00 0A has C5 CD.
def test_rtu_frames_end_with_their_check_sum_low_byte_first() -> None:
    request = read_request(unit=1, function=3, address=0, count=10)
    assert RtuCutter().frame(request, 7).hex(" ") == "01 03 00 00 00 0a c5 cd"


def test_socket_frames_begin_with_transaction_protocol_length_and_unit() -> None:
    request = read_request(unit=0x11, function=3, address=0x6B, count=3)
    assert SocketCutter().frame(request, 0x1501).hex(" ") == "15 01 00 00 00 06 11 03 00 6b 00 03"


def test_what_follows_an_rtu_answer_is_kept() -> None:
    # 01 83 02 with C0 F1, the well-known exception answer, twice in one segment.
    frame, rest = RtuCutter().cut(bytes.fromhex("01 83 02 c0 f1 01 83 02 c0 f1"))
    assert frame is not None
    assert (frame.unit, frame.pdu.hex()) == (1, "8302")
    assert rest.hex() == "018302c0f1"


def test_low_word_first_is_put_in_order() -> None:
    document = profile_of("hiking-dds238-zn-sr").model_dump(mode="python")
    document["quantities"]["register_wh"]["words"] = "little"
    profile = ModbusProfile.model_validate({**document, "kind": "modbus"})
    decoder = Decoder(profile, plan_poll(profile, Rate.FULL))
    samples = decoder.decode(
        [bytes.fromhex("03 10 00 02 00 01 00 00 00 00 00 00 00 00 00 00 00 00"), bytes.fromhex("03 02 00 01")]
    )
    assert samples[0].register_wh == 655_380


def test_a_register_that_is_no_number_is_an_unusable_reply_and_never_a_zero() -> None:
    with pytest.raises(UnusableReplyError, match="register_wh: expected a number, got nan"):
        decode("eastron-sdm230", SDM230_NOW, "04 08 42 48 00 00 7f c0 00 00")


def test_a_voltage_that_is_no_number_is_unknown() -> None:
    nan = SDM230_NOW.replace("43 66 80 00", "7f c0 00 00")
    (sample,) = decode("eastron-sdm230", nan, SDM230_ENERGY)
    assert sample.voltage_v is None


def test_a_fast_poll_of_a_dual_leaves_the_register_out() -> None:
    profile = profile_of("dormpower-dual")
    plan = plan_poll(profile, Rate.FAST)
    assert requests_of(plan) == ["03 00 12 00 27"]
    fast = "03 4e " + DUAL[len("03 52 05 f5 e0 ff ") :]
    first, second = Decoder(profile, plan).decode([bytes.fromhex(fast)])
    assert (first.register_wh, first.power_w, first.relay) == (None, 10_000.0, Relay.CLOSED)
    assert math.isclose(second.power_w or 0, -20.0)


def test_a_plan_reads_as_a_person_would_say_it() -> None:
    assert str(plan_relay(profile_of("dormpower-dual"), 1)) == "FC03 0x0038-0x0038 (1): relay[1]"


def test_a_request_knows_the_length_of_its_answer() -> None:
    assert read_request(unit=1, function=1, address=0, count=9).answer_bytes == 4
    assert Request(1, b"\x03", 2).function == 3
