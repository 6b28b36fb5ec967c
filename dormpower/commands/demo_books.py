"""What a demo campus's books hold on its first day: people, recharges of the weeks before, rooms in arrears.

A few rooms start in arrears, as if they had been warned and cut on the day before; some are near it; the rest
has energy for days. The same seed gives the same books.
"""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from rich.console import Console
from rich.progress import track
from sqlalchemy.engine import Connection

from config.settings import Settings
from dormpower.books import control, holds, journal
from dormpower.books.database import Books
from dormpower.books.ids import new_id
from dormpower.books.passwords import hash_password
from dormpower.books.residencies import begin_residency
from dormpower.books.tables import transactions
from dormpower.books.users import Role, add_user, demo_usernames
from dormpower.domain import arrears
from dormpower.domain.arrears import Warnings
from dormpower.domain.holds import Reason
from dormpower.domain.site import Circuit, CircuitKind
from dormpower.domain.tariff import Price, price_at

PASSWORD = "dormpower-demo"  # noqa: S105 - public, and refused by `dormpower serve`

ARREARS_SHARE = 0.05
NEAR_SHARE = 0.10
LOW_SHARE = 0.15

_CHANNELS = ("cash", "card", "transfer", "campus_card")
_CHUNK = 200
_FIRST_WARNING_BEFORE = timedelta(hours=40)
_SECOND_WARNING_BEFORE = timedelta(hours=28)
_CUT_BEFORE = timedelta(hours=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recharge:
    circuit: Circuit
    amount_fen: int
    channel: str
    at: datetime


def fill_demo_books(
    books: Books, settings: Settings, *, now: datetime, real_now: datetime, seed: int, console: Console
) -> None:
    """Fill empty books; books that hold the demo's users are left as they are."""
    with books.read() as connection:
        if demo_usernames(connection):
            return
    draw = random.Random(f"{seed}/books")  # noqa: S311 - a simulation, not a secret
    circuits = list(settings.site.circuits())
    dark = _rooms_in_arrears(circuits, draw)
    recharges = sorted(_recharges(circuits, dark, now, draw), key=lambda one: (one.at, one.circuit.circuit_id))
    with books.read() as connection:
        posted = connection.scalar(sa.select(sa.func.count()).select_from(transactions)) or 0
    chunks = [recharges[start : start + _CHUNK] for start in range(posted, len(recharges), _CHUNK)]
    for chunk in track(chunks, description="recharges of the weeks before", console=console, transient=True):
        with books.write() as connection:
            for recharge in chunk:
                _post(connection, settings, recharge, number=posted)
                posted += 1
    with books.write() as connection:
        for circuit in dark:
            _cut_before(connection, circuit.circuit_id, now)
        _add_people(connection, dark[0].room_id, now=now, real_now=real_now)


def _rooms_in_arrears(circuits: list[Circuit], draw: random.Random) -> list[Circuit]:
    """Choose circuits without any energy, at most one a room; the first is in the student's room."""
    cooling = [circuit for circuit in circuits if circuit.kind is CircuitKind.AC]
    chosen = draw.sample(cooling, max(1, round(len(cooling) * ARREARS_SHARE)))
    return sorted(chosen, key=lambda circuit: circuit.circuit_id)


def _recharges(
    circuits: list[Circuit], dark: list[Circuit], now: datetime, draw: random.Random
) -> list[_Recharge]:
    without = {circuit.circuit_id for circuit in dark}
    made = []
    for circuit in circuits:
        if circuit.circuit_id in without:
            continue
        fate = draw.random()
        if fate < NEAR_SHARE:
            amounts_fen = [draw.randrange(20, 120)]
        elif fate < NEAR_SHARE + LOW_SHARE:
            amounts_fen = [draw.randrange(200, 1000)]
        else:
            amounts_fen = [draw.choice((1000, 2000, 3000, 5000)) for _ in range(draw.randint(1, 3))]
        for index, amount_fen in enumerate(amounts_fen):
            days = 9 * (len(amounts_fen) - index) + draw.randrange(8)
            at = now - timedelta(days=days, seconds=draw.randrange(36_000))
            made.append(
                _Recharge(circuit=circuit, amount_fen=amount_fen, channel=draw.choice(_CHANNELS), at=at)
            )
    return made


def _post(connection: Connection, settings: Settings, recharge: _Recharge, *, number: int) -> None:
    on = recharge.at.astimezone(settings.zone).date()
    prices = [
        Price(from_on=row.from_on, kind=row.kind, price_millifen_per_kwh=row.price_millifen_per_kwh)
        for row in settings.policies.prices
    ]
    journal.post_recharge(
        connection,
        circuit_id=recharge.circuit.circuit_id,
        amount_fen=recharge.amount_fen,
        channel=recharge.channel,
        price=price_at(prices, kind=recharge.circuit.kind, on=on),
        source="demo",
        idempotency_key=f"demo-{number}",
        transaction_id=new_id("txn", recharge.at),
        actor="finance",
        note=None,
        now=recharge.at,
    )


def _cut_before(connection: Connection, circuit_id: str, now: datetime) -> None:
    """Leave behind what a cut on the day before would have left: two warnings and the hold."""
    first_at, second_at, cut_at = (
        now - before for before in (_FIRST_WARNING_BEFORE, _SECOND_WARNING_BEFORE, _CUT_BEFORE)
    )
    evidence = {
        "available_wh": 0,
        "floor_wh": 0,
        "first_warning_at": first_at.isoformat(),
        "second_warning_at": second_at.isoformat(),
        "sampled_at": cut_at.isoformat(),
        "demo": "placed when the demo's books were made",
    }
    control.save_warnings(
        connection,
        circuit_id=circuit_id,
        warnings=Warnings(first_at=first_at, second_at=second_at),
        now=second_at,
    )
    holds.place(
        connection,
        circuit_id=circuit_id,
        reason=Reason.ARREARS,
        placed_by=arrears.RULE,
        evidence=evidence,
        now=cut_at,
    )


def _add_people(connection: Connection, room_id: str, *, now: datetime, real_now: datetime) -> None:
    secret = hash_password(PASSWORD)
    for role in Role:
        user_id = add_user(
            connection, username=role.value, role=role, password_hash=secret, now=real_now, demo=True
        )
        if role is Role.STUDENT:
            begin_residency(connection, user_id=user_id, room_id=room_id, from_at=now - timedelta(days=90))
