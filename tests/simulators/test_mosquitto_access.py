"""The written mosquitto configuration, held against a real mosquitto."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from simulators.access import make_credentials
from simulators.demo_site import free_ports
from simulators.mosquitto import write_mosquitto_config

pytestmark = pytest.mark.needs("mosquitto", "mosquitto_passwd")


def until(condition: object) -> None:
    deadline = time.monotonic() + 15
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


class Peer:
    def __init__(self, port: int, user: str, password: str) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.refused: bool | None = None
        self.ready = False
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=user or "nobody")
        if user:
            self.client.username_pw_set(user, password)
        self.client.on_connect = lambda c, u, f, reason, p: setattr(self, "refused", reason.is_failure)
        self.client.on_subscribe = lambda *_: setattr(self, "ready", True)
        self.client.on_message = lambda c, u, message: self.got.append((message.topic, message.payload))
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        until(lambda: self.refused is not None)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    port = free_ports(1)[0]
    credentials = make_credentials(["m-1", "m-2"])
    config = write_mosquitto_config(tmp_path, site_id="s", credentials=credentials, port=port)
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with (tmp_path / "mosquitto.log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(config)], stderr=log, stdout=log)
    import socket

    def listening() -> bool:
        assert process.poll() is None, (tmp_path / "mosquitto.log").read_text()
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    until(listening)
    yield port, credentials
    process.terminate()
    process.wait(15)


def test_mosquitto_holds_a_module_to_its_own_topics(broker: tuple[int, dict[str, str]]) -> None:
    port, passwords = broker
    gateway = Peer(port, "gateway", passwords["gateway"])
    gateway.client.subscribe("dormpower/s/#", qos=1)
    until(lambda: gateway.ready)
    module = Peer(port, "m-1", passwords["m-1"])
    module.client.subscribe("dormpower/s/#", qos=1)
    until(lambda: module.ready)
    module.client.publish("dormpower/s/m-2/reading", "forged", qos=1)
    module.client.publish("dormpower/s/m-1/reading", "own", qos=1)
    until(lambda: bool(gateway.got))
    gateway.client.publish("dormpower/s/m-2/command", "not yours", qos=1)
    gateway.client.publish("dormpower/s/m-1/command", "yours", qos=1)
    until(lambda: bool(module.got))
    assert ("dormpower/s/m-2/reading", b"forged") not in gateway.got
    assert module.got == [("dormpower/s/m-1/command", b"yours")]
    for peer in (gateway, module):
        peer.close()


def test_mosquitto_refuses_strangers(broker: tuple[int, dict[str, str]]) -> None:
    port, _ = broker
    for user, password in (("", ""), ("m-1", "wrong")):
        peer = Peer(port, user, password)
        assert peer.refused
        peer.close()
