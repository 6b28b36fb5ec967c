"""Models of other makers, made up for these tests: a profile in a folder of the site's own, and no code."""

from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import pytest

from config.profiles import MqttProfile, UnableToLoadProfilesError, load_profiles
from dormpower.domain.samples import ChannelSample, Flag, ModuleSample, Relay
from gateway.drivers.mqtt.payloads import Outcome, Result, UnableToUsePayloadError
from gateway.drivers.mqtt.profile_messages import ProfileMessages
from gateway.drivers.mqtt.topics import Topics, UnableToUseTopicsError

FOLDER = Path(__file__).parent / "vendor_profiles"
NOW = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
DEADLINE_S = 20.0


def profile(name: str) -> MqttProfile:
    found = load_profiles(FOLDER)[name]
    assert isinstance(found, MqttProfile)
    return found


PLUG, RAIL, METER, BLIND = (
    ProfileMessages(profile(name)) for name in ("acme-plug", "acme-rail", "acme-meter", "acme-blind")
)
PLUG_READING = (
    b'{"Time":"2026-03-01T16:00:00","POWER1":"ON","POWER2":"OFF","ENERGY":{"Total":[12.3455,0.0],'
    b'"Voltage":"229.8","Current":[3540,0],"Power":[812.5,0],"Frequency":5001}}'
)
RAIL_READING = (
    b'{"ts":1772352000.25,"params":{"energy":{"total":74073599},"power":-3.5,"pf":-98,"output":false,'
    b'"errors":["overpower","sun_spots"]}}'
)


def take(messages: ProfileMessages, payload: bytes) -> ModuleSample:
    return messages.sample(payload, module_id="m", arrived_at=NOW)


def test_nested_values_and_lists_are_scaled_exactly_and_rounded_once_half_to_even():
    taken = take(PLUG, PLUG_READING)
    assert (taken.at, taken.boot_id, taken.seq) == (NOW, None, None)
    assert taken.channels == (
        ChannelSample(
            channel=0,
            register_wh=12346,  # 12345.5 Wh, to even
            voltage_v=229.8,
            current_a=3.54,
            power_w=812.5,
            frequency_hz=50.01,
            relay=Relay.CLOSED,
        ),
        ChannelSample(
            channel=1,
            register_wh=0,
            voltage_v=229.8,
            current_a=0.0,
            power_w=0.0,
            frequency_hz=50.01,
            relay=Relay.OPEN,
        ),
    )


@pytest.mark.parametrize(
    ("kwh", "expected_wh"),
    [("0.0005", 0), ("0.0015", 2), ("0.0025", 2), ("8388608.0005", 8388608000), ("1e3", 1_000_000)],
)
def test_a_register_is_never_a_float_on_its_way(kwh: str, expected_wh: int):
    payload = PLUG_READING.replace(b"12.3455", kwh.encode())
    assert take(PLUG, payload).channels[0].register_wh == expected_wh


def test_one_object_with_a_time_in_seconds_watt_minutes_and_truth_values():
    taken = take(RAIL, RAIL_READING)
    assert taken.at == datetime(2026, 3, 1, 8, 0, 0, 250_000, tzinfo=UTC)
    assert taken.channels == (
        ChannelSample(
            channel=0,
            register_wh=round(Fraction(74073599, 60)),
            power_w=-3.5,
            power_factor=-0.98,
            relay=Relay.OPEN,
            flags=frozenset({Flag.OVERLOAD_TRIP}),
        ),
    )
    assert taken.channels[0].register_wh == 1_234_560


@pytest.mark.parametrize(
    ("messages", "payload", "place"),
    [
        (PLUG, PLUG_READING.replace(b'"ON"', b'"on"'), "POWER1"),
        (PLUG, PLUG_READING.replace(b'"229.8"', b"229.8"), "ENERGY.Voltage"),
        (PLUG, PLUG_READING.replace(b'"229.8"', b'"1e999999999"'), "ENERGY.Voltage"),
        (PLUG, PLUG_READING.replace(b"12.3455", b'"12.3455"'), "ENERGY.Total.0"),
        (PLUG, PLUG_READING.replace(b"12.3455", b"-0.0001"), "ENERGY.Total.0"),
        (PLUG, PLUG_READING.replace(b"12.3455", b"1e999999999"), "ENERGY.Total.0"),
        (PLUG, PLUG_READING.replace(b"12.3455", b"true"), "ENERGY.Total.0"),
        (PLUG, b'{"POWER1":"ON","ENERGY":7}', "ENERGY"),
        (PLUG, b'{"Uptime":7}', "payload"),
        (RAIL, RAIL_READING.replace(b"false", b"0"), "params.output"),
        (RAIL, RAIL_READING.replace(b"-98", b"-9.8"), "params.pf"),
        (RAIL, RAIL_READING.replace(b"1772352000.25", b'"1772352000"'), "ts"),
        (RAIL, RAIL_READING.replace(b"1772352000.25", b"17"), "ts"),
        (RAIL, RAIL_READING.replace(b"1772352000.25", b"1e20"), "ts"),
        (RAIL, RAIL_READING.replace(b'"ts"', b'"at"'), "ts"),
        (METER, b'{"e":12}', "e"),
        (METER, b'{"e":"12 Wh"}', "e"),
    ],
)
def test_what_the_profile_names_must_be_right_or_is_refused_with_the_place(
    messages: ProfileMessages, payload: bytes, place: str
):
    with pytest.raises(UnableToUsePayloadError) as caught:
        take(messages, payload)
    assert str(caught.value).startswith(f"bad_reading: {place}: ")


def test_what_a_model_leaves_out_is_unknown():
    (first, second) = take(PLUG, b'{"POWER2":"OFF"}').channels
    assert first == ChannelSample(channel=0)
    assert second == ChannelSample(channel=1, relay=Relay.OPEN)


def test_commands_are_worded_to_the_byte():
    def word(messages: ProfileMessages, relay: Relay) -> bytes:
        return messages.command(command_id="c-1", channel=0, relay=relay, expires_at=NOW)

    assert word(PLUG, Relay.OPEN) == b"OFF"
    assert word(PLUG, Relay.CLOSED) == b"ON"
    assert word(RAIL, Relay.OPEN) == (
        b'{"method":"Switch.Set","id":"c-1","params":{"id":0,"on":false,"until":"2026-03-01T08:00:00+00:00"}}'
    )
    assert word(BLIND, Relay.CLOSED) == b'{"id":"c-1","do":"supply","expires_at":"2026-03-01T08:00:00+00:00"}'


def test_results_and_status_are_read_in_the_models_own_words():
    assert RAIL.result(b'{"id":"c-1","code":0,"result":{"output":false}}') == Result(
        id="c-1", outcome=Outcome.DONE, relay=Relay.OPEN
    )
    assert RAIL.result(b'{"id":"c-1","code":7}') == Result(id="c-1", outcome=Outcome.REFUSED)
    for unusable in (
        b'{"id":"c-1","code":false}',
        b'{"id":"c-1","code":9}',
        b'{"id":1,"code":0}',
        b'{"code":0}',
    ):
        with pytest.raises(UnableToUsePayloadError, match="bad_result"):
            RAIL.result(unusable)
    assert (PLUG.status(b"Online"), PLUG.status(b"Offline")) == (True, False)
    with pytest.raises(UnableToUsePayloadError, match="bad_status: expected Online or Offline"):
        PLUG.status(b"online")


def test_topics_and_subscriptions_follow_the_profiles_in_use():
    topics = Topics("s", {"p-1": PLUG.profile, "p-2": PLUG.profile, "r-1": RAIL.profile, "e": METER.profile})
    assert topics.filters() == (
        "tele/+/SENSOR",
        "tele/+/LWT",
        "+/events/rail",
        "+/rpc/answer",
        "meters/+",
    )
    found = topics.parse("tele/s-p-2/SENSOR")
    assert found is not None
    assert (found.module_id, found.kind.value) == ("p-2", "reading")
    for foreign in ("tele/s-p-3/SENSOR", "tele/other-p-2/SENSOR", "tele/s-p-2/STATE", "meters/r-1"):
        assert topics.parse(foreign) is None
    assert topics.command("p-2", 1) == "cmnd/s-p-2/POWER2"
    assert topics.command("r-1", 0) == "r-1/rpc"
    assert topics.command("e", 0) is None


def test_two_modules_that_would_share_a_topic_are_refused():
    other = METER.profile.model_copy(
        update={"topics": METER.profile.topics.model_copy(update={"reading": "meters/x{module}"})}
    )
    with pytest.raises(UnableToUseTopicsError, match="share the topic meters/xy"):
        Topics("s", {"xy": METER.profile, "y": other})


def test_only_a_relay_that_readings_report_can_be_confirmed():
    assert [(one.profile.has_relay, one.profile.confirms) for one in (PLUG, RAIL, METER, BLIND)] == [
        (True, True),
        (True, True),
        (False, False),
        (True, False),
    ]


@pytest.mark.parametrize(
    ("name", "change", "fault"),
    [
        ("acme-plug", ('POWER{channel_1}"\nmessage', 'POWER"\nmessage'), "command.channel: expected a key"),
        ("acme-plug", ('"POWER{channel_1}", open', '"POWER1", open'), "message.relay.path: expected {channel}"),
        ("acme-plug", ('closed: "ON"', 'closed: "OFF"'), "message.relay.closed: expected another word"),
        ("acme-plug", ("tele/{site}-{module}/LWT", "tele/{room}/{module}"), "topics.status: expected a topic"),
        ("acme-plug", ("{module}/LWT", "{module}/SENSOR"), "topics.status: expected another topic"),
        (
            "acme-rail",
            ('  result: "{module}/rpc/answer"\n', ""),
            "topics.result: expected a topic for the results",
        ),
        ("acme-rail", ("command:\n  id: id", "command:\n  id: null"), "result: expected commands with an id"),
        ("acme-rail", ("done: 0", "failed: 0"), "result.outcomes: expected a word for done"),
        ("acme-rail", ("expired: 4", "expired: 7"), "result.outcomes: expected each word once"),
        ("acme-rail", ("at_form: epoch_s", "at_form: unix"), "message.at_form: expected rfc3339, epoch_s or"),
        ("acme-blind", ("open: cut, ", ""), "command: expected both open and closed"),
        ("acme-meter", ("form: text", "form: float"), "message.quantities.register_wh.form: expected number"),
    ],
)
def test_a_profile_that_contradicts_itself_is_refused_with_its_place(
    name: str, change: tuple[str, str], fault: str, tmp_path: Path
):
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert change[0] in text
    (tmp_path / f"{name}.yaml").write_text(text.replace(*change), encoding="utf-8")
    with pytest.raises(UnableToLoadProfilesError) as caught:
        load_profiles(tmp_path)
    assert fault in str(caught.value)
