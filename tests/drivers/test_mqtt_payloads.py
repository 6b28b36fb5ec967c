"""What modules may say over MQTT, to the letter, and what is refused by name."""

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.profiles import MqttProfile, load_profiles
from dormpower.domain.samples import ChannelSample, Flag, Relay
from gateway.drivers.mqtt.commands import switch_result
from gateway.drivers.mqtt.payloads import (
    MAX_PAYLOAD_BYTES,
    Outcome,
    Refusal,
    Result,
    UnableToUsePayloadError,
)
from gateway.drivers.mqtt.profile_messages import ProfileMessages
from gateway.drivers.mqtt.sequence import Sequences
from gateway.drivers.mqtt.topics import Kind, ModuleTopic, Topics, UnableToUseTopicsError
from gateway.ports import SwitchOutcome

_profile = load_profiles()["dormpower-mqtt"]
assert isinstance(_profile, MqttProfile)
DORMPOWER = _profile
MESSAGES = ProfileMessages(DORMPOWER)
NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
CHANNEL = {
    "channel": 0,
    "wh": 1_234_560,
    "v": 229.8,
    "a": 3.54,
    "w": 812,
    "pf": 0.998,
    "relay": "closed",
    "flags": ["overload_trip"],
}


def sample(payload: Any) -> Any:
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return MESSAGES.sample(data, module_id="m-1", arrived_at=NOW)


def reading(**changes: Any) -> dict[str, Any]:
    return {"at": "2026-03-01T15:59:30.250+08:00", "boot_id": "b7", "seq": 12, "channels": [CHANNEL]} | changes


def channel(**changes: Any) -> dict[str, Any]:
    return reading(channels=[CHANNEL | changes])


def test_a_reading_is_taken_to_the_letter():
    taken = sample(reading())
    assert (taken.module_id, taken.boot_id, taken.seq) == ("m-1", "b7", 12)
    assert taken.at == datetime(2026, 3, 1, 7, 59, 30, 250_000, tzinfo=UTC)
    assert taken.at.tzinfo is UTC
    assert taken.channels == (
        ChannelSample(
            channel=0,
            register_wh=1_234_560,
            voltage_v=229.8,
            current_a=3.54,
            power_w=812.0,
            power_factor=0.998,
            relay=Relay.CLOSED,
            flags=frozenset({Flag.OVERLOAD_TRIP}),
        ),
    )


def test_a_reading_without_a_time_is_stamped_on_arrival():
    assert sample(reading(at=None)).at == NOW


def test_what_a_module_lacks_is_unknown():
    (only,) = sample({"at": None, "channels": [{"channel": 1}]}).channels
    assert only == ChannelSample(channel=1)


def test_keys_and_flags_of_newer_firmware_are_passed_over():
    taken = sample(channel(flags=["sun_spots", "cover_open"], harmonics=[1, 2]) | {"firmware": 9})
    assert taken.channels[0].flags == {Flag.COVER_OPEN}


@pytest.mark.parametrize(
    ("payload", "place"),
    [
        (b"", "payload"),
        (b"\xff\xfe", "payload"),
        (b"[" * 5_000, "payload"),
        (b"null", "payload"),
        (b"[]", "payload"),
        (b'{"at": null}', "channels"),
        (b'{"channels": [{"channel": 0}]}', "at"),
        (b'{"at": null, "channels": [{"channel": 0, "w": NaN}]}', "channels.0.w"),
        (b'{"at": null, "channels": [{"channel": 0, "w": 1e999}]}', "channels.0.w"),
        (reading(at=1_772_323_200), "at"),
        (reading(at="1772323200"), "at"),
        (reading(at="2026-03-01T08:00:00"), "at"),
        (reading(at="0001-01-01T00:00:00+08:00"), "at"),
        (reading(at="1970-01-01T00:00:07Z"), "at"),
        (reading(at="2026-02-30T00:00:00Z"), "at"),
        (reading(seq=-1), "seq"),
        (reading(seq="12"), "seq"),
        (reading(boot_id=""), "boot_id"),
        (reading(channels=[]), "channels"),
        (reading(channels=[CHANNEL, CHANNEL]), "channels"),
        (reading(channels=[CHANNEL | {"channel": number} for number in range(33)]), "channels"),
        (channel(channel=-1), "channels.0.channel"),
        (channel(channel=True), "channels.0.channel"),
        (channel(wh=1.5), "channels.0.wh"),
        (channel(wh=-1), "channels.0.wh"),
        (channel(wh="1"), "channels.0.wh"),
        (channel(wh=10**30), "channels.0.wh"),
        (channel(v="230"), "channels.0.v"),
        (channel(w=True), "channels.0.w"),
        (channel(pf=99.8), "channels.0.pf"),
        (channel(relay="OPEN"), "channels.0.relay"),
        (channel(relay=1), "channels.0.relay"),
        (channel(flags="overload_trip"), "channels.0.flags"),
        (channel(flags=[1]), "channels.0.flags.0"),
    ],
)
def test_a_reading_that_is_wrong_anywhere_is_refused_with_the_place(payload: Any, place: str):
    with pytest.raises(UnableToUsePayloadError) as caught:
        sample(payload)
    assert caught.value.refusal is Refusal.BAD_READING
    assert str(caught.value).startswith(f"bad_reading: {place}: ")


def test_a_payload_beyond_the_bound_is_refused_before_it_is_looked_at():
    with pytest.raises(UnableToUsePayloadError, match="too_large") as caught:
        sample(b" " * (MAX_PAYLOAD_BYTES + 1))
    assert caught.value.refusal is Refusal.TOO_LARGE


@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_taken_or_refused_by_name(payload: bytes):
    for parse in (sample, MESSAGES.status, MESSAGES.result):
        with contextlib.suppress(UnableToUsePayloadError):
            parse(payload)


def test_a_status_is_one_of_two_words():
    assert MESSAGES.status(b"online") is True
    assert MESSAGES.status(b"offline") is False
    for other in (b"", b"Online", b"online ", b"null", b"x" * 100_000):
        with pytest.raises(UnableToUsePayloadError, match="bad_status"):
            MESSAGES.status(other)


def test_a_command_is_worded_as_agreed():
    payload = MESSAGES.command(command_id="c-1", channel=1, relay=Relay.OPEN, expires_at=NOW)
    assert json.loads(payload) == {
        "id": "c-1",
        "channel": 1,
        "relay": "open",
        "expires_at": "2026-03-01T08:00:00+00:00",
    }


@pytest.mark.parametrize(
    ("outcome", "relay", "expected"),
    [
        (Outcome.DONE, Relay.OPEN, SwitchOutcome.CONFIRMED),
        (Outcome.DONE, Relay.CLOSED, SwitchOutcome.NOT_FOLLOWED),
        (Outcome.DONE, None, SwitchOutcome.UNCONFIRMED),
        (Outcome.REPEATED, Relay.OPEN, SwitchOutcome.CONFIRMED),
        (Outcome.REPEATED, Relay.CLOSED, SwitchOutcome.NOT_FOLLOWED),
        (Outcome.REPEATED, None, SwitchOutcome.UNCONFIRMED),
        (Outcome.FAILED, Relay.CLOSED, SwitchOutcome.NOT_FOLLOWED),
        (Outcome.FAILED, Relay.OPEN, SwitchOutcome.NOT_FOLLOWED),
        (Outcome.FAILED, None, SwitchOutcome.NOT_FOLLOWED),
        (Outcome.EXPIRED, Relay.OPEN, SwitchOutcome.EXPIRED),
        (Outcome.REFUSED, Relay.OPEN, SwitchOutcome.REFUSED),
    ],
)
def test_only_the_modules_own_report_of_the_wanted_state_confirms(
    outcome: Outcome, relay: Relay | None, expected: SwitchOutcome
):
    ended = switch_result(Result(id="c", outcome=outcome, relay=relay), wanted=Relay.OPEN)
    assert (ended.outcome, ended.relay) == (expected, relay)


@pytest.mark.parametrize(
    ("topic", "expected"),
    [
        ("dormpower/s/m-1/reading", ModuleTopic("m-1", Kind.READING)),
        ("dormpower/s/m-1/status", ModuleTopic("m-1", Kind.STATUS)),
        ("dormpower/s/m-1/result", ModuleTopic("m-1", Kind.RESULT)),
        ("dormpower/s/m-1/command", None),
        ("dormpower/s//reading", None),
        ("dormpower/other/m-1/reading", None),
        ("dormpower/s/gateway/g1/status", None),
        ("dormpower/s/m-1", None),
        ("m-1/reading", None),
    ],
)
def test_topics_are_taken_apart_strictly(topic: str, expected: ModuleTopic | None):
    assert Topics("s", {"m-1": DORMPOWER}).parse(topic) == expected


def test_a_site_id_that_would_widen_the_subscriptions_is_refused():
    for site_id in ("", "a/b", "+", "#"):
        with pytest.raises(UnableToUseTopicsError, match=r"site\.id"):
            Topics(site_id, {})


def test_sequence_numbers_count_what_is_missing_and_what_comes_again():
    sequences = Sequences()
    steps = [("b1", 5), ("b1", 6), ("b1", 9), ("b1", 9), ("b1", 7), ("b1", 10), ("b2", 0), ("b2", 1)]
    assert [sequences.note("m", boot_id=boot_id, seq=seq) for boot_id, seq in steps] == [
        (0, 0),
        (0, 0),
        (2, 0),
        (0, 1),
        (0, 1),
        (0, 0),
        (0, 0),
        (0, 0),
    ]
    assert sequences.note("m", boot_id="b2", seq=None) == (0, 0)
    assert sequences.note("n", boot_id="b2", seq=77) == (0, 0)
