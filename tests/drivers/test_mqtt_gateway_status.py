"""Whether a gateway is there, as a retained status with a last will, under the shipped access list."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

ROOT = Path(__file__).parents[2]
SITE = "campus-west"
STATUS = f"dormpower/{SITE}/gateway/g1/status"
DEADLINE_S = 20.0

pytestmark = pytest.mark.needs("mosquitto", "mosquitto_passwd")

GATEWAY = """
import asyncio, sys
sys.path[:0] = [sys.argv[2]]
from pydantic import SecretStr
from config.profiles import load_profiles
from config.settings import MqttSettings
from dormpower.clock import real_clock
from gateway.drivers.mqtt.link import MqttLink
from gateway.drivers.mqtt.profile_messages import ProfileMessages
async def main():
    link = MqttLink(
        settings=MqttSettings(url="", host="127.0.0.1", port=int(sys.argv[1]), tls=False, username="gateway",
                              password=SecretStr("secret-gateway"), ca_file=None),
        site_id=sys.argv[3], gateway_id="g1",
        modules={"m-1": ProfileMessages(load_profiles()["dormpower-mqtt"])}, clock=real_clock(),
        submit=lambda sample, *, done: done(), on_module=lambda *a: None,
        on_line=lambda line, *, online, detail: None)
    await link.start()
    await asyncio.to_thread(sys.stdin.read)
    await link.stop()
asyncio.run(main())
"""


class Watcher:
    """Somebody whom the operator lets watch the gateway's status."""

    def __init__(self, port: int) -> None:
        self.seen: list[str] = []
        self.retained: list[bool] = []
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set("watcher", "secret-watcher")
        self._client.on_connect = lambda client, *_: client.subscribe(STATUS, qos=1)
        self._client.on_message = lambda _client, _data, message: (
            self.retained.append(message.retain),
            self.seen.append(message.payload.decode()),
        )
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def wait_for(self, *seen: str) -> None:
        deadline = time.monotonic() + DEADLINE_S
        while self.seen != list(seen):
            assert time.monotonic() < deadline, f"waited for {seen}, saw {self.seen}"
            time.sleep(0.01)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.fixture
def port(tmp_path: Path, start_mosquitto: Callable[[str], int]) -> int:
    passwords, access = tmp_path / "passwords", tmp_path / "access"
    passwords.write_text("gateway:secret-gateway\nwatcher:secret-watcher\n", encoding="utf-8")
    passwords.chmod(0o600)
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
    shipped = (ROOT / "deploy" / "mosquitto.acl").read_text(encoding="utf-8").replace("south-north", SITE)
    access.write_text(f"{shipped}\nuser watcher\ntopic read {STATUS}\n", encoding="utf-8")
    access.chmod(0o600)
    return start_mosquitto(f"allow_anonymous false\npassword_file {passwords}\nacl_file {access}")


@pytest.fixture
def gateway(port: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-c", GATEWAY, str(port), str(ROOT), SITE], stdin=subprocess.PIPE
    )
    yield process
    process.kill()
    process.communicate()


def test_a_gateway_is_online_and_after_kill_9_its_last_will_says_that_it_is_not(
    port: int, gateway: subprocess.Popen[bytes]
) -> None:
    first = Watcher(port)
    first.wait_for("online")
    later = Watcher(port)
    later.wait_for("online")
    assert later.retained == [True]  # kept for who comes later
    os.kill(gateway.pid, signal.SIGKILL)
    first.wait_for("online", "offline")
    last = Watcher(port)
    last.wait_for("offline")
    assert last.retained == [True]
    for watcher in (first, later, last):
        watcher.close()


def test_a_gateway_that_ends_says_so_itself(port: int, gateway: subprocess.Popen[bytes]) -> None:
    watcher = Watcher(port)
    watcher.wait_for("online")
    gateway.communicate(b"", timeout=DEADLINE_S)
    assert gateway.returncode == 0
    watcher.wait_for("online", "offline")
    watcher.close()
