"""The shipped profiles, and how faults in a site's own are told."""

from fractions import Fraction
from pathlib import Path

import pytest

from config.profiles import ModbusProfile, UnableToLoadProfilesError, load_profiles
from dormpower.domain.flags import STANDARD_MEANINGS
from dormpower.domain.samples import Flag

GOOD = """
name: acme-one
kind: modbus
title: Acme One
source: Acme manual 1.2
energy: {resolution_wh: 1}
read: {function: 3}
quantities:
  register_wh: {address: 0x0000, type: u32, scale: "0.1"}
relay:
  write: {function: 5, address: 0x0010, open: [0x0000], close: [0xFF00]}
  state: {address: 0x0010, function: 1}
"""


def faults_of(folder: Path) -> str:
    with pytest.raises(UnableToLoadProfilesError) as refusal:
        load_profiles(folder)
    return str(refusal.value)


def test_the_shipped_profiles_are_those_of_the_documentation() -> None:
    assert set(load_profiles()) == {
        "acrel-ddsy1352",
        "chint-ddsu666",
        "dormpower-dual",
        "dormpower-mqtt",
        "eastron-sdm120",
        "eastron-sdm220",
        "eastron-sdm230",
        "eastron-sdm630",
        "hiking-dds238-zn-sr",
    }


def test_only_models_with_a_documented_read_back_confirm() -> None:
    profiles = load_profiles().values()
    assert {profile.name for profile in profiles if profile.has_relay} == {
        "acrel-ddsy1352",
        "dormpower-dual",
        "dormpower-mqtt",
        "hiking-dds238-zn-sr",
    }
    assert {profile.name for profile in profiles if profile.confirms} == {
        "dormpower-dual",
        "dormpower-mqtt",
        "hiking-dds238-zn-sr",
    }


def test_a_new_model_needs_a_file_and_no_code(tmp_path: Path) -> None:
    (tmp_path / "acme-one.yaml").write_text(GOOD, encoding="utf-8")
    profile = load_profiles(tmp_path)["acme-one"]
    assert isinstance(profile, ModbusProfile)
    assert profile.quantities.register_wh is not None
    assert profile.quantities.register_wh.scale == Fraction(1, 10)
    assert profile.confirms


def test_every_fault_of_every_file_is_told_at_once_with_file_key_found_and_expected(tmp_path: Path) -> None:
    (tmp_path / "acme-one.yaml").write_text(
        GOOD.replace("0x0000, type: u32", "70000, type: u23").replace("title", "titel"), encoding="utf-8"
    )
    (tmp_path / "acme-two.yaml").write_text("name: acme-two\nkind: zigbee\n", encoding="utf-8")
    text = faults_of(tmp_path)
    assert "acme-one.yaml: quantities.register_wh.address: expected an address 0–65535" in text
    assert "got 70000" in text
    assert "acme-one.yaml: quantities.register_wh.type: expected u16, i16, u32" in text
    assert "acme-one.yaml: titel: unknown key, did you mean title?" in text
    assert "acme-two.yaml: kind: expected modbus or mqtt, got 'zigbee'" in text


def test_a_scale_that_is_a_float_is_refused(tmp_path: Path) -> None:
    (tmp_path / "acme-one.yaml").write_text(GOOD.replace('"0.1"', "0.1"), encoding="utf-8")
    assert "quantities.register_wh.scale: expected an exact number" in faults_of(tmp_path)


def test_a_profile_may_not_take_the_name_of_a_shipped_one(tmp_path: Path) -> None:
    (tmp_path / "dormpower-dual.yaml").write_text(GOOD.replace("acme-one", "dormpower-dual"), encoding="utf-8")
    assert "name: 'dormpower-dual' is already the profile of" in faults_of(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "right", "told"),
    [
        ("open: [0x0000]", "open: [0x0000, 0x0001]", "relay.write.open: expected 1 word for function 5, got 2"),
        ("close: [0xFF00]", "close: [0x0001]", "relay.write.close: expected 0x0000 or 0xFF00 for function 5"),
        ("close: [0xFF00]", "close: [0x0000]", "relay.write.close: expected other words"),
        ("function: 1}", "function: 1, bit: 3}", "relay.state: expected one of"),
        ("name: acme-one", "name: acme-other", "name: expected 'acme-one' as the file is called"),
        ("energy:", "channels: {count: 2}\nenergy:", "channels.stride: expected registers between 2 channels"),
    ],
)
def test_what_takes_two_values_to_see_is_told_too(tmp_path: Path, wrong: str, right: str, told: str) -> None:
    assert wrong in GOOD
    (tmp_path / "acme-one.yaml").write_text(GOOD.replace(wrong, right), encoding="utf-8")
    assert told in faults_of(tmp_path)


def test_a_relay_write_over_registers_that_must_not_be_written_is_refused(tmp_path: Path) -> None:
    text = GOOD.replace("function: 5", "function: 6") + "never_write: [0x0010]\n"
    (tmp_path / "acme-one.yaml").write_text(text, encoding="utf-8")
    assert "relay.write.address: writes 0x0010, which never_write forbids" in faults_of(tmp_path)


# --- what a model's flags mean --------------------------------------------------------------------------------

FLAGS = "flags: {address: 0x0020, bits: {overload_trip: 1, cover_open: 4}}\n"
MQTT = """
name: acme-radio
kind: mqtt
title: Acme Radio
source: Acme manual 2
energy: {resolution_wh: 1}
topics: {reading: "acme/{module}/up"}
message:
  quantities: {register_wh: {path: wh}}
  flags: {path: alarms, names: {cover_open: LID}}
"""
RADIO = MQTT.replace("acme-radio", "acme-one")
TABLE = f"a mapping of {', '.join(Flag)} to trip, alarm, trip_and_alarm, ignored"


def test_a_profile_says_what_its_model_s_flags_mean_and_the_others_are_as_usual(tmp_path: Path) -> None:
    said = "flag_meanings: {cover_open: trip_and_alarm, overload_trip: alarm}\n"
    (tmp_path / "acme-one.yaml").write_text(GOOD + FLAGS + said, encoding="utf-8")
    (tmp_path / "acme-radio.yaml").write_text(MQTT + "flag_meanings: {cover_open: ignored}\n", encoding="utf-8")
    profiles = load_profiles(tmp_path)
    wired, radio = profiles["acme-one"].meanings, profiles["acme-radio"].meanings
    assert wired.trips == {Flag.PROHIBITED_TRIP, Flag.OVER_TEMPERATURE, Flag.COVER_OPEN}
    assert wired.alarms == {Flag.OVERLOAD_TRIP, Flag.OVER_TEMPERATURE, Flag.COVER_OPEN, Flag.RELAY_FAULT}
    assert radio.ignored == {Flag.COVER_OPEN}
    assert all(one.meanings == STANDARD_MEANINGS for name, one in profiles.items() if "acme" not in name)


@pytest.mark.parametrize(
    ("text", "key", "expected", "got"),
    [
        (GOOD + FLAGS + "flag_meanings: {cover_open: panic}\n", "cover_open", TABLE, "'panic'"),
        (GOOD + FLAGS + "flag_meanings: {lid_open: alarm}\n", "lid_open", TABLE, ""),
        (GOOD + FLAGS + "flag_meanings: trip\n", "", TABLE, "'trip'"),
        (
            GOOD + FLAGS + "flag_meanings: {relay_fault: ignored}\n",
            "relay_fault",
            "a flag of flags.bits",
            "one that the model does not have",
        ),
        (
            RADIO + "flag_meanings: {overload_trip: alarm}\n",
            "overload_trip",
            "a flag of message.flags.names",
            "one that the model does not have",
        ),
        (
            RADIO + "flag_meanings: {cover_open: trip}\n",
            "cover_open",
            "alarm or ignored where no relay is read back",
            "'trip'",
        ),
    ],
)
def test_a_meaning_that_can_not_be_is_told_with_file_key_found_and_expected(
    tmp_path: Path, text: str, key: str, expected: str, got: str
) -> None:
    (tmp_path / "acme-one.yaml").write_text(text, encoding="utf-8")
    told = faults_of(tmp_path)
    assert f"acme-one.yaml: flag_meanings{key and '.'}{key}: " in told
    assert f"expected {expected}" in told
    assert not got or told.endswith(f", got {got}")
