"""The demo campus as a site file, mosquitto's access rules, and the light responder."""

import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from config.settings import load
from simulators.access import make_credentials
from simulators.demo_site import (
    MAX_ROOMS,
    UNITS_PER_LINE,
    UnableToMakeDemoSiteError,
    demo_site,
    lines_needed,
)
from simulators.mosquitto import access_list, write_mosquitto_config
from simulators.responder import Image


@pytest.mark.parametrize("rooms", [10, 240, 1000])
def test_the_demo_site_file_is_valid_and_has_the_rooms_asked_for(rooms: int, tmp_path: Path) -> None:
    made = demo_site(rooms, ports=range(20_000, 20_000 + lines_needed(rooms)))
    (tmp_path / "rooms.csv").write_text(made.rooms_csv(), encoding="utf-8")
    mqtt = {"mqtt": {"url": "mqtt://127.0.0.1:1883", "username": "gateway", "password_file": "mqtt.password"}}
    (tmp_path / "mqtt.password").write_text("secret", encoding="utf-8")
    (tmp_path / "mqtt.password").chmod(0o600)
    document = made.sections() | mqtt | {"database": "sqlite:///books.db"}
    (tmp_path / "dormpower.yaml").write_text(json.dumps(document), encoding="utf-8")
    site = load(tmp_path / "dormpower.yaml").site
    assert len(site.rooms) == rooms
    assert sum(module.line_id is None for module in site.modules) == rooms // 4
    assert max(Counter(module.line_id for module in site.modules if module.line_id).values()) <= UNITS_PER_LINE
    assert {line.framer.value for line in site.lines} == {"socket", "rtu"}
    assert not {room.building for room in site.rooms} & {"south-09", "south-10"}


def test_the_largest_demo_campus_can_be_made_and_a_larger_one_not() -> None:
    made = demo_site(MAX_ROOMS, ports=range(10_000, 10_000 + lines_needed(MAX_ROOMS)))
    assert len({room["room_id"] for room in made.rooms}) == MAX_ROOMS
    with pytest.raises(UnableToMakeDemoSiteError, match="got 10001"):
        demo_site(MAX_ROOMS + 1, ports=[])


def test_mosquittos_access_list_gives_a_module_its_own_topics_alone() -> None:
    lines = access_list(site_id="s").splitlines()
    assert [line for line in lines if line.startswith("pattern")] == [
        "pattern write dormpower/s/%u/reading",
        "pattern write dormpower/s/%u/status",
        "pattern write dormpower/s/%u/result",
        "pattern read dormpower/s/%u/command",
    ]


@pytest.mark.needs("mosquitto", "mosquitto_passwd")
def test_mosquittos_password_file_holds_no_password_in_the_clear(tmp_path: Path) -> None:
    credentials = make_credentials(["m-1"])
    config = write_mosquitto_config(tmp_path, site_id="s", credentials=credentials)
    kept = (tmp_path / "mosquitto.passwd").read_text()
    assert not any(password in kept for password in credentials.values())
    assert kept.startswith("gateway:$")
    assert "allow_anonymous false" in config.read_text()


def test_the_light_responder_answers_switches_and_refuses() -> None:
    image = Image(1)
    assert image.answer(bytes.fromhex("0300000001")).hex() == "03024450"
    before = int.from_bytes(image.answer(bytes.fromhex("0300100002"))[2:], "big")
    image.refresh(3600)
    assert int.from_bytes(image.answer(bytes.fromhex("0300100002"))[2:], "big") == before + 18
    assert image.answer(bytes.fromhex("06001b55aa")).hex() == "06001b55aa"
    assert image.answer(bytes.fromhex("0300180001")).hex() == "03020000"
    assert image.answer(bytes.fromhex("06001b0001")).hex() == "8603"


def test_the_light_responder_serves_on_the_ports_that_it_tells(request: Any) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "simulators.responder", "--ports", "2", "--framer", "rtu"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(root)}
    ) as program:
        request.addfinalizer(program.kill)
        assert program.stdout is not None
        ports = json.loads(program.stdout.readline())["ports"]
        with socket.create_connection(("127.0.0.1", ports[1]), timeout=10) as peer:
            peer.sendall(bytes.fromhex("010300000001840a"))
            assert peer.recv(16).hex() == "01030244508b78"
        program.terminate()
        assert program.wait(20) == 0
