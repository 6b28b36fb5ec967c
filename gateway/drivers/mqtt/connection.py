"""One connection to the broker on paho's client, which runs its own thread; used once and thrown away.

Each connection is a client object of its own. So an acknowledgement can only reach the connection on which its
message came (message ids are numbered anew by every connection), and no command left over from a broken
connection is ever sent by the next one. What lasts from one connection to the next is the broker's session for
our client id: it keeps the subscriptions and sends again what was not acknowledged.

MQTT 5 is asked for first: there the gateway says itself how many messages may be on their way unacknowledged. A
broker that knows only 3.1.1 decides that number by its own configuration. Which of them it is is asked by a
connection of its own that brings nothing: the embedded amqtt misreads a full request of MQTT 5 and never
answers. (amqtt 0.12 also forgets what was not acknowledged when a connection ends; mosquitto sends it again.)
"""

import math
import queue
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from config.settings import MqttSettings

KEEPALIVE_S = 30
CONNECT_TIMEOUT_S = 10.0
SESSION_EXPIRY_S = 7 * 86_400
MAX_PACKET_BYTES = 64 * 1024
_UNSUPPORTED_PROTOCOL = 132


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as it came; `mid` names it on its connection."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    mid: int


class UnableToReadAuthorityError(OSError):
    """The file of trusted authorities holds none."""


class _Socket(ssl.SSLSocket):
    """Closes itself when the handshake fails: paho leaves it open, and an absent trust is retried for ever."""

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


class Listener(Protocol):
    """Who is told; called in paho's thread."""

    def ready(self) -> None:
        """Connected and subscribed."""

    def message(self, message: Message) -> None:
        """A message came; it waits for its acknowledgement."""

    def ended(self, detail: str) -> None:
        """The connection is over, or was refused."""


class Connection:
    """A connection of a persistent session with manual acknowledgement."""

    def __init__(
        self,
        *,
        settings: MqttSettings,
        client_id: str,
        filters: Sequence[str],
        status_topic: str,
        window: int,
        protocol: MQTTProtocolVersion,
        listener: Listener,
    ) -> None:
        self._settings = settings
        self._filters = filters
        self._status_topic = status_topic
        self._window = window
        self._is_5 = protocol == MQTTProtocolVersion.MQTTv5
        self._listener = listener
        self._refused = ""
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if self._is_5 else False,
            protocol=protocol,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._client.connect_timeout = CONNECT_TIMEOUT_S
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect

    def open(self) -> None:
        """Connect and start the thread; blocks until the socket is there. Raises OSError."""
        settings, client = self._settings, self._client
        if settings.username is not None:
            password = settings.password.get_secret_value() if settings.password else None
            client.username_pw_set(settings.username, password)
        _set_up_tls(client, settings)
        client.will_set(self._status_topic, b"offline", qos=1, retain=True)
        if self._is_5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_EXPIRY_S
            properties.ReceiveMaximum = self._window
            properties.MaximumPacketSize = MAX_PACKET_BYTES
            client.connect(
                settings.host, settings.port, keepalive=KEEPALIVE_S, clean_start=False, properties=properties
            )
        else:
            client.connect(settings.host, settings.port, keepalive=KEEPALIVE_S)
        client.loop_start()

    def publish(self, topic: str, payload: bytes, *, expiry_s: float) -> bool:
        """Send a message at QoS 1, never retained; False where the connection is gone.

        A broker of MQTT 5 throws it away after `expiry_s`.
        """
        properties = None
        if self._is_5:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.MessageExpiryInterval = max(1, math.ceil(expiry_s))
        sent = self._client.publish(topic, payload, qos=1, retain=False, properties=properties)
        return sent.rc == MQTTErrorCode.MQTT_ERR_SUCCESS

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that a message is done with; from any thread; nothing once the connection is gone."""
        self._client.ack(message.mid, message.qos)

    def close(self) -> None:
        """Say goodbye if there is still someone, and wait for the thread; blocks briefly."""
        if self._client.is_connected():
            self._client.publish(self._status_topic, b"offline", qos=1, retain=True)
            self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Client, _userdata: Any, _flags: ConnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._refused = f"the broker refuses the connection: {reason}"
            return
        if self._is_5:
            client.subscribe([(topic, SubscribeOptions(qos=1)) for topic in self._filters])
        else:
            client.subscribe([(topic, 1) for topic in self._filters])
        client.publish(self._status_topic, b"online", qos=1, retain=True)

    def _on_subscribe(
        self, client: Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _properties: Any
    ) -> None:
        refused = [topic for topic, reason in zip(self._filters, reasons, strict=True) if reason.is_failure]
        if refused:
            self._refused = (
                f"the broker refuses the subscription to {', '.join(refused)}: check its access list"
            )
            client.disconnect()
        else:
            self._listener.ready()

    def _on_message(self, _client: Client, _userdata: Any, message: MQTTMessage) -> None:
        self._listener.message(
            Message(
                topic=message.topic,
                payload=bytes(message.payload),
                qos=message.qos,
                retain=message.retain,
                mid=message.mid,
            )
        )

    def _on_disconnect(
        self, _client: Client, _userdata: Any, _flags: DisconnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        self._listener.ended(self._refused or f"connection ended: {reason}")


def ask_protocol(settings: MqttSettings, client_id: str) -> MQTTProtocolVersion:
    """Return the newest protocol that the broker speaks; blocks. Raises OSError where nobody answers.

    Asked without credentials and last will: any answer but "unsupported" is one in MQTT 5, also a refusal.
    """
    client = Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=MQTTProtocolVersion.MQTTv5)
    answers: queue.SimpleQueue[ReasonCode] = queue.SimpleQueue()
    client.on_connect = lambda _client, _userdata, _flags, reason, _properties: answers.put(reason)
    client.connect_timeout = CONNECT_TIMEOUT_S
    _set_up_tls(client, settings)
    client.connect(settings.host, settings.port, keepalive=KEEPALIVE_S, clean_start=True)
    client.loop_start()
    try:
        answer = answers.get(timeout=CONNECT_TIMEOUT_S)
    except queue.Empty as silence:
        raise TimeoutError(f"no answer from the broker within {CONNECT_TIMEOUT_S:g} s") from silence
    finally:
        client.disconnect()
        client.loop_stop()
    too_new = answer.value == _UNSUPPORTED_PROTOCOL
    return MQTTProtocolVersion.MQTTv311 if too_new else MQTTProtocolVersion.MQTTv5


def explain(fault: OSError) -> str:
    """Return why there is no connection, in words for people."""
    if isinstance(fault, ssl.SSLCertVerificationError):
        why = fault.verify_message.rstrip(".")
        return f"the broker's certificate is not trusted: {why}; check mqtt.ca_file and the name in mqtt.url"
    if isinstance(fault, UnableToReadAuthorityError):
        return str(fault)
    if isinstance(fault, ssl.SSLError):
        return f"no TLS with the broker ({fault.reason}): check that mqtt.url names its TLS port"
    return f"{type(fault).__name__}: {fault}"


def _set_up_tls(client: Client, settings: MqttSettings) -> None:
    if not settings.tls:
        return
    try:
        context = ssl.create_default_context(cafile=None if settings.ca_file is None else str(settings.ca_file))
    except ssl.SSLError as fault:
        raise UnableToReadAuthorityError(
            f"mqtt.ca_file: expected certificates (PEM) in {settings.ca_file}"
        ) from fault
    context.sslsocket_class = _Socket
    client.tls_set_context(context)
