"""MQTT modules through the embedded broker: readings, commands, access, loss of the broker."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from dormpower.clock import real_clock
from simulators.access import make_credentials
from simulators.broker import EmbeddedBroker
from simulators.campus import Campus, build_campus
from simulators.mqtt_modules import MqttFleet

MODULE = "m-north-01-501"


class Peer:
    """A client with a thread of its own, that keeps what it is sent."""

    def __init__(self, port: int, user: str, password: str, *, client_id: str | None = None) -> None:
        self.messages: list[tuple[str, Any, bool]] = []
        self.connected: bool | None = None
        self.granted: list[int] = []
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id or user)
        if user:
            self.client.username_pw_set(user, password)
        self.client.on_connect = lambda c, u, f, reason, p: setattr(self, "connected", not reason.is_failure)
        self.client.on_subscribe = lambda c, u, m, reasons, p: self.granted.extend(
            reason.value for reason in reasons
        )
        self.client.on_message = lambda c, u, message: self.messages.append(
            (message.topic, message.payload, message.retain)
        )
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def of(self, what: str, module: str = MODULE) -> list[Any]:
        wanted = f"dormpower/test/{module}/{what}"
        found = [payload for topic, payload, _ in self.messages if topic == wanted]
        return found if what == "status" else [json.loads(payload) for payload in found]


class Field:
    """A broker, a fleet of three modules, and the gateway's view of them."""

    def __init__(
        self, broker: EmbeddedBroker, fleet: MqttFleet, campus: Campus, passwords: dict[str, str]
    ) -> None:
        self.broker = broker
        self.fleet = fleet
        self.campus = campus
        self.passwords = passwords
        self.peers: list[Peer] = []

    async def peer(
        self, user: str, tools: Any, *, client_id: str | None = None, password: str | None = None
    ) -> Peer:
        made = await asyncio.to_thread(
            Peer, self.broker.port, user, password or self.passwords.get(user, ""), client_id=client_id
        )
        self.peers.append(made)
        await tools.until(lambda: made.connected is not None)
        return made


@pytest.fixture
async def field(tools: Any) -> AsyncIterator[Field]:
    campus = build_campus(tools.small_site(rooms=1, mqtt=3), seed=3, clock=real_clock())
    passwords = make_credentials(campus.mqtt_modules())
    broker = EmbeddedBroker(site_id="test", credentials=passwords)
    await broker.start()
    campus.broker = broker
    fleet = MqttFleet(
        campus=campus, site_id="test", host="127.0.0.1", port=broker.port, credentials=passwords, every_s=0.2
    )
    made = Field(broker, fleet, campus, passwords)
    await fleet.start()
    await fleet.wait_connected()
    yield made
    for peer in made.peers:
        await asyncio.to_thread(peer.close)
    await fleet.stop()
    await broker.stop()


async def gateway(field: Field, tools: Any) -> Peer:
    peer = await field.peer("gateway", tools)
    peer.client.subscribe("dormpower/test/#", qos=1)
    await tools.until(lambda: bool(peer.granted))
    return peer


def order(command_id: str, relay: str, *, in_s: float = 30, channel: int = 0) -> str:
    expires_at = (datetime.now(UTC) + timedelta(seconds=in_s)).isoformat()
    return json.dumps({"id": command_id, "channel": channel, "relay": relay, "expires_at": expires_at})


async def test_modules_publish_readings_that_count_up_and_a_retained_status(field: Field, tools: Any) -> None:
    peer = await gateway(field, tools)
    await tools.until(lambda: len(peer.of("reading")) >= 3)
    readings = peer.of("reading")
    assert [reading["seq"] for reading in readings] == list(
        range(readings[0]["seq"], readings[0]["seq"] + len(readings))
    )
    assert datetime.fromisoformat(readings[0]["at"]).tzinfo is not None
    assert set(readings[0]["channels"][1]) == {"channel", "wh", "v", "a", "w", "pf", "relay", "flags"}
    await tools.until(lambda: b"online" in peer.of("status"))


async def test_a_command_acts_once_and_never_after_its_expiry(field: Field, tools: Any) -> None:
    peer = await gateway(field, tools)
    to = f"dormpower/test/{MODULE}/command"
    peer.client.publish(to, order("c1", "open"), qos=1)
    peer.client.publish(to, order("c1", "open"), qos=1)
    peer.client.publish(to, order("c2", "closed", in_s=-1), qos=1)
    await tools.until(lambda: len(peer.of("result")) >= 3)
    assert [(result["id"], result["outcome"], result["relay"]) for result in peer.of("result")] == [
        ("c1", "done", "open"),
        ("c1", "repeated", "open"),
        ("c2", "expired", "open"),
    ]
    assert field.campus.truth("north-01-501-lighting")["contacts"] == "open"


async def test_a_module_without_a_clock_stamps_nothing_and_refuses_commands(field: Field, tools: Any) -> None:
    peer = await gateway(field, tools)
    await field.campus.fault(MODULE, "clock_unset")
    peer.client.publish(f"dormpower/test/{MODULE}/command", order("c1", "open"), qos=1)
    await tools.until(lambda: bool(peer.of("result")))
    assert peer.of("result")[0]["outcome"] == "refused"
    await tools.until(lambda: any(reading["at"] is None for reading in peer.of("reading")))


async def test_a_stuck_relay_ends_failed(field: Field, tools: Any) -> None:
    peer = await gateway(field, tools)
    await field.campus.fault(MODULE, "stuck_relay")
    peer.client.publish(f"dormpower/test/{MODULE}/command", order("c1", "open"), qos=1)
    await tools.until(lambda: bool(peer.of("result")))
    assert (peer.of("result")[0]["outcome"], peer.of("result")[0]["relay"]) == ("failed", "closed")


async def test_a_dead_module_leaves_its_last_will(field: Field, tools: Any) -> None:
    peer = await gateway(field, tools)
    await field.campus.fault(MODULE, "dead")
    await tools.until(lambda: b"offline" in peer.of("status"))


async def test_readings_made_while_the_broker_is_gone_arrive_on_its_return(field: Field, tools: Any) -> None:
    first = await gateway(field, tools)
    await tools.until(lambda: bool(first.of("reading")))
    await field.campus.fault("broker", "broker_gone")
    made = field.fleet.modules[MODULE].sent
    await tools.until(lambda: field.fleet.modules[MODULE].sent >= made + 3)
    first.close()
    await field.campus.clear("broker")
    second = await gateway(field, tools)
    await tools.until(lambda: len(second.of("reading")) >= 3, timeout_s=20)
    numbers = sorted({reading["seq"] for reading in second.of("reading")})
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert field.fleet.modules[MODULE].dropped == 0


async def test_nobody_is_anonymous_and_a_wrong_password_is_refused(field: Field, tools: Any) -> None:
    assert not (await field.peer("", tools, client_id="somebody")).connected
    assert not (await field.peer(MODULE, tools, password="wrong")).connected
    assert not (await field.peer(MODULE, tools, client_id="g1")).connected


async def test_a_module_publishes_only_its_own_topics(field: Field, tools: Any) -> None:
    await field.campus.fault(MODULE, "dead")
    watcher = await gateway(field, tools)
    thief = await field.peer(MODULE, tools)
    thief.client.publish("dormpower/test/m-north-01-502/reading", "{}", qos=1)
    thief.client.publish(f"dormpower/test/{MODULE}/command", "{}", qos=1)
    thief.client.publish(f"dormpower/test/{MODULE}/result", '{"mine": 1}', qos=1)
    await tools.until(lambda: {"mine": 1} in watcher.of("result"))
    assert {} not in watcher.of("reading", "m-north-01-502")
    assert watcher.of("command") == []


async def test_a_module_subscribes_only_to_its_own_command(field: Field, tools: Any) -> None:
    await field.campus.fault(MODULE, "dead")
    thief = await field.peer(MODULE, tools)
    for wanted in ("#", "dormpower/test/+/command", "dormpower/test/m-north-01-502/command"):
        thief.client.subscribe(wanted, qos=1)
    thief.client.subscribe(f"dormpower/test/{MODULE}/command", qos=1)
    await tools.until(lambda: len(thief.granted) == 4)
    assert thief.granted == [128, 128, 128, 1]
