"""The MQTT driver on the embedded broker, which speaks MQTT 3.1.1 only."""

import asyncio
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import SecretStr

from config.profiles import load_profiles
from config.settings import MqttSettings
from dormpower.clock import real_clock
from dormpower.domain.samples import ModuleSample, Relay
from gateway.drivers.mqtt.link import MqttLink
from gateway.drivers.mqtt.profile_messages import ProfileMessages
from gateway.ports import SwitchOutcome
from simulators.broker import EmbeddedBroker, _Filters

SITE = "s"
DEADLINE_S = 20.0


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        await asyncio.sleep(0.005)


class Gateway:
    def __init__(self, port: int) -> None:
        self.commit = True
        self.taken: list[ModuleSample] = []
        self.modules: list[tuple[str, bool]] = []
        self.link = MqttLink(
            settings=MqttSettings(
                url="",
                host="127.0.0.1",
                port=port,
                tls=False,
                username="gateway",
                password=SecretStr("g"),
                ca_file=None,
            ),
            site_id=SITE,
            gateway_id="g1",
            modules={"m-1": ProfileMessages(load_profiles()["dormpower-mqtt"])},
            clock=real_clock(),
            submit=self._submit,
            on_module=lambda module_id, online, detail: self.modules.append((module_id, online)),
            on_line=lambda line_id, *, online, detail: None,
            first_retry_s=0.05,
        )

    def _submit(self, sample: ModuleSample, *, done: Callable[[], None]) -> None:
        self.taken.append(sample)
        if self.commit:
            done()

    async def start(self) -> None:
        await self.link.start()
        await until(lambda: self.link.online, "the gateway to be online")


class ScriptedModule:
    def __init__(self, port: int) -> None:
        self.ready = False
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="m-1")
        self._client.username_pw_set("m-1", "1")
        self._client.will_set(f"dormpower/{SITE}/m-1/status", b"offline", qos=1, retain=True)
        self._client.on_connect = lambda client, *_: client.subscribe(f"dormpower/{SITE}/m-1/command", qos=1)
        self._client.on_subscribe = lambda *_: setattr(self, "ready", True)
        self._client.on_message = self._on_command
        self._port = port

    async def start(self) -> None:
        await asyncio.to_thread(self._client.connect, "127.0.0.1", self._port)
        self._client.loop_start()
        await until(lambda: self.ready, "the module to be subscribed")

    async def stop(self) -> None:
        self._client.disconnect()
        await asyncio.to_thread(self._client.loop_stop)

    async def say(self, kind: str, payload: Any, *, retain: bool = False) -> None:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        sent = self._client.publish(f"dormpower/{SITE}/m-1/{kind}", data, qos=1, retain=retain)
        await asyncio.to_thread(sent.wait_for_publish, DEADLINE_S)

    async def read(self, seq: int) -> None:
        await self.say("reading", {"at": None, "seq": seq, "channels": [{"channel": 0, "wh": 1000 + seq}]})

    def _on_command(self, client: Client, _userdata: Any, message: Any) -> None:
        command = json.loads(message.payload)
        result = {"id": command["id"], "outcome": "done", "relay": command["relay"], "at": None}
        client.publish(f"dormpower/{SITE}/m-1/result", json.dumps(result).encode(), qos=1)


def run(story: Callable[[EmbeddedBroker, ScriptedModule], Any]) -> None:
    async def whole() -> None:
        broker = EmbeddedBroker(site_id=SITE, credentials={"gateway": "g", "m-1": "1"})
        port = await broker.start()
        module = ScriptedModule(port)
        try:
            await module.start()
            await story(broker, module)
        finally:
            await module.stop()
            await broker.stop()

    asyncio.run(whole())


def test_readings_statuses_and_commands_go_through_the_embedded_broker():
    async def story(broker: EmbeddedBroker, module: ScriptedModule) -> None:
        gateway = Gateway(broker.port)
        await gateway.start()
        try:
            await module.say("status", b"online", retain=True)
            for seq in range(30):
                await module.read(seq)
            await until(lambda: len(gateway.taken) == 30, "the readings")
            assert [sample.seq for sample in gateway.taken] == list(range(30))
            await until(lambda: gateway.modules == [("m-1", True)], "the status")
            result = await gateway.link.switch(
                module_id="m-1",
                channel=0,
                relay=Relay.OPEN,
                command_id="c-1",
                expires_at=datetime.now(UTC) + timedelta(seconds=10),
            )
            assert (result.outcome, result.relay) == (SwitchOutcome.CONFIRMED, Relay.OPEN)
        finally:
            await gateway.link.stop()

    run(story)


def test_a_gateway_that_was_away_goes_on_with_the_next_reading():
    """The embedded broker forgets what was not acknowledged (a limit of amqtt); registers are cumulative."""

    async def story(broker: EmbeddedBroker, module: ScriptedModule) -> None:
        first = Gateway(broker.port)
        first.commit = False
        await first.start()
        await module.read(1)
        await until(lambda: len(first.taken) == 1, "the reading")
        await first.link.stop()
        second = Gateway(broker.port)
        await second.start()
        try:
            await module.read(2)
            await until(lambda: 2 in [sample.seq for sample in second.taken], "the next reading")
        finally:
            await second.link.stop()

    run(story)


def test_filters_may_come_and_go_while_a_message_is_handed_out():
    filters = _Filters({"a": [1], "b": [2]})
    seen = []
    for topic_filter, sessions in filters.items():
        seen.append((topic_filter, sessions))
        filters[f"{topic_filter}-new"] = [3]
        filters.pop("b", None)
    for topic_filter in filters:
        filters.pop(topic_filter)
    assert seen == [("a", [1]), ("b", [2])]
    assert not filters
