"""Broken site files: every fault at once, with file, key, what was found and what was expected."""

import shutil
from pathlib import Path

import pytest
import yaml

from config.faults import UnableToLoadSiteError
from config.settings import load, resolve_path
from dormpower.domain.arrears import ArrearsPolicy
from dormpower.domain.holds import Enforcement
from dormpower.domain.scopes import Where
from dormpower.domain.site import Framer, Transport

EXAMPLES = Path(__file__).parents[2] / "config" / "examples"

GOOD = """
site: {id: s, name: S, zone: Asia/Shanghai}
mqtt: {url: "mqtt://127.0.0.1:1883", username: gateway, password_env: TEST_MQTT_PASSWORD}
lines:
  - {id: a, transport: tcp, host: 127.0.0.1, port: 5020}
modules:
  - {id: m1, profile: dormpower-dual, line: a, unit: 1}
  - {id: m2, profile: dormpower-mqtt}
  - {id: m3, profile: eastron-sdm120, line: a, unit: 3}
  - {id: m4, profile: acrel-ddsy1352, line: a, unit: 4}
rooms:
  - {room_id: r1, campus: c, building: b, floor: 1, name: 1, lighting_module: m1, lighting_channel: 0,
     ac_module: m1, ac_channel: 1, rated_current_a: 32, feeder: f}
feeders: [{id: f, limit_kw: 10.5}]
policies:
  prices: [{from: 2026-01-01, kind: all, price_millifen_per_kwh: 56530}]
  arrears: {low_wh: 20000, critical_wh: 5000, courtesy: ["23:00-07:00"], mode: off}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "site.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TEST_MQTT_PASSWORD", "hunter2")


def faults_of(path: Path) -> list[str]:
    with pytest.raises(UnableToLoadSiteError) as refusal:
        load(path)
    return [str(fault) for fault in refusal.value.faults]


BROKEN = [
    (
        "lines:\n",
        "readings: {store: influxdb, url: 'http://127.0.0.1:8086', bucket: dorm, keep_days: 90}\nlines:\n",
        (
            "site.yaml: readings.keep_days: unknown key here; the retention period of the bucket says how long "
            "readings stay; set it in InfluxDB"
        ),
    ),
    ("port: 5020", "port: 70000", "site.yaml: lines[0].port: expected 1–65535, got 70000"),
    ("port: 5020", 'port: "5020"', "site.yaml: lines[0].port: expected 1–65535, got '5020'"),
    ("port: 5020", "prot: 5020", "site.yaml: lines[0].prot: unknown key, did you mean port?"),
    (
        "transport: tcp",
        "transport: udp",
        "site.yaml: lines[0].transport: expected tcp or serial, got 'udp'",
    ),
    (
        "id: s, name",
        "id: S 1, name",
        "site.yaml: site.id: expected a slug of a–z, 0–9, - and _ (at most 64), got 'S 1'",
    ),
    (
        "zone: Asia/Shanghai",
        "zone: Asia/Shangai",
        "site.yaml: site.zone: expected an IANA time zone such as Asia/Shanghai, got 'Asia/Shangai'",
    ),
    (
        "password_env: TEST_MQTT_PASSWORD",
        "password: hunter2",
        "site.yaml: mqtt.password: a secret must not stand inline; use password_file or password_env",
    ),
    (
        "password_env: TEST_MQTT_PASSWORD",
        "password_env: NO_SUCH",
        "site.yaml: mqtt.password_env: expected an environment variable NO_SUCH, got none",
    ),
    (
        "password_env: TEST_MQTT_PASSWORD",
        "password_file: nowhere",
        "site.yaml: mqtt.password_file: expected a readable text file, got none at nowhere",
    ),
    ("unit: 3}", "unit: 1}", "site.yaml: modules[2].unit: unit 1 of line a is already modules[0]"),
    ("id: m2", "id: m1", "site.yaml: modules[1].id: 'm1' is already modules[0]"),
    ("line: a, unit: 3", "line: aa, unit: 3", "site.yaml: modules[2].line: unknown line 'aa', did you mean a?"),
    (
        "profile: eastron-sdm120",
        "profile: eastron-sdm12",
        "site.yaml: modules[2].profile: unknown profile 'eastron-sdm12', did you mean eastron-sdm120?",
    ),
    (
        "profile: dormpower-mqtt}",
        "profile: dormpower-mqtt, line: a, unit: 9}",
        "site.yaml: modules[1].line: expected none, as dormpower-mqtt speaks MQTT, got 'a'",
    ),
    (
        "profile: eastron-sdm120, line: a, unit: 3",
        "profile: eastron-sdm120",
        "site.yaml: modules[2].line: expected a line, as eastron-sdm120 speaks Modbus, got nothing",
    ),
    (
        "ac_channel: 1",
        "ac_channel: 0",
        "site.yaml: rooms[0].ac_channel: channel 0 of m1 already serves r1-lighting",
    ),
    (
        "ac_channel: 1",
        "ac_channel: 2",
        "site.yaml: rooms[0].ac_channel: expected 0–1, as dormpower-dual has, got 2",
    ),
    (
        "ac_module: m1",
        "ac_module: m9",
        "site.yaml: rooms[0].ac_module: unknown module 'm9'; known: m1, m2, m3, m4",
    ),
    (
        "ac_channel: 1, ",
        "",
        "site.yaml: rooms[0].ac_channel: expected both module and channel, got one of them",
    ),
    ("feeder: f}", "feeder: g}", "site.yaml: rooms[0].feeder: unknown feeder 'g'; known: f"),
    (
        "[{id: f, limit_kw: 10.5}]",
        "[{id: f, parent: g, limit_kw: 1}, {id: g, parent: f, limit_kw: 1}]",
        "site.yaml: feeders[0].parent: feeders in a circle: f → g → f",
    ),
    (
        "kind: all",
        "kind: lighting",
        "site.yaml: policies.prices: expected a price for ac (or all), got none",
    ),
    (
        "56530}",
        "0.5653}",
        (
            "site.yaml: policies.prices[0].price_millifen_per_kwh: expected whole millifen per kWh, 1–10000000 "
            "(0.5653 yuan is 56530), got 0.5653"
        ),
    ),
    (
        "2026-01-01",
        "2026-13-01",
        "site.yaml: policies.prices[0].from: expected a date such as 2026-01-01, got '2026-13-01'",
    ),
    (
        "critical_wh: 5000",
        "critical_wh: 50000",
        "site.yaml: policies.arrears.critical_wh: expected at most low_wh (20000), got 50000",
    ),
    (
        "23:00-07:00",
        "25:00-07:00",
        (
            'site.yaml: policies.arrears.courtesy[0]: expected campus hours such as "23:00-07:00", '
            "got '25:00-07:00'"
        ),
    ),
    ("mode: off", "mode: of", "site.yaml: policies.arrears.mode: expected enforce, shadow or off, got 'of'"),
    (
        "policies:\n",
        "policies:\n  overload: {limit_w: 0}\n",
        (
            "site.yaml: policies.overload.limit_w: "
            "expected whole watts, 1–1000000; null: rated current × 220 V, got 0"
        ),
    ),
    (
        "policies:\n",
        "policies:\n  overload: {debounce_samples: 1}\n",
        "site.yaml: policies.overload.debounce_samples: expected 2–100 samples, got 1",
    ),
    (
        "policies:\n",
        "policies:\n  overload: {overrides: [{building: bb, limit_w: 800}]}\n",
        "site.yaml: policies.overload.overrides[0].building: unknown building 'bb', did you mean b?",
    ),
    (
        "policies:\n",
        "policies:\n  overload: {overrides: [{kind: ac, night_limit_w: 300}]}\n",
        "site.yaml: policies.overload: r1-ac: night: expected the hours of night_limit_w, got nothing",
    ),
    (
        "policies:\n",
        "policies:\n  prohibited: {bands: [{from_w: 900, to_w: 800}]}\n",
        "site.yaml: policies.prohibited: bands: expected from_w below to_w, got 900 and 800",
    ),
    (
        "policies:\n",
        "policies:\n  prohibited: {bands: [{from_w: 900, action: bang}]}\n",
        "site.yaml: policies.prohibited.bands[0].action: expected off, alarm or trip, got 'bang'",
    ),
    (
        "mode: off}",
        "mode: off, overrides: [{room: r2, mode: shadow}]}",
        "site.yaml: policies.arrears.overrides[0].room: unknown room 'r2'; known: r1",
    ),
    (
        "mode: off}",
        "mode: off, overrides: [{kind: ac, low_wh: 10}]}",
        (
            "site.yaml: policies.arrears: r1-ac: expected overdraft_wh >= 0 and 0 <= critical_wh <= low_wh, "
            "got overdraft_wh 0, critical_wh 5000, low_wh 10"
        ),
    ),
    (
        "mode: off}",
        "mode: off, channels: [sms, sms]}",
        "site.yaml: policies.arrears.channels: expected each channel once",
    ),
    (
        "mode: off}",
        "mode: off, payment_wait_s: -1}",
        "site.yaml: policies.arrears.payment_wait_s: expected whole seconds, 0–86400, got -1",
    ),
    ("site: {", "site: {id: t, ", "site.yaml: site.id: the same key again on line 2"),
    (
        "lines:\n",
        "lines:\n  - {id: b, transport: tcp, host: 127.0.0.1, port: 5020}\n",
        "site.yaml: lines[1]: endpoint 127.0.0.1:5020 is already that of lines[0]",
    ),
    ("feeders: [", "feeders: [[", "site.yaml: line 15, column 1: not YAML: did not find expected ',' or ']'"),
]


@pytest.mark.parametrize(("good", "broken", "expected"), BROKEN, ids=[str(i) for i in range(len(BROKEN))])
def test_a_fault_names_file_key_found_and_expected(tmp_path, good, broken, expected):
    assert good in GOOD
    assert expected in faults_of(write(tmp_path, GOOD.replace(good, broken, 1)))


NAMES_OF_FILES = {
    "rooms_file": {"rooms_file": "a\0b.csv", "rooms": None},
    "profiles_folder": {"profiles_folder": "a\0b"},
    "database": {"database": "sqlite:///a\0b.db"},
    "readings.path": {"readings": {"store": "embedded", "path": "a\0b.db"}},
    "readings.outbox": {
        "readings": {"store": "influxdb", "url": "http://h:1", "bucket": "b", "outbox": "a\0b.db"}
    },
    "readings.token_file": {
        "readings": {"store": "influxdb", "url": "http://h:1", "bucket": "b", "token_file": "a\0b"}
    },
    "mqtt.password_file": {"mqtt": {"url": "mqtt://h:1", "password_file": "a\0b"}},
    "mqtt.ca_file": {"mqtt": {"url": "mqtt://h:1", "ca_file": "a\0b"}},
    "api.tls_key_file": {"api": {"tls_certificate_file": "x", "tls_key_file": "a\0b"}},
    "lines[0].device": {"lines": [{"id": "a", "transport": "serial", "device": "/dev/tty\0"}]},
}


@pytest.mark.parametrize(("key", "changes"), NAMES_OF_FILES.items(), ids=NAMES_OF_FILES)
def test_what_can_name_no_file_is_a_fault_at_its_key(tmp_path, key, changes):
    document = {name: value for name, value in (yaml.safe_load(GOOD) | changes).items() if value is not None}
    path = write(tmp_path, yaml.dump(document))
    assert [one for one in faults_of(path) if one.startswith(f"site.yaml: {key}: expected")] != []
    path = write(tmp_path, yaml.dump(document | {"modules": "nothing readable"}))
    assert [one for one in faults_of(path) if one.startswith(f"site.yaml: {key}: expected")] != []


def test_all_faults_are_told_at_once_those_of_the_rooms_file_too(tmp_path):
    text = GOOD.replace("port: 5020", "port: 0").replace("id: s,", "id: '',")
    document = yaml.safe_load(text)
    del document["rooms"]
    document["rooms_file"] = "rooms.csv"
    document["policies"] = {"arrears": {"mode": "never"}}
    (tmp_path / "rooms.csv").write_text("room_id,campus\nr1,c\n", encoding="utf-8")
    faults = faults_of(write(tmp_path, yaml.safe_dump(document)))
    assert len(faults) == 7
    assert "rooms.csv: row 1: expected a column building, got none" in faults


def with_faults_of_every_sort(folder: Path) -> list[str]:
    """A site with a fault in each file and of each sort; returns what must be told."""
    (folder / "profiles").mkdir()
    (folder / "profiles" / "mine.yaml").write_text("kind: modbus\nname: mine\nspeed: 1\n", encoding="utf-8")
    document = yaml.safe_load(GOOD)
    document["profiles_folder"] = "profiles"
    document["mqtt"] = {"url": "mqtt://127.0.0.1:1883", "username": "gateway", "password_file": "mqtt.password"}
    document["api"] = {"tls_certificate_file": "api.pem", "tls_key_file": "api.key"}
    document["readings"] = {
        "store": "influxdb",
        "url": "http://127.0.0.1:8086",
        "bucket": "dorm",
        "token_file": "influx.token",
    }
    document["modules"] += [
        {"id": "m5", "profile": "dormpower-dual", "line": "b", "unit": 5},
        {"id": "m6", "profile": "dormpower-duel", "line": "a", "unit": 1},
    ]
    document["rooms"][0] |= {"ac_module": "m9", "lighting_channel": 7, "feeder": "g"}
    document["policies"]["arrears"] |= {"low_wh": 1000, "critical_wh": 5000, "mode": "shadow"}
    write(folder, yaml.safe_dump(document))
    return [
        "profiles/mine.yaml: speed: unknown key",
        "site.yaml: mqtt.password_file: expected a readable text file, got none at mqtt.password",
        "site.yaml: api.tls_certificate_file: expected a file, got none at api.pem",
        "site.yaml: readings.token_file: expected a readable text file, got none at influx.token",
        "site.yaml: modules[4].line: unknown line 'b'",
        "site.yaml: modules[5].unit: unit 1 of line a is already modules[0]",
        "site.yaml: rooms[0].ac_module: unknown module 'm9'",
        "site.yaml: rooms[0].feeder: unknown feeder 'g'",
        "site.yaml: policies.arrears.critical_wh: expected at most low_wh (1000), got 5000",
    ]


def test_a_fault_of_one_sort_hides_none_of_another(tmp_path):
    expected = with_faults_of_every_sort(tmp_path)
    told = faults_of(tmp_path / "site.yaml")
    for fault in expected:
        assert any(line.startswith(fault) for line in told), (fault, told)


@pytest.mark.parametrize(
    ("section", "broken", "fault", "hidden"),
    [
        (("lines", 0, "port"), 70000, "lines[0].port: expected 1–65535, got 70000", ()),
        (("site", "zone"), "Mars", "site.zone: expected an IANA time zone", ()),
        (("gateway",), {"poll_s": -1}, "gateway.poll_s: expected seconds above 0", ()),
        (("feeders", 0, "limit_kw"), "much", "feeders[0].limit_kw: expected kW above 0", ()),
        (("modules", 0, "unit"), 900, "modules[0].unit: expected 1–247, got 900", ("modules[5].unit",)),
        (("rooms", 0, "rated_current_a"), 0, "rooms[0].rated_current_a: expected whole amperes", ("rooms[0]",)),
        (("mqtt", "url"), "http://x", "mqtt.url: expected mqtt://HOST:PORT", ("mqtt.",)),
        (
            ("policies", "arrears", "mode"),
            "never",
            "policies.arrears.mode: expected",
            ("policies.arrears.cri",),
        ),
        (("languagez",), ["zh"], "languagez: unknown key, did you mean languages?", ()),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, tuple) and value else None,
)
def test_a_value_of_the_wrong_shape_hides_only_what_is_about_itself(tmp_path, section, broken, fault, hidden):
    expected = with_faults_of_every_sort(tmp_path)
    sound = faults_of(tmp_path / "site.yaml")
    document = yaml.safe_load((tmp_path / "site.yaml").read_text(encoding="utf-8"))
    place = document
    for part in section[:-1]:
        place = place[part]
    place[section[-1]] = broken
    told = faults_of(write(tmp_path, yaml.safe_dump(document)))
    assert sum(line.startswith(f"site.yaml: {fault}") for line in told) == 1, told
    left = [line for line in expected if not any(line.startswith(f"site.yaml: {key}") for key in hidden)]
    for line in left:
        assert any(found.startswith(line) for found in told), (line, told)
    own = ".".join(str(part) for part in section if isinstance(part, str)).split(".")[0]
    assert [line for line in told if line not in sound and not line.startswith(f"site.yaml: {own}")] == []


def test_a_secret_is_never_shown(tmp_path):
    text = GOOD.replace("password_env: TEST_MQTT_PASSWORD", "password: hunter2") + (
        "database: postgresql+psycopg://user:hunter2@db/books\n"
    )
    faults = faults_of(write(tmp_path, text))
    assert len(faults) == 2
    assert "hunter2" not in "\n".join(faults)
    assert "hunter2" not in repr(load(write(tmp_path, GOOD)))


def test_words_and_times_mean_what_is_written_not_what_yaml_1_1_reads_into_them(tmp_path):
    settings = load(write(tmp_path, GOOD))
    expected = ArrearsPolicy(zone=settings.zone, courtesy=("23:00-07:00",), mode="off")
    assert settings.policies.arrears.base == expected
    assert settings.site.feeders[0].limit_w == 10_500
    assert settings.site.rooms[0].name == "1"


def test_what_a_profile_can_not_do_is_a_warning_where_a_policy_needs_it(tmp_path):
    text = GOOD.replace("lighting_module: m1", "lighting_module: m3").replace(
        "ac_module: m1, ac_channel: 1", "ac_module: m4, ac_channel: 0"
    )
    assert [str(warning) for warning in load(write(tmp_path, text)).warnings] == [
        (
            "site.yaml: modules: profile acrel-ddsy1352 documents no read-back: "
            "commands to 1 circuits end unconfirmed"
        ),
        "site.yaml: modules: profile eastron-sdm120 has no relay: 1 circuits are metered, never cut",
    ]


def test_mqtt_modules_need_a_broker(tmp_path):
    text = "\n".join(line for line in GOOD.splitlines() if not line.startswith("mqtt:"))
    assert faults_of(write(tmp_path, text)) == [
        "site.yaml: mqtt: expected a broker for 1 MQTT modules, got nothing"
    ]


def test_the_examples_load(tmp_path):
    for path in EXAMPLES.iterdir():
        shutil.copy(path, tmp_path)
    (tmp_path / "influx.token").write_text("secret\n", encoding="utf-8")
    (tmp_path / "mqtt.password").write_text("secret\n", encoding="utf-8")
    loaded = {path.name: load(path) for path in tmp_path.glob("*.yaml")}
    assert set(loaded) == {"campus.yaml", "one-room.yaml"}
    campus = loaded["campus.yaml"]
    assert campus.warnings == ()
    assert [(line.transport, line.framer) for line in campus.site.lines] == [
        (Transport.TCP, Framer.SOCKET),
        (Transport.TCP, Framer.RTU),
        (Transport.SERIAL, Framer.RTU),
    ]
    assert campus.mqtt is not None
    assert campus.mqtt.password is not None
    assert campus.mqtt.password.get_secret_value() == "secret"
    assert campus.stale_after_s == 90


def test_the_site_file_is_the_option_else_the_variable_else_the_folders_own(monkeypatch):
    monkeypatch.setenv("DORMPOWER_CONFIG", "/etc/dormpower/site.yaml")
    assert resolve_path("x.yaml") == Path("x.yaml")
    assert resolve_path() == Path("/etc/dormpower/site.yaml")
    monkeypatch.delenv("DORMPOWER_CONFIG")
    assert resolve_path() == Path("dormpower.yaml")


def test_a_missing_file_and_a_foreign_encoding_are_told_in_a_sentence(tmp_path):
    assert faults_of(Path("none.yaml")) == [
        "none.yaml: there is no such file; name one with --config FILE or DORMPOWER_CONFIG"
    ]
    path = tmp_path / "site.yaml"
    path.write_bytes("site: {name: 宿舍}".encode("gbk"))
    assert faults_of(path) == ["site.yaml: expected UTF-8 text, got another encoding; save the file as UTF-8"]


def test_rules_for_load_are_in_shadow_unless_said_otherwise_and_differ_from_place_to_place(tmp_path):
    plain = load(write(tmp_path, GOOD)).policies
    assert plain.overload.base.mode is plain.prohibited.base.mode is Enforcement.SHADOW
    text = GOOD.replace(
        "policies:\n",
        "policies:\n"
        "  overload:\n"
        "    mode: enforce\n"
        "    limit_w: 2000\n"
        "    restore_after_s: null\n"
        "    overrides: [{kind: lighting, limit_w: 800}, {room: r1, kind: ac, mode: off}]\n"
        "  prohibited: {whitelist: [{appliance: dispenser, from_w: 0, to_w: 700}]}\n",
    )
    policies = load(write(tmp_path, text)).policies
    found = {
        kind: policies.overload.at(Where(campus="c", building="b", room_id="r1", kind=kind))
        for kind in ("lighting", "ac")
    }
    assert [(one.limit_w, one.mode.value) for one in found.values()] == [(800, "enforce"), (2000, "off")]
    assert found["ac"].restoring.delay_s is None
    (allowed,) = policies.prohibited.base.whitelist
    assert (allowed.appliance, allowed.to_w) == ("dispenser", 700)
