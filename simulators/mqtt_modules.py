"""Modules that speak MQTT: one connection each, with its own credentials and last will.

All connections are driven by the event loop (paho-mqtt's external loop), so that hundreds of modules cost no
threads. While the broker is gone, a module keeps its readings (a bounded number) and sends them on return.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import structlog
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from simulators.access import topic
from simulators.campus import Campus
from simulators.faults import FaultKind
from simulators.modules.messages import DormpowerMqtt

if TYPE_CHECKING:
    from paho.mqtt.client import SocketLike  # a name of its type stubs alone

log = structlog.get_logger()

BUFFERED_READINGS = 2_000
_RECONNECT_S = 1.0
_ANSWER_S = 3.0  # for the broker's answer to a connection
_KEEPALIVE_S = 30


class MqttModule:
    """One module's connection, its readings and its obedience to commands."""

    def __init__(
        self, *, campus: Campus, site_id: str, module: DormpowerMqtt, host: str, port: int, password: str
    ) -> None:
        self.module = module
        self.sent = 0
        self.dropped = 0
        self.connected = asyncio.Event()
        self._campus = campus
        self._site_id = site_id
        self._address = (host, port)
        self._loop = asyncio.get_running_loop()
        self._seq = 0
        self._boots = module.boots
        self._remembered: dict[str, datetime] = {}
        self._client = self._make_client(password)

    def _make_client(self, password: str) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self.module.module_id,
            clean_session=True,
            protocol=paho.MQTTv311,
        )
        client.username_pw_set(self.module.module_id, password)
        client.will_set(self._topic("status"), "offline", qos=1, retain=True)
        client.max_queued_messages_set(BUFFERED_READINGS)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = self._on_register_write
        client.on_socket_unregister_write = self._on_unregister_write
        return client

    def _topic(self, what: str) -> str:
        return topic(self._site_id, self.module.module_id, what)

    # --- the connection ------------------------------------------------------------------------------------

    @property
    def cut_off(self) -> bool:
        """Whether a fault keeps this module from the broker."""
        return bool({FaultKind.DEAD, FaultKind.BROKER_GONE} & self.module.faults.keys())

    async def keep_connected(self) -> None:
        """Connect, and connect again whenever the broker has gone; until cancelled."""
        while True:
            if self.cut_off:
                self.drop()
            elif not self._client.is_connected():
                await self._connect()
            else:
                self._client.loop_misc()
            await asyncio.sleep(_RECONNECT_S)

    async def _connect(self) -> None:
        """Try once; a broker that can't be reached, or doesn't answer in time, is tried again later."""
        if self._client.socket() is None:
            try:
                await asyncio.to_thread(self._client.connect, *self._address, keepalive=_KEEPALIVE_S)
            except OSError:
                return
        try:
            await asyncio.wait_for(self.connected.wait(), _ANSWER_S)
        except TimeoutError:
            self.drop()
            self._client.loop_read()  # takes note of the end, also where the loop was never told of the socket

    def drop(self) -> None:
        """Lose the connection without a word, so that the broker sends the last will."""
        open_socket = self._client.socket()
        if isinstance(open_socket, socket.socket):
            with contextlib.suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Say goodbye and disconnect."""
        if self._client.is_connected():
            self._client.publish(self._topic("status"), "offline", qos=1, retain=True)
            self._client.disconnect()
        open_socket = self._client.socket()
        if open_socket is not None:
            self._loop.remove_reader(open_socket)
            self._loop.remove_writer(open_socket)

    def _on_socket_open(self, _client: paho.Client, _data: object, opened: "SocketLike") -> None:
        # Called in the connecting thread: the loop learns of the socket in its own.
        self._loop.call_soon_threadsafe(self._watch, opened)

    def _watch(self, opened: "SocketLike") -> None:
        if opened.fileno() >= 0:
            self._loop.add_reader(opened, self._client.loop_read)
            if self._client.want_write():
                self._loop.add_writer(opened, self._client.loop_write)

    def _on_socket_close(self, _client: paho.Client, _data: object, closing: "SocketLike") -> None:
        self._loop.remove_reader(closing)
        self._loop.remove_writer(closing)

    def _on_register_write(self, _client: paho.Client, _data: object, ready: "SocketLike") -> None:
        self._loop.call_soon_threadsafe(self._watch_write, ready)

    def _watch_write(self, ready: "SocketLike") -> None:
        if ready.fileno() >= 0 and self._client.want_write():
            self._loop.add_writer(ready, self._client.loop_write)

    def _on_unregister_write(self, _client: paho.Client, _data: object, ready: "SocketLike") -> None:
        if ready.fileno() >= 0:
            self._loop.remove_writer(ready)

    def _on_connect(
        self, client: paho.Client, _data: object, _flags: object, reason: Any, _props: object
    ) -> None:
        if reason.is_failure:
            log.warning("simulator.mqtt_refused", module=self.module.module_id, reason=str(reason))
            return
        client.subscribe(self._topic("command"), qos=1)
        client.publish(self._topic("status"), "online", qos=1, retain=True)
        self.connected.set()

    def _on_disconnect(self, *_: object) -> None:
        self.connected.clear()

    # --- readings ------------------------------------------------------------------------------------------

    def _campus_at(self) -> str | None:
        if FaultKind.CLOCK_UNSET in self.module.faults:
            return None
        return _rfc3339(self._campus.clock.now())

    def publish_reading(self) -> None:
        """Send a reading, or keep it where there is no broker; a full buffer counts what it can't keep."""
        if FaultKind.DEAD in self.module.faults:
            return
        self._campus.about_to_answer()
        self.module.advance(self._campus.now_ms())
        if self.module.boots != self._boots:
            self._boots, self._seq = self.module.boots, 0
        payload = {
            "at": self._campus_at(),
            "boot_id": self.module.boot_id,
            "seq": self._seq,
            "channels": self.module.channel_payloads(),
        }
        self._seq += 1
        if self._publish("reading", payload):
            self.sent += 1
        else:
            self.dropped += 1

    def _publish(self, what: str, payload: Mapping[str, Any]) -> bool:
        info = self._client.publish(self._topic(what), json.dumps(payload, separators=(",", ":")), qos=1)
        return info.rc != paho.MQTT_ERR_QUEUE_SIZE

    # --- commands ------------------------------------------------------------------------------------------

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        try:
            command = json.loads(message.payload)
            command_id, relay = str(command["id"]), str(command["relay"])
            channel = int(command["channel"])
            expires_at = datetime.fromisoformat(command["expires_at"]).astimezone(UTC)
        except (ValueError, KeyError, TypeError):
            log.warning("simulator.mqtt_bad_command", module=self.module.module_id)
            return
        if FaultKind.DEAD in self.module.faults:
            return
        if message.retain or relay not in {"open", "closed"} or not 0 <= channel < len(self.module.channels):
            self._result(command_id, "refused", None)
            return
        outcome = self._obey(command_id, channel, closed=relay == "closed", expires_at=expires_at)
        reported = "closed" if self.module.channels[channel].reported_closed() else "open"
        late = self.module.use(FaultKind.LATE_ANSWER) or self.module.use(FaultKind.SLOW)
        if late is None:
            self._result(command_id, outcome, reported)
        else:
            self._loop.call_later(float(late.get("delay_s", 1.0)), self._result, command_id, outcome, reported)

    def _obey(self, command_id: str, channel: int, *, closed: bool, expires_at: datetime) -> str:
        now = self._campus.clock.real_now()
        self._remembered = {known: until for known, until in self._remembered.items() if until > now}
        if FaultKind.CLOCK_UNSET in self.module.faults or self.module.use(FaultKind.EXCEPTION) is not None:
            return "refused"
        if command_id in self._remembered:
            return "repeated"
        if expires_at <= now:
            return "expired"
        self._remembered[command_id] = expires_at
        self.module.advance(self._campus.now_ms())
        self.module.command(channel, closed=closed)
        self._campus.changed()
        return "done" if self.module.channels[channel].reported_closed() == closed else "failed"

    def _result(self, command_id: str, outcome: str, relay: str | None) -> None:
        self._campus.about_to_answer()
        self._publish("result", {"id": command_id, "outcome": outcome, "relay": relay, "at": self._campus_at()})


def _rfc3339(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class MqttFleet:
    """All MQTT modules of a campus."""

    def __init__(
        self,
        *,
        campus: Campus,
        site_id: str,
        host: str,
        port: int,
        credentials: Mapping[str, str],
        every_s: float,
    ) -> None:
        self.every_s = every_s
        self.modules = {
            module_id: MqttModule(
                campus=campus,
                site_id=site_id,
                module=module,
                host=host,
                port=port,
                password=credentials.get(module_id, ""),
            )
            for module_id, module in campus.mqtt_modules().items()
        }
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Let all modules connect and send a reading each `every_s` real seconds, spread over that time."""
        for number, module in enumerate(self.modules.values()):
            offset_s = self.every_s * number / len(self.modules)
            for work in (module.keep_connected(), self._publish(module, offset_s)):
                task = asyncio.create_task(work)
                task.add_done_callback(self._done)
                self._tasks.add(task)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("simulator.mqtt_broken", exc_info=task.exception())

    async def _publish(self, module: MqttModule, offset_s: float) -> None:
        await asyncio.sleep(offset_s)
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            module.publish_reading()
            due += self.every_s
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def wait_connected(self, timeout_s: float = 30.0) -> None:
        """Wait until all are connected. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            for module in self.modules.values():
                await module.connected.wait()

    async def stop(self) -> None:
        """Disconnect all."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for module in self.modules.values():
            module.close()
