"""Asking an MQTT broker one question: does it let in a client that names itself to nobody?"""

import socket
import ssl
from enum import StrEnum

from config.settings import MqttSettings

_TIMEOUT_S = 3.0
# CONNECT of MQTT 3.1.1 (OASIS standard, 3.1): clean session, no user name, keep-alive 10 s, client id "probe".
_CONNECT = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05probe"
_CONNACK = b"\x20\x02"
_DISCONNECT = b"\xe0\x00"


class BrokerAnswer(StrEnum):
    """What the broker did with a client without credentials."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


def ask_anonymously(mqtt: MqttSettings) -> BrokerAnswer:
    """Connect without credentials and tell what came of it; a closed connection is a refusal."""
    try:
        with socket.create_connection((mqtt.host, mqtt.port), timeout=_TIMEOUT_S) as plain:
            if not mqtt.tls:
                return _ask(plain)
            context = ssl.create_default_context(cafile=mqtt.ca_file)
            with context.wrap_socket(plain, server_hostname=mqtt.host) as encrypted:
                return _ask(encrypted)
    except OSError:
        return BrokerAnswer.UNREACHABLE


def _ask(connection: socket.socket) -> BrokerAnswer:
    try:
        connection.sendall(_CONNECT)
        answer = connection.recv(4)
        if answer[:2] == _CONNACK and answer[3:4] == b"\x00":
            connection.sendall(_DISCONNECT)
            return BrokerAnswer.ACCEPTED
    except OSError:
        return BrokerAnswer.REFUSED
    return BrokerAnswer.REFUSED
