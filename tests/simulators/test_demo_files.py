"""The demo's files: made once, kept ever after; what is asked for differently later is refused."""

import socket
from pathlib import Path

import pytest
import yaml

from config.settings import EmbeddedReadingsSettings, InfluxReadingsSettings, load
from simulators import demo_files

URL = "http://127.0.0.1:8086"


@pytest.fixture(autouse=True)
def no_influxdb_in_the_environment(monkeypatch):
    for name in ("INFLUXDB_TOKEN", "INFLUXDB_ORG", "INFLUXDB_BUCKET"):
        monkeypatch.delenv(name, raising=False)


def make(folder: Path, *options: str) -> int:
    return demo_files.main(["--data", str(folder), *options])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def document(folder: Path) -> dict:
    return yaml.safe_load((folder / "dormpower.yaml").read_text(encoding="utf-8"))


def test_what_was_made_is_a_site_without_fault_and_stays_as_it_is(tmp_path):
    assert make(tmp_path, "--rooms", "20", "--seed", "7") == 0
    settings = load(tmp_path / "dormpower.yaml")
    assert len(settings.site.rooms) == 20
    assert isinstance(settings.readings, EmbeddedReadingsSettings)
    assert {path.name for path in settings.secret_files} == {"mqtt.password"}
    assert (tmp_path / "mqtt.password").stat().st_mode & 0o077 == 0
    before = contents(tmp_path)
    assert make(tmp_path) == 0
    assert make(tmp_path, "--rooms", "20", "--seed", "7") == 0
    assert contents(tmp_path) == before


def test_ports_that_others_took_meanwhile_are_replaced_and_the_api_s_as_asked(tmp_path):
    make(tmp_path, "--rooms", "20")
    before = document(tmp_path)
    broker_port = int(before["mqtt"]["url"].rpartition(":")[2])
    with (
        socket.create_server(("127.0.0.1", before["lines"][0]["port"])),
        socket.create_server(("127.0.0.1", broker_port)),
    ):
        assert make(tmp_path, "--port", "4567") == 0
    after = document(tmp_path)
    assert after["lines"][0]["port"] != before["lines"][0]["port"]
    assert after["lines"][1:] == before["lines"][1:]
    assert after["mqtt"]["url"] != before["mqtt"]["url"]
    assert after["api"]["port"] == 4567


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rooms", "30"], "this demo has rooms 20, asked for 30"),
        (["--seed", "8"], "this demo has seed 1, asked for 8"),
        (["--influxdb", URL], f"this demo has readings in an embedded store, asked for {URL}"),
    ],
)
def test_another_campus_is_refused_on_a_folder_that_has_one(tmp_path, capsys, options, sentence):
    make(tmp_path, "--rooms", "20")
    before = contents(tmp_path)
    assert make(tmp_path, *options) == 1
    assert sentence in capsys.readouterr().err
    assert contents(tmp_path) == before


@pytest.mark.parametrize("made_before", [False, True])
def test_a_port_on_which_something_listens_is_refused_and_nothing_is_written(tmp_path, capsys, made_before):
    folder = tmp_path / "campus"
    if made_before:
        assert make(folder) == 0
    before = contents(folder) if made_before else None
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert make(folder, "--port", str(port)) == 1
    assert f"something listens on 127.0.0.1:{port} already" in capsys.readouterr().err
    assert (contents(folder) if folder.exists() else None) == before


def test_a_folder_that_is_not_the_demo_s_is_left_alone(tmp_path, capsys):
    (tmp_path / "dormpower.yaml").write_text("site: {id: s, name: S}\n", encoding="utf-8")
    assert make(tmp_path) == 1
    assert "was not made by the demo" in capsys.readouterr().err
    assert list(contents(tmp_path)) == ["dormpower.yaml"]


def test_readings_go_to_the_influxdb_that_is_named_with_its_token_in_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("INFLUXDB_TOKEN", "its secret")
    monkeypatch.setenv("INFLUXDB_ORG", "south")
    monkeypatch.setenv("INFLUXDB_BUCKET", "rooms")
    assert make(tmp_path, "--rooms", "20", "--influxdb", URL) == 0
    readings = load(tmp_path / "dormpower.yaml").readings
    assert isinstance(readings, InfluxReadingsSettings)
    assert (readings.url, readings.org, readings.bucket) == (URL, "south", "rooms")
    assert readings.token.get_secret_value() == "its secret"
    assert (tmp_path / "influx.token").stat().st_mode & 0o077 == 0
    assert "its secret" not in (tmp_path / "dormpower.yaml").read_text(encoding="utf-8")
    before = contents(tmp_path)
    assert make(tmp_path) == 0
    assert make(tmp_path, "--influxdb", URL) == 0
    assert contents(tmp_path) == before
    assert make(tmp_path, "--influxdb", "http://127.0.0.1:9999") == 1
    assert f"this demo has readings in {URL}, asked for http://127.0.0.1:9999" in capsys.readouterr().err


def test_an_influxdb_without_a_token_is_taken_as_an_open_one(tmp_path):
    assert make(tmp_path, "--rooms", "20", "--influxdb", URL) == 0
    readings = load(tmp_path / "dormpower.yaml").readings
    assert isinstance(readings, InfluxReadingsSettings)
    assert readings.token is None
