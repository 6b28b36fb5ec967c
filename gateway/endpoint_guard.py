"""Who owns an endpoint: what the command line may touch by hand (invariant 18: a line has one master).

Where a site file owns the endpoint and its gateway is running, the hand is refused. Closing a circuit that has
a hold is refused even with the gateway stopped; `--force --reason` overrides any hold but a lock-out, and is
audited before anything is sent.
"""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from config.settings import CONFIG_VARIABLE, Settings, load, resolve_path
from dormpower.books import audit_log, holds
from dormpower.books.database import Books
from dormpower.books.tables import leases
from dormpower.clock import load_clock, real_clock
from dormpower.commands.opening import operator, site_books
from dormpower.domain.holds import Hold, Reason
from dormpower.domain.samples import Relay
from dormpower.domain.site import Line, Transport
from dormpower.wake import WAKE_SOCKET


class UnableToUseEndpointError(Exception):
    """The endpoint is not the command line's to use now; the message says whose it is and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ByHand:
    """What a person is about to do. `relay` is None for reading."""

    line: Line
    config: Path | None
    unit: int | None = None
    channel: int | None = None
    relay: Relay | None = None
    force: bool = False
    reason: str = ""


EndpointGuard = Callable[[ByHand], None]
"""Returns when the hand may go on; raises UnableToUseEndpointError."""


def guard_endpoint(by_hand: ByHand) -> None:
    """Refuse what the site file and its books forbid. Raises UnableToUseEndpointError."""
    settings = site_of(by_hand.config)
    if settings is None:
        return
    owner = next((line for line in settings.site.lines if same_endpoint(line, by_hand.line)), None)
    if owner is None:
        return
    where = f"{by_hand.line.endpoint} is line {owner.line_id} of {settings.path.name}"
    if _answers_wake(settings.folder):
        raise UnableToUseEndpointError(
            f"{where} and its gateway is running: a line has one master; stop the gateway first"
        )
    with site_books(settings) as books:
        holder = _lease_holder(books)
        if holder is not None:
            raise UnableToUseEndpointError(
                f"{where} and its gateway is running ({holder}): a line has one master; stop the gateway first"
            )
        if by_hand.relay is not None:
            _guard_switching(settings, books, owner, by_hand)


def same_endpoint(first: Line, second: Line) -> bool:
    """Return whether two lines are the same bus, by address or by device, however it is spelled."""
    if first.transport is not second.transport:
        return False
    if first.transport is Transport.SERIAL:
        return Path(str(first.device)).resolve() == Path(str(second.device)).resolve()
    return first.port == second.port and bool(_addresses(first) & _addresses(second))


def _addresses(line: Line) -> frozenset[str]:
    try:
        found = socket.getaddrinfo(line.host, line.port, type=socket.SOCK_STREAM)
    except OSError:
        return frozenset({str(line.host)})
    return frozenset(str(entry[4][0]) for entry in found)


def site_of(config: Path | None) -> Settings | None:
    """Load the site file if one was named or lies here; these commands work without one."""
    path = resolve_path(config)
    named = config is not None or os.environ.get(CONFIG_VARIABLE)
    if not named and not path.exists():
        return None
    return load(path)


def _answers_wake(folder: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            sender.connect(str(folder / WAKE_SOCKET))
        except OSError:
            return False
    return True


def _lease_holder(books: Books) -> str | None:
    with books.read() as connection:
        holder: str | None = connection.scalar(
            sa.select(leases.c.holder).where(leases.c.until_at > real_clock().real_now()).limit(1)
        )
    return holder


def _guard_switching(settings: Settings, books: Books, owner: Line, by_hand: ByHand) -> None:
    circuit_id = _circuit_at(settings, owner, by_hand)
    if circuit_id is None:
        return
    with books.write() as connection:
        standing = [
            hold for hold in holds.standing(connection, [circuit_id]).get(circuit_id, ()) if not hold.shadow
        ]
        if by_hand.relay is Relay.CLOSED and standing:
            _judge_holds(circuit_id, standing, by_hand)
        audit_log.write(
            connection,
            actor=operator(),
            action="relay.forced_by_hand" if by_hand.force else "relay.commanded_by_hand",
            subject_kind="circuit",
            subject_id=circuit_id,
            detail={
                "relay": by_hand.relay,
                "line": owner.line_id,
                "unit": by_hand.unit,
                "channel": by_hand.channel,
                "reason": by_hand.reason,
                "holds": [hold.hold_id for hold in standing],
            },
            now=load_clock(settings.folder).now(),
        )


def _judge_holds(circuit_id: str, standing: list[Hold], by_hand: ByHand) -> None:
    reasons = ", ".join(sorted({hold.reason.value for hold in standing}))
    locked = next((hold for hold in standing if hold.reason is Reason.LOCKOUT), None)
    if locked is not None:
        raise UnableToUseEndpointError(
            f"{circuit_id} is locked out by {locked.holder}: it is not closed by force; have the holder lift it"
        )
    if not by_hand.force:
        raise UnableToUseEndpointError(
            f"{circuit_id} must stay open ({reasons}): release the hold, or use --force --reason TEXT"
        )


def _circuit_at(settings: Settings, owner: Line, by_hand: ByHand) -> str | None:
    modules = {
        module.module_id
        for module in settings.site.modules
        if module.line_id == owner.line_id and module.unit == by_hand.unit
    }
    for circuit in settings.site.circuits():
        if circuit.module_id in modules and circuit.channel == by_hand.channel:
            return circuit.circuit_id
    return None
