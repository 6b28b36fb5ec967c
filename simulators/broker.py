"""The embedded broker: amqtt with credentials for everybody and an access list; nobody is anonymous.

`python -m simulators.broker --credentials FILE --site ID --port N` runs it alone. A module's client id has to
be its user name, so that no module can take over another's session, and its last will its own status.
"""

import argparse
import asyncio
import contextlib
import hmac
import logging
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import Action, BaseContext
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin
from amqtt.session import Session

from simulators.access import (
    GATEWAY_USER,
    UnableToReadCredentialsError,
    load_credentials,
    may_publish,
    may_subscribe,
    topic,
)


class CredentialsPlugin(BaseAuthPlugin):  # type: ignore[misc]  # amqtt is not typed for us
    """Lets in who knows a password, under the client id that belongs to it."""

    @dataclass
    class Config:
        """Who may come in."""

        site_id: str = ""
        gateway_user: str = GATEWAY_USER
        credentials: dict[str, str] = field(default_factory=dict)

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        self._rules: CredentialsPlugin.Config = self.config

    async def authenticate(self, *, session: Session) -> bool | None:
        """Return whether a connection may stay."""
        rules = self._rules
        expected = rules.credentials.get(session.username or "")
        given = session.password or ""
        if expected is None or not hmac.compare_digest(expected.encode(), str(given).encode()):
            return False
        if session.username == rules.gateway_user:
            return session.client_id not in rules.credentials or session.client_id == rules.gateway_user
        own_status = topic(rules.site_id, session.username, "status")
        if session.will_flag and session.will_topic != own_status:
            return False
        return bool(session.client_id == session.username)


class AccessPlugin(BaseTopicPlugin):  # type: ignore[misc]  # amqtt is not typed for us
    """Gives a module its own topics, the gateway all of the site's, and nobody anything else."""

    @dataclass
    class Config:
        """Whose topics."""

        site_id: str = ""
        gateway_user: str = GATEWAY_USER

    def __init__(self, context: BaseContext) -> None:
        super().__init__(context)
        self._rules: AccessPlugin.Config = self.config

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: Action | None = None
    ) -> bool | None:
        """Return whether a session may publish to, subscribe to or be sent a topic."""
        if session is None or not session.username or topic is None:
            return False
        allowed = may_publish if action == Action.PUBLISH else may_subscribe
        return allowed(
            site_id=self._rules.site_id, user=session.username, gateway_user=self._rules.gateway_user, to=topic
        )


class _Filters(dict[str, Any]):
    """Topic filters that may change while somebody walks them; who walks sees them as they were at first."""

    def __iter__(self) -> Iterator[str]:
        return iter(list(super().__iter__()))

    def items(self) -> Any:
        """Return what is there now."""
        return list(super().items())


class _TidyBroker(Broker):  # type: ignore[misc]  # amqtt is not typed for us
    """amqtt's broker without two of its faults (0.12).

    It leaves connections open when it shuts down; this one can drop them. And it walks its subscriptions with
    waits in between, so that a subscription that came or went meanwhile cost the message that was handed out.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._open: set[asyncio.StreamWriter] = set()
        self._subscriptions = _Filters()

    async def stream_connected(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, listener_name: str
    ) -> None:
        """Serve a connection, and close it in the end."""
        self._open.add(writer)
        try:
            await super().stream_connected(reader, writer, listener_name)
        finally:
            self._open.discard(writer)
            writer.close()

    def drop_connections(self) -> None:
        """Close whatever is still open."""
        for writer in list(self._open):
            writer.transport.abort()


class EmbeddedBroker:
    """A broker that can be stopped and started again on its port."""

    def __init__(
        self,
        *,
        site_id: str,
        credentials: Mapping[str, str],
        gateway_user: str = GATEWAY_USER,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.host = host
        self.port = port
        self._site_id = site_id
        self._gateway_user = gateway_user
        self._credentials = dict(credentials)
        self._broker: _TidyBroker | None = None

    @property
    def running(self) -> bool:
        """Whether it listens."""
        return self._broker is not None

    async def start(self) -> int:
        """Listen; returns the port. Raises BrokerError of amqtt where it can't."""
        if self._broker is not None:
            return self.port
        if self.port == 0:
            with socket.socket() as probe:
                probe.bind((self.host, 0))
                self.port = probe.getsockname()[1]
        logging.getLogger("amqtt").setLevel(logging.ERROR)
        logging.getLogger("transitions").setLevel(logging.ERROR)
        rules = {"site_id": self._site_id, "gateway_user": self._gateway_user}
        config = {
            "listeners": {"default": {"type": "tcp", "bind": f"{self.host}:{self.port}"}},
            "plugins": {
                "simulators.broker.CredentialsPlugin": {**rules, "credentials": self._credentials},
                "simulators.broker.AccessPlugin": rules,
            },
        }
        broker = _TidyBroker(config)
        await broker.start()
        self._broker = broker
        return self.port

    async def stop(self) -> None:
        """Stop listening and drop all connections; sessions and retained messages are lost."""
        broker, self._broker = self._broker, None
        if broker is not None:
            broker.drop_connections()
            await broker.shutdown()


async def _run(arguments: argparse.Namespace) -> int:
    try:
        credentials = load_credentials(arguments.credentials)
    except UnableToReadCredentialsError as fault:
        sys.stderr.write(f"{fault}\n")
        return 1
    broker = EmbeddedBroker(
        site_id=arguments.site,
        credentials=credentials,
        gateway_user=arguments.gateway_user,
        host=arguments.host,
        port=arguments.port,
    )
    port = await broker.start()
    sys.stdout.write(f"broker at mqtt://{arguments.host}:{port}\n")
    sys.stdout.flush()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()
    await broker.stop()
    return 0


def main() -> int:
    """Run the broker until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m simulators.broker", description=__doc__.splitlines()[0])
    parser.add_argument("--credentials", type=Path, required=True, help="JSON file: user name → password")
    parser.add_argument("--site", required=True, help="the site's id, the second part of topics")
    parser.add_argument("--gateway-user", default=GATEWAY_USER)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    with contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(_run(parser.parse_args()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
