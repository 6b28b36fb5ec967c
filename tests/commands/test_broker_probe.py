"""The question to the broker, asked of a real mosquitto with the shipped rules and of one that lets all in."""

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from config.settings import MqttSettings
from dormpower.commands.broker_probe import BrokerAnswer, ask_anonymously

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def at(port: int) -> MqttSettings:
    return MqttSettings(
        url=f"mqtt://127.0.0.1:{port}",
        host="127.0.0.1",
        port=port,
        tls=False,
        username=None,
        password=None,
        ca_file=None,
    )


@pytest.fixture
def mosquitto(tmp_path):
    started = []

    def start(configuration: str) -> int:
        port = free_port()
        path = tmp_path / f"mosquitto-{port}.conf"
        # Started by root it would change to a user that may not read this test's folder.
        user = "user root\n" if os.geteuid() == 0 else ""
        path.write_text(f"{user}listener {port} 127.0.0.1\n{configuration}\n", encoding="utf-8")
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin")
        process = subprocess.Popen([program, "-c", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        started.append(process)
        deadline = time.monotonic() + 20
        while ask_anonymously(at(port)) is BrokerAnswer.UNREACHABLE:
            assert process.poll() is None, "mosquitto ended"
            assert time.monotonic() < deadline, "mosquitto did not answer"
            time.sleep(0.05)
        return port

    yield start
    for process in started:
        process.terminate()
        process.wait(timeout=20)


@pytest.mark.needs("mosquitto")
def test_a_broker_that_lets_strangers_in_is_found_out(mosquitto):
    assert ask_anonymously(at(mosquitto("allow_anonymous true"))) is BrokerAnswer.ACCEPTED


@pytest.mark.needs("mosquitto")
def test_a_broker_with_the_shipped_rules_refuses_strangers(mosquitto, tmp_path):
    shipped = (ROOT / "deploy" / "mosquitto.conf").read_text(encoding="utf-8")
    passwords = tmp_path / "passwords"
    passwords.write_text("", encoding="utf-8")
    passwords.chmod(0o600)
    acl = tmp_path / "acl"
    shutil.copy(ROOT / "deploy" / "mosquitto.acl", acl)
    acl.chmod(0o600)
    kept = [line for line in shipped.splitlines() if line.startswith(("allow_anonymous", "max_", "message_"))]
    port = mosquitto("\n".join([*kept, f"password_file {passwords}", f"acl_file {acl}"]))
    assert ask_anonymously(at(port)) is BrokerAnswer.REFUSED


def test_a_broker_that_is_not_there_is_unreachable():
    assert ask_anonymously(at(free_port())) is BrokerAnswer.UNREACHABLE
