"""Fixtures: a mosquitto for the drivers' tests, configured by its caller."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

START_DEADLINE_S = 20.0


@pytest.fixture
def start_mosquitto(tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """Start a broker on a free loopback port with further lines of configuration; returns its port."""
    started: list[subprocess.Popen[bytes]] = []

    def start(lines: str) -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        config = tmp_path / f"mosquitto-{port}.conf"
        own = "user root\n" if os.getuid() == 0 else ""
        config.write_text(f"listener {port} 127.0.0.1\n{lines}\n{own}", encoding="utf-8")
        program = next(path for path in ("/usr/sbin/mosquitto", "/usr/bin/mosquitto") if Path(path).exists())
        with (tmp_path / f"mosquitto-{port}.log").open("wb") as log:
            started.append(subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log))
        deadline = time.monotonic() + START_DEADLINE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, "mosquitto did not come up"
                time.sleep(0.02)
            else:
                return port

    yield start
    for process in started:
        process.terminate()
        process.wait()
