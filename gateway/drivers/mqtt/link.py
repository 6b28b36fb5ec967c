"""The gateway's side of MQTT: readings in, commands out, and who is there.

A reading is acknowledged only when intake calls `done` after its commit. Until then it waits in the broker's
window of unacknowledged messages, which is what holds back a broker that sends faster than the books commit;
if the gateway dies the broker sends it again. A message that can't be used is counted and acknowledged, or it
would come back for ever. A message whose commit does not come within `stuck_after_s` makes the link connect
anew, so that the broker sends it again.

A command goes out once, at QoS 1, never retained, with its id and expiry (invariant 17); its result is matched
by id and module. Nothing is sent again by itself: control decides anew whether a relay has to be switched.
"""

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

import structlog
from paho.mqtt.enums import MQTTProtocolVersion

from config.settings import MqttSettings
from dormpower.clock import Clock
from dormpower.domain.samples import ModuleSample, Relay
from gateway.drivers.mqtt.commands import Commands
from gateway.drivers.mqtt.connection import Connection, Message, ask_protocol, explain
from gateway.drivers.mqtt.payloads import UnableToUsePayloadError
from gateway.drivers.mqtt.profile_messages import ProfileMessages
from gateway.drivers.mqtt.sequence import Sequences
from gateway.drivers.mqtt.topics import Kind, Topics
from gateway.ports import SwitchOutcome, SwitchResult

LINE_ID = "mqtt"
WINDOW = 1_000
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 30.0
STUCK_AFTER_S = 120.0
MAX_FOREIGN_LOGGED = 100

log = structlog.get_logger()


class Submit(Protocol):
    """Intake's door: `done` is called from any thread once the sample is committed."""

    def __call__(self, sample: ModuleSample, *, done: Callable[[], None]) -> None:
        """Take a sample in."""


class OnModule(Protocol):
    """Who is told that a module came or went."""

    def __call__(self, module_id: str, online: bool, detail: str) -> None:
        """Take note."""


class OnLine(Protocol):
    """Who is told that the broker came or went."""

    def __call__(self, line_id: str, *, online: bool, detail: str) -> None:
        """Take note."""


@dataclass(slots=True)
class MqttCounts:
    """What came in, since the start; `refused` by reason."""

    readings: int = 0
    acknowledged: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    foreign: int = 0  # no module of this site
    retained: int = 0  # readings and results that a broker kept: never the present
    missed: int = 0  # sequence numbers that never came
    repeated: int = 0  # sequence numbers that had come before
    unmatched_results: int = 0  # late, repeated, or of nobody's command
    overflowed: int = 0  # sent at QoS 0 while the window was full


class MqttLink:
    """Holds the session with the broker; `start` and `stop` belong to one event loop. Is a `Switch`."""

    def __init__(
        self,
        *,
        settings: MqttSettings,
        site_id: str,
        gateway_id: str,
        modules: Mapping[str, ProfileMessages],
        clock: Clock,
        submit: Submit,
        on_module: OnModule,
        on_line: OnLine,
        window: int = WINDOW,
        first_retry_s: float = FIRST_RETRY_S,
        stuck_after_s: float = STUCK_AFTER_S,
    ) -> None:
        self.counts = MqttCounts()
        self._settings = settings
        self._topics = Topics(site_id, {name: messages.profile for name, messages in modules.items()})
        self._client_id = f"dormpower-{site_id}-{gateway_id}"
        self._status_topic = self._topics.gateway_status(gateway_id)
        self._modules = modules
        self._clock = clock
        self._submit = submit
        self._on_module = on_module
        self._on_line = on_line
        self._window = window
        self._first_retry_s = first_retry_s
        self._stuck_after_s = stuck_after_s
        self._protocol = MQTTProtocolVersion.MQTTv5
        self._session: _Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._online: bool | None = None
        self._module_online: dict[str, bool] = {}
        self._sequences = Sequences()
        self._faulty: set[str] = set()
        self._foreign_logged: set[str] = set()
        self._pending: dict[int, float] = {}
        self._numbers = itertools.count()
        self._commands = Commands(clock=clock)

    @property
    def online(self) -> bool:
        """Whether the broker is there and has taken our subscriptions."""
        return self._online is True

    async def start(self) -> None:
        """Begin to hold the session; returns at once, an absent broker is retried for ever."""
        self._stopping.clear()
        self._task = asyncio.create_task(self._run(), name="mqtt-link")

    async def stop(self) -> None:
        """End the connection; the broker keeps the session and what was not acknowledged."""
        self._stopping.set()
        if self._session is not None:
            self._session.over.set()
        if self._task is not None:
            await self._task
            self._task = None

    async def switch(
        self, *, module_id: str, channel: int, relay: Relay, command_id: str, expires_at: datetime
    ) -> SwitchResult:
        """Send a command and wait for its result until it expires."""
        messages = self._modules.get(module_id)
        if messages is None:
            return SwitchResult(outcome=SwitchOutcome.REFUSED, detail=f"{module_id} is no MQTT module here")
        command = messages.profile.command
        topic = self._topics.command(module_id, channel)
        if command is None or topic is None:
            return SwitchResult(
                outcome=SwitchOutcome.NO_RELAY, detail=f"{messages.profile.name} describes no commands"
            )
        expires_by_itself = command.form == "json" and command.expires_at is not None
        if self.online and not expires_by_itself and self._protocol != MQTTProtocolVersion.MQTTv5:
            # A broker of 3.1.1 keeps a command for a module that is away, which would act on its return.
            return SwitchResult(
                outcome=SwitchOutcome.REFUSED,
                detail=f"commands of {messages.profile.name} carry no expiry: that takes a broker of MQTT 5",
            )

        def publish(payload: bytes, expiry_s: float) -> bool:
            session = self._session
            return (
                session is not None
                and self.online
                and session.connection.publish(topic, payload, expiry_s=expiry_s)
            )

        return await self._commands.carry_out(
            publish=publish,
            messages=messages,
            module_id=module_id,
            channel=channel,
            relay=relay,
            command_id=command_id,
            expires_at=expires_at,
        )

    async def _run(self) -> None:
        retry_s = self._first_retry_s
        while not self._stopping.is_set():
            session: _Session | None = None
            try:
                self._protocol = await asyncio.to_thread(
                    ask_protocol, self._settings, f"{self._client_id}-asks"
                )
                session = self._session = _Session(self)
                await asyncio.to_thread(session.connection.open)
            except OSError as fault:
                detail = explain(fault)
            else:
                await self._watch(session)
                detail = session.detail
            # From here on nothing of this connection counts; what it left open comes again.
            self._session = None
            self._pending.clear()
            if session is not None:
                await asyncio.to_thread(session.connection.close)
            if self._stopping.is_set():
                return
            self._note_line(online=False, detail=detail)
            retry_s = (
                self._first_retry_s
                if session is not None and session.was_ready
                else min(2 * retry_s, LONGEST_RETRY_S)
            )
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(retry_s * random.uniform(0.75, 1.25)):  # noqa: S311 - spreads retries
                    await self._stopping.wait()

    async def _watch(self, session: "_Session") -> None:
        """Wait until the connection ends, or until a message has waited too long for its commit."""
        while not session.over.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._stuck_after_s / 2):
                    await session.over.wait()
            oldest = next(iter(self._pending.values()), None)
            if oldest is not None and self._clock.monotonic() - oldest > self._stuck_after_s:
                log.warning("mqtt.commits_overdue", waiting=len(self._pending), after_s=self._stuck_after_s)
                session.detail = "connecting anew: commits are overdue"
                return

    def new_connection(self, session: "_Session") -> Connection:
        """Make, not open, the connection of a session."""
        return Connection(
            settings=self._settings,
            client_id=self._client_id,
            filters=self._topics.filters(),
            status_topic=self._status_topic,
            window=self._window,
            protocol=self._protocol,
            listener=session,
        )

    def note_ready(self, session: "_Session") -> None:
        """Note that a connection is subscribed; called by its session on the event loop."""
        if session is self._session:
            session.was_ready = True
            self._note_line(online=True, detail=f"MQTT {'5' if self._protocol == 5 else '3.1.1'}")

    def _note_line(self, *, online: bool, detail: str) -> None:
        if self._online is online:
            return
        self._online = online
        if online:
            log.info("line.up", line=LINE_ID, detail=detail)
        else:
            log.warning("line.down", line=LINE_ID, detail=detail)
        self._on_line(LINE_ID, online=online, detail=detail)

    def take(self, session: "_Session", message: Message) -> None:
        """Judge one message; called by its session on the event loop."""
        if session is not self._session:
            return
        topic = self._topics.parse(message.topic)
        if topic is None:
            self._note_foreign(message.topic)
        elif message.retain and topic.kind is not Kind.STATUS:
            self.counts.retained += 1
        elif topic.kind is Kind.READING:
            self._take_reading(session, message, topic.module_id)
            return
        else:
            self._take_report(message, topic.module_id, topic.kind)
        session.connection.acknowledge(message)

    def _take_reading(self, session: "_Session", message: Message, module_id: str) -> None:
        if message.qos == 0 and len(self._pending) >= self._window:
            self.counts.overflowed += 1
            return
        try:
            sample = self._modules[module_id].sample(
                message.payload, module_id=module_id, arrived_at=self._clock.now()
            )
        except UnableToUsePayloadError as fault:
            self._refuse(module_id, fault)
            session.connection.acknowledge(message)
            return
        self._faulty.discard(module_id)
        self.counts.readings += 1
        missed, repeated = self._sequences.note(module_id, boot_id=sample.boot_id, seq=sample.seq)
        self.counts.missed += missed
        self.counts.repeated += repeated
        number = next(self._numbers)
        self._pending[number] = self._clock.monotonic()

        def done() -> None:
            if self._pending.pop(number, None) is not None:
                self.counts.acknowledged += 1
                session.connection.acknowledge(message)

        self._submit(sample, done=done)
        self._commands.take_reading(module_id, sample.channels)

    def _take_report(self, message: Message, module_id: str, kind: Kind) -> None:
        try:
            messages = self._modules[module_id]
            if kind is Kind.STATUS:
                self._note_module(module_id, online=messages.status(message.payload))
            elif not self._commands.take_result(module_id, messages.result(message.payload)):
                self.counts.unmatched_results += 1
        except UnableToUsePayloadError as fault:
            self._refuse(module_id, fault)

    def _note_module(self, module_id: str, *, online: bool) -> None:
        if self._module_online.get(module_id) is online:
            return
        self._module_online[module_id] = online
        self._on_module(module_id, online, "reports online" if online else "reports offline, or its last will")

    def _refuse(self, module_id: str, fault: UnableToUsePayloadError) -> None:
        self.counts.refused[fault.refusal.value] += 1
        if module_id not in self._faulty:
            self._faulty.add(module_id)
            log.warning("mqtt.payload_refused", module=module_id, detail=str(fault))

    def _note_foreign(self, topic: str) -> None:
        self.counts.foreign += 1
        if topic not in self._foreign_logged and len(self._foreign_logged) < MAX_FOREIGN_LOGGED:
            self._foreign_logged.add(topic)
            log.warning("mqtt.foreign_topic", topic=topic[:200])


class _Session:
    """One connection's life, told from paho's thread to the event loop."""

    def __init__(self, link: MqttLink) -> None:
        self.over = asyncio.Event()
        self.was_ready = False
        self.detail = ""
        self._link = link
        self._loop = asyncio.get_running_loop()
        self.connection = link.new_connection(self)

    def ready(self) -> None:
        """Connected and subscribed."""
        self._tell(lambda: self._link.note_ready(self))

    def message(self, message: Message) -> None:
        """A message came."""
        self._tell(lambda: self._link.take(self, message))

    def ended(self, detail: str) -> None:
        """The connection is over."""
        self._tell(lambda: self._end(detail))

    def _end(self, detail: str) -> None:
        self.detail = self.detail or detail
        self.over.set()

    def _tell(self, call: Callable[[], None]) -> None:
        # A loop that is closed has nobody left to tell; what is not acknowledged comes again.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)
