"""The whole program: started from a site file, killed, started again; the register never falls."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dormpower.clock import CampusClock
from simulators.control import CONTROL_SOCKET, ControlClient, UnableToControlError
from simulators.demo_site import demo_site, free_ports, lines_needed

CIRCUIT = "south-01-101-lighting"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A demo campus of ten rooms on wires alone, an hour of campus time each six real seconds."""
    made = demo_site(10, ports=free_ports(lines_needed(10)))
    north = {room["room_id"] for room in made.rooms if room["campus"] == "north"}
    made.rooms = [room for room in made.rooms if room["room_id"] not in north]
    made.modules = [module for module in made.modules if "line" in module]
    (tmp_path / "rooms.csv").write_text(made.rooms_csv())
    (tmp_path / "dormpower.yaml").write_text(json.dumps(made.sections() | {"database": "sqlite:///books.db"}))
    now = datetime.now(UTC)
    CampusClock(campus_epoch=now, real_epoch=now, speed=600).save(tmp_path)
    return tmp_path


@pytest.fixture
def programs() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for program in started:
        if program.poll() is None:
            program.kill()
        program.wait()


def start(folder: Path, programs: list[subprocess.Popen[bytes]]) -> ControlClient:
    command = [sys.executable, "-m", "simulators", "--config", str(folder / "dormpower.yaml")]
    program = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
    programs.append(program)
    deadline = time.monotonic() + 30
    while True:
        assert program.poll() is None, "the simulation ended by itself"
        try:
            return ControlClient(folder / CONTROL_SOCKET)
        except UnableToControlError:
            assert time.monotonic() < deadline, "the simulation did not come up"
            time.sleep(0.05)


def test_no_register_falls_when_the_program_is_killed(folder: Path, programs: list[Any]) -> None:
    told_wh = 0
    for _ in range(3):
        with start(folder, programs) as control:
            control.set_power(CIRCUIT, 2000)
            truth = control.truth(CIRCUIT)
            assert truth["register_wh"] >= told_wh
            for _ in range(40):
                told_wh = control.truth(CIRCUIT)["register_wh"]
            programs[-1].kill()
            programs[-1].wait()
    with start(folder, programs) as control:
        assert control.truth(CIRCUIT)["register_wh"] >= told_wh > 0


def test_a_clean_end_is_exit_code_0_and_keeps_powers_and_faults_of_relays(
    folder: Path, programs: list[Any]
) -> None:
    with start(folder, programs) as control:
        control.set_power(CIRCUIT, 0)
        control.fault("m-south-01-101", "switched_locally", relay="open", channel=0)
        control.call("set_register", circuit_id=CIRCUIT, register_wh=54_320)
    programs[-1].send_signal(signal.SIGTERM)
    assert programs[-1].wait(20) == 0
    with start(folder, programs) as control:
        truth = control.truth(CIRCUIT)
        assert (truth["register_wh"], truth["contacts"], truth["demand_w"]) == (54_320, "open", 0)


def test_what_can_t_be_done_is_a_sentence(folder: Path, programs: list[Any]) -> None:
    with start(folder, programs) as control:
        with pytest.raises(UnableToControlError, match="no such circuit"):
            control.truth("nowhere-ac")
        with pytest.raises(UnableToControlError, match="expected one of"):
            control.fault("m-south-01-101", "gremlins")
        with pytest.raises(UnableToControlError, match="runs by itself"):
            control.call("advance", seconds=10)


def test_a_switching_that_was_confirmed_survives_a_kill(folder: Path, programs: list[Any]) -> None:
    with start(folder, programs):
        port = json.loads((folder / "dormpower.yaml").read_text())["lines"][0]["port"]
        with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
            peer.sendall(bytes.fromhex("0001000000060106001b55aa"))
            assert peer.recv(64).hex() == "0001000000060106001b55aa"
        programs[-1].kill()
        programs[-1].wait()
    with start(folder, programs) as control:
        assert control.truth(CIRCUIT)["contacts"] == "open"
