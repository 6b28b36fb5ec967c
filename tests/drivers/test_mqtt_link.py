"""The MQTT driver against a real mosquitto with a user for each module and the shipped access list."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from pydantic import SecretStr

from config.profiles import load_profiles
from config.settings import MqttSettings
from dormpower.clock import real_clock
from dormpower.domain.samples import ModuleSample, Relay
from gateway.drivers.mqtt.link import MqttLink
from gateway.drivers.mqtt.profile_messages import ProfileMessages
from gateway.ports import SwitchOutcome, SwitchResult

SITE = "south-north"
DEADLINE_S = 20.0
MODULES = ("m-1", "m-2")
USERS = ("gateway", *MODULES, "m-foreign")

SHIPPED_ACCESS = Path(__file__).parents[2] / "deploy" / "mosquitto.acl"  # written for a site of this id


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_mosquitto(name: str) -> str:
    return next(
        str(Path(folder) / name) for folder in ("/usr/bin", "/usr/sbin") if (Path(folder) / name).exists()
    )


class Mosquitto:
    """A broker process of the tests, with a user for each module, stopped and started on the same data."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        passwords = folder / "passwords"
        passwords.write_text("".join(f"{user}:secret-{user}\n" for user in USERS), encoding="utf-8")
        passwords.chmod(0o600)
        subprocess.run([find_mosquitto("mosquitto_passwd"), "-U", str(passwords)], check=True)
        access = folder / "access"
        access.write_text(SHIPPED_ACCESS.read_text(encoding="utf-8"), encoding="utf-8")
        access.chmod(0o600)
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n"
            f"acl_file {access}\npersistence true\npersistence_location {folder}/\n"
            f"{'user root' if os.getuid() == 0 else ''}\n",
            encoding="utf-8",
        )
        self._log = (folder / "mosquitto.log").open("ab")
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [find_mosquitto("mosquitto"), "-c", str(self._config)], stdout=self._log, stderr=self._log
        )
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, "mosquitto did not come up"
                time.sleep(0.02)
            else:
                return

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()  # mosquitto writes its persistent sessions on SIGTERM
        self._process.wait()

    def close(self) -> None:
        self.stop()
        self._log.close()


class ScriptedModule:
    """A module that does what a test tells it, on paho; commands it gets are kept."""

    def __init__(self, port: int, module_id: str, *, protocol: int = MQTTProtocolVersion.MQTTv311) -> None:
        self.module_id = module_id
        self.commands: list[dict[str, Any]] = []
        self.retained_commands = 0
        self.answer: Callable[[dict[str, Any]], list[dict[str, Any]]] = lambda command: []
        self._subscribed = False
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=module_id, protocol=protocol)
        self._client.username_pw_set(module_id, f"secret-{module_id}")
        self._client.will_set(self.topic("status"), b"offline", qos=1, retain=True)
        self._client.on_connect = lambda client, *_: client.subscribe(self.topic("command"), qos=1)
        self._client.on_subscribe = lambda *_: setattr(self, "_subscribed", True)
        self._client.on_message = self._on_command
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        wait_for(lambda: self._subscribed, "the module to be subscribed")

    def topic(self, kind: str, module_id: str | None = None) -> str:
        return f"dormpower/{SITE}/{module_id or self.module_id}/{kind}"

    def publish(self, topic: str, payload: Any, *, retain: bool = False, qos: int = 1) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        wait_for(self._client.is_connected, "the module to be connected")
        self._client.publish(topic, data, qos=qos, retain=retain).wait_for_publish(DEADLINE_S)

    def read(self, seq: int, **changes: Any) -> None:
        message = {"at": None, "boot_id": "b", "seq": seq, "channels": [{"channel": 0, "wh": 1000 + seq}]}
        self.publish(self.topic("reading"), message | changes)

    def crash(self) -> None:
        """Drop the connection without a goodbye."""
        connection = self._client.socket()
        assert connection is not None
        self._client.reconnect_delay_set(60, 60)
        connection.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def _on_command(self, client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self.retained_commands += message.retain
        command = json.loads(message.payload)
        self.commands.append(command)
        for result in self.answer(command):
            client.publish(self.topic("result"), json.dumps(result).encode(), qos=1)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.005)


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        await asyncio.sleep(0.005)


class Gateway:
    """A link and what it told; `commit` decides whether samples are done at once."""

    def __init__(self, port: int, **options: Any) -> None:
        self.commit = True
        self.taken: list[ModuleSample] = []
        self.open: list[Callable[[], None]] = []
        self.modules: list[tuple[str, bool]] = []
        self.lines: list[tuple[str, bool]] = []
        self.link = MqttLink(
            settings=MqttSettings(
                url=f"mqtt://127.0.0.1:{port}",
                host="127.0.0.1",
                port=port,
                tls=False,
                username="gateway",
                password=SecretStr("secret-gateway"),
                ca_file=None,
            ),
            site_id=SITE,
            gateway_id="g1",
            modules=dict.fromkeys(MODULES, ProfileMessages(load_profiles()["dormpower-mqtt"])),
            clock=real_clock(),
            submit=self._submit,
            on_module=lambda module_id, online, detail: self.modules.append((module_id, online)),
            on_line=lambda line_id, *, online, detail: self.lines.append((line_id, online)),
            first_retry_s=0.05,
            **options,
        )

    def _submit(self, sample: ModuleSample, *, done: Callable[[], None]) -> None:
        self.taken.append(sample)
        if self.commit:
            done()
        else:
            self.open.append(done)

    @property
    def seqs(self) -> list[int | None]:
        return [sample.seq for sample in self.taken]

    async def switch(self, module_id: str = "m-1", *, seconds: float = 10, **changes: Any) -> SwitchResult:
        asked = {"channel": 0, "relay": Relay.OPEN, "command_id": "c-1"} | changes
        return await self.link.switch(
            module_id=module_id, expires_at=datetime.now(UTC) + timedelta(seconds=seconds), **asked
        )


@asynccontextmanager
async def running(port: int, *, wait: bool = True, **options: Any) -> AsyncIterator[Gateway]:
    gateway = Gateway(port, **options)
    await gateway.link.start()
    if wait:
        await until(lambda: gateway.link.online, "the gateway to be online")
    try:
        yield gateway
    finally:
        await gateway.link.stop()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    started = Mosquitto(tmp_path)
    yield started
    started.close()


@pytest.fixture
def modules(broker: Mosquitto) -> Iterator[Callable[[str], ScriptedModule]]:
    made: list[ScriptedModule] = []

    def make(module_id: str) -> ScriptedModule:
        made.append(ScriptedModule(broker.port, module_id))
        return made[-1]

    yield make
    for module in made:
        module.close()


pytestmark = pytest.mark.needs("mosquitto")
Modules = Callable[[str], ScriptedModule]


def answer_done(command: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"id": command["id"], "outcome": "done", "relay": command["relay"], "at": None}]


def run(story: Any) -> None:
    asyncio.run(story())


def test_a_reading_arrives_and_is_acknowledged_once_committed(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        module = modules("m-1")
        async with running(broker.port) as gateway:
            module.read(1, at="2026-03-01T08:00:00Z")
            await until(lambda: len(gateway.taken) == 1, "the reading")
            (sample,) = gateway.taken
            assert (sample.module_id, sample.seq) == ("m-1", 1)
            assert sample.at == datetime(2026, 3, 1, 8, tzinfo=UTC)
            assert sample.channels[0].register_wh == 1001
            assert gateway.link.counts.acknowledged == 1
        async with running(broker.port) as again:
            module.read(2)
            await until(lambda: bool(again.taken), "the next reading")
            assert again.seqs == [2]

    run(story)


def test_a_reading_without_its_commit_comes_again_to_the_next_gateway(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        module = modules("m-1")
        async with running(broker.port) as gateway:
            gateway.commit = False
            for seq in range(5):
                module.read(seq)
            await until(lambda: len(gateway.taken) == 5, "the readings")
            for done in gateway.open[:2]:
                await asyncio.to_thread(done)  # from the books' writer thread
            assert gateway.link.counts.acknowledged == 2
        for done in gateway.open:
            done()  # too late: that connection is gone
        async with running(broker.port) as again:
            await until(lambda: len(again.taken) == 3, "what was not committed")
            assert again.seqs == [2, 3, 4]

    run(story)


def test_readings_sent_while_the_gateway_is_away_wait_for_it(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        async with running(broker.port):
            pass
        module = modules("m-1")
        for seq in range(20):
            module.read(seq)
        async with running(broker.port) as gateway:
            await until(lambda: len(gateway.taken) == 20, "the readings")
            assert gateway.seqs == list(range(20))

    run(story)


def test_done_twice_acknowledges_once(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        module = modules("m-1")
        async with running(broker.port) as gateway:
            gateway.commit = False
            module.read(1)
            await until(lambda: len(gateway.taken) == 1, "the reading")
            gateway.open[0]()
            gateway.open[0]()
            assert gateway.link.counts.acknowledged == 1

    run(story)


def test_the_window_of_unacknowledged_messages_is_bounded(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        module = modules("m-1")
        async with running(broker.port, window=3) as gateway:
            gateway.commit = False
            for seq in range(8):
                module.read(seq)
            await until(lambda: len(gateway.taken) >= 3, "the window to fill")
            # A status goes the same way; it would have come before the fourth reading if the bound let it.
            assert gateway.seqs == [0, 1, 2]
            gateway.commit = True
            for done in gateway.open:
                done()
            await until(lambda: len(gateway.taken) == 8, "the rest")
            assert gateway.seqs == list(range(8))

    run(story)


def test_commits_that_are_overdue_make_the_broker_send_again(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        module = modules("m-1")
        async with running(broker.port, stuck_after_s=0.2) as gateway:
            gateway.commit = False
            module.read(1)
            await until(lambda: len(gateway.taken) == 1, "the reading")
            gateway.commit = True
            await until(lambda: len(gateway.taken) == 2, "the reading once more")
            assert gateway.seqs == [1, 1]
            assert gateway.link.counts.repeated == 1

    run(story)


def test_a_broker_that_goes_and_comes_back_is_told_once_each_and_loses_no_reading(
    broker: Mosquitto, modules: Modules
):
    async def story() -> None:
        module = modules("m-1")
        async with running(broker.port) as gateway:
            gateway.commit = False
            module.read(1)
            await until(lambda: len(gateway.taken) == 1, "the first reading")
            await asyncio.to_thread(broker.stop)
            await until(lambda: not gateway.link.online, "the gateway to notice")
            gateway.commit = True
            gateway.open[0]()  # the acknowledgement finds nobody
            assert (await gateway.switch()).outcome is SwitchOutcome.LINE_DOWN
            await asyncio.to_thread(broker.start)
            await until(lambda: len(gateway.taken) == 2, "the reading again")
            await asyncio.to_thread(module.read, 2)
            await until(lambda: len(gateway.taken) == 3, "the next reading")
            assert gateway.seqs == [1, 1, 2]
            assert gateway.lines == [("mqtt", True), ("mqtt", False), ("mqtt", True)]

    run(story)


def test_a_broker_that_is_not_there_yet_is_waited_for(broker: Mosquitto):
    async def story() -> None:
        await asyncio.to_thread(broker.stop)
        async with running(broker.port, wait=False) as gateway:
            await until(lambda: gateway.lines == [("mqtt", False)], "the gateway to notice")
            await asyncio.to_thread(broker.start)
            await until(lambda: gateway.link.online, "the gateway to be online")

    run(story)


def test_modules_come_and_go_by_their_status_and_last_will(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        first, second = modules("m-1"), modules("m-2")
        first.publish(first.topic("status"), b"online", retain=True)
        async with running(broker.port) as gateway:
            await until(lambda: gateway.modules == [("m-1", True)], "the retained status")
            second.publish(second.topic("status"), b"online", retain=True)
            await until(lambda: len(gateway.modules) == 2, "the second module")
            first.publish(first.topic("status"), b"online", retain=True)
            second.crash()
            await until(lambda: len(gateway.modules) == 3, "the last will")
            assert gateway.modules == [("m-1", True), ("m-2", True), ("m-2", False)]

    run(story)


def test_messages_that_cannot_be_used_are_counted_and_never_come_back(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        module = modules("m-1")
        async with running(broker.port) as gateway:
            module.publish(module.topic("reading"), b"{ certainly no reading")
            module.publish(module.topic("reading"), b" " * 20_000)
            module.publish(module.topic("status"), b"perhaps")
            module.publish(module.topic("result"), {"id": "c", "outcome": "maybe"})
            module.read(1)
            await until(lambda: bool(gateway.taken), "the good reading")
            assert gateway.link.counts.refused == {
                "bad_reading": 1,
                "too_large": 1,
                "bad_status": 1,
                "bad_result": 1,
            }
        async with running(broker.port) as again:
            module.read(2)
            await until(lambda: bool(again.taken), "the next reading")
            assert again.seqs == [2]
            assert not again.link.counts.refused

    run(story)


def test_a_retained_reading_or_result_is_never_the_present(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        module = modules("m-1")
        module.publish(module.topic("result"), {"id": "c-1", "outcome": "done", "relay": "open"}, retain=True)
        module.publish(
            module.topic("reading"), {"at": None, "channels": [{"channel": 0, "wh": 1}]}, retain=True
        )
        async with running(broker.port) as gateway:
            await until(lambda: gateway.link.counts.retained == 2, "the retained messages")
            assert gateway.taken == []

    run(story)


def test_a_module_that_the_site_does_not_know_is_passed_over(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        foreign, module = modules("m-foreign"), modules("m-1")
        async with running(broker.port) as gateway:
            foreign.read(1)
            foreign.publish(foreign.topic("status"), b"online")
            module.read(1)
            await until(lambda: bool(gateway.taken), "the reading")
            assert [sample.module_id for sample in gateway.taken] == ["m-1"]
            assert gateway.link.counts.foreign == 2
            assert gateway.modules == []
            refused = await gateway.switch("m-foreign")
            assert refused.outcome is SwitchOutcome.REFUSED

    run(story)


def test_a_module_cannot_speak_for_another(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        first, second = modules("m-1"), modules("m-2")
        async with running(broker.port) as gateway:
            stolen = {"at": None, "seq": 666, "channels": [{"channel": 0, "wh": 1}]}
            first.publish(first.topic("reading", "m-2"), stolen)
            first.publish(first.topic("status", "m-2"), b"offline", retain=True)
            first.publish(first.topic("command", "m-2"), {"id": "c", "channel": 0, "relay": "open"})
            first.read(1)
            second.read(1)
            await until(lambda: len(gateway.taken) == 2, "the readings")
            assert gateway.seqs == [1, 1]
            assert gateway.modules == []
            assert second.commands == []

    run(story)


def test_missing_sequence_numbers_are_counted(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        module = modules("m-1")
        async with running(broker.port) as gateway:
            for seq in (1, 2, 5, 5):
                module.read(seq)
            await until(lambda: len(gateway.taken) == 4, "the readings")
            assert (gateway.link.counts.missed, gateway.link.counts.repeated) == (2, 1)

    run(story)


@pytest.mark.parametrize(
    ("outcome", "relay", "expected"),
    [
        ("done", "open", SwitchOutcome.CONFIRMED),
        ("done", "closed", SwitchOutcome.NOT_FOLLOWED),
        ("expired", "closed", SwitchOutcome.EXPIRED),
        ("refused", "closed", SwitchOutcome.REFUSED),
        ("failed", "closed", SwitchOutcome.NOT_FOLLOWED),
    ],
)
def test_a_command_goes_to_the_module_and_ends_as_it_reports(
    broker: Mosquitto, modules: Modules, outcome: str, relay: str, expected: SwitchOutcome
):
    async def story() -> None:
        module = modules("m-1")
        module.answer = lambda command: [{"id": command["id"], "outcome": outcome, "relay": relay, "at": None}]
        async with running(broker.port) as gateway:
            result = await gateway.switch()
            assert (result.outcome, result.relay) == (expected, Relay(relay))
            (command,) = module.commands
            assert (command["id"], command["channel"], command["relay"]) == ("c-1", 0, "open")
            assert datetime.fromisoformat(command["expires_at"]) > datetime.now(UTC)
            assert module.retained_commands == 0

    run(story)


def test_a_second_result_of_a_command_changes_nothing(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        module = modules("m-1")
        module.answer = lambda command: [
            *answer_done(command),
            {"id": command["id"], "outcome": "repeated", "relay": "closed", "at": None},
        ]
        async with running(broker.port) as gateway:
            result = await gateway.switch()
            assert result.outcome is SwitchOutcome.CONFIRMED
            await until(lambda: gateway.link.counts.unmatched_results == 1, "the second result")

    run(story)


def test_the_result_of_another_module_ends_no_command(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        modules("m-1")
        liar = modules("m-2")
        async with running(broker.port) as gateway:
            command = asyncio.create_task(gateway.switch(seconds=0.3))
            await asyncio.sleep(0)
            liar.publish(liar.topic("result"), {"id": "c-1", "outcome": "done", "relay": "open"})
            assert (await command).outcome is SwitchOutcome.TIMED_OUT
            assert gateway.link.counts.unmatched_results == 1

    run(story)


def test_a_command_without_an_answer_times_out_and_its_late_result_is_only_counted(
    broker: Mosquitto, modules: Modules
):
    async def story() -> None:
        module = modules("m-1")
        async with running(broker.port) as gateway:
            result = await gateway.switch(seconds=0.2)
            assert (result.outcome, result.relay) == (SwitchOutcome.TIMED_OUT, None)
            module.publish(module.topic("result"), answer_done(module.commands[0])[0])
            await until(lambda: gateway.link.counts.unmatched_results == 1, "the late result")

    run(story)


def test_an_expired_command_is_never_sent(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        module = modules("m-1")
        module.answer = answer_done
        async with running(broker.port) as gateway:
            assert (await gateway.switch(seconds=-1)).outcome is SwitchOutcome.EXPIRED
            assert (await gateway.switch(command_id="c-2")).outcome is SwitchOutcome.CONFIRMED
            assert [command["id"] for command in module.commands] == ["c-2"]

    run(story)


def test_a_command_whose_id_is_under_way_is_refused(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        module = modules("m-1")
        async with running(broker.port) as gateway:
            first = asyncio.create_task(gateway.switch())
            await until(lambda: bool(module.commands), "the command")
            assert (await gateway.switch()).outcome is SwitchOutcome.REFUSED
            module.publish(module.topic("result"), answer_done(module.commands[0])[0])
            assert (await first).outcome is SwitchOutcome.CONFIRMED
            assert len(module.commands) == 1

    run(story)


def test_wrong_credentials_are_told_as_what_they_are(broker: Mosquitto):
    async def story() -> None:
        gateway = Gateway(broker.port)
        details: list[str] = []
        gateway.link._on_line = lambda line_id, *, online, detail: details.append(detail)
        gateway.link._settings = MqttSettings(
            url="mqtt://127.0.0.1",
            host="127.0.0.1",
            port=broker.port,
            tls=False,
            username="gateway",
            password=SecretStr("wrong"),
            ca_file=None,
        )
        await gateway.link.start()
        await until(lambda: bool(details), "the refusal")
        await gateway.link.stop()
        assert "refuses the connection: Not authorized" in details[0]
        assert "wrong" not in details[0]

    run(story)


KILLED = """
import asyncio, sys
sys.path[:0] = [sys.argv[2]]
from datetime import UTC, datetime
from pydantic import SecretStr
from config.profiles import load_profiles
from config.settings import MqttSettings
from dormpower.clock import real_clock
from gateway.drivers.mqtt.link import MqttLink
from gateway.drivers.mqtt.profile_messages import ProfileMessages
MESSAGES = ProfileMessages(load_profiles()["dormpower-mqtt"])
taken = []
def submit(sample, *, done):
    taken.append(sample)
    if sample.seq < 2:
        done()
    print(sample.seq, flush=True)
async def main():
    port = int(sys.argv[1])
    link = MqttLink(
        settings=MqttSettings(url="", host="127.0.0.1", port=port, tls=False, username="gateway",
                              password=SecretStr("secret-gateway"), ca_file=None),
        site_id="south-north", gateway_id="g1", modules={"m-1": MESSAGES}, clock=real_clock(),
        submit=submit, on_module=lambda *a: None, on_line=lambda line, *, online, detail: None)
    await link.start()
    await asyncio.Event().wait()
asyncio.run(main())
"""


def run_killed_gateway(port: int, root: str) -> None:
    """Run a gateway that commits two readings, and kill it when it has taken the sixth."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(port), root], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 5:
            os.kill(process.pid, signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()


def test_kill_9_of_the_gateway_before_the_commit_loses_no_reading(broker: Mosquitto, modules: Modules):
    async def story() -> None:
        async with running(broker.port):
            pass
        module = modules("m-1")
        for seq in range(6):
            module.read(seq)
        root = str(Path(__file__).parents[2])
        await asyncio.to_thread(run_killed_gateway, broker.port, root)
        async with running(broker.port) as gateway:
            await until(lambda: len(set(gateway.seqs) & {2, 3, 4, 5}) == 4, "what was not committed")
            assert set(gateway.seqs) >= {2, 3, 4, 5}

    run(story)
