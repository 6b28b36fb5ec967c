"""Residents of the demo who pay: a circuit that has been dark for some campus hours is recharged over HTTP.

They use the API like any other machine, with a token of the demo's finance user, so that rooms come back the
way they do in life. The room of the demo's student is left to whoever looks at the demo.
"""

import json
import random
import urllib.error
import urllib.request
from contextlib import suppress
from datetime import datetime, timedelta
from http import HTTPStatus

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from dormpower.books.database import Books
from dormpower.books.tables import circuits, holds, residencies, transactions
from dormpower.books.users import (
    IssuedToken,
    UnableToFindTokenError,
    find_user,
    issue_token,
    revoke_token,
)
from dormpower.clock import Clock
from dormpower.domain.holds import Reason

_log = structlog.get_logger()

_SHORTEST_WAIT_H = 18
_LONGEST_WAIT_H = 60
_AT_ONCE = 3
_TOKEN_DAYS = 1
_AMOUNTS_FEN = (500, 1000, 2000, 3000)


class Payers:
    """Recharges what has been dark for long enough; `step` is called about once a second."""

    def __init__(self, *, books: Books, clock: Clock, address: str) -> None:
        self._books = books
        self._clock = clock
        self._address = address
        self._token: IssuedToken | None = None
        self._failed = False

    def step(self) -> None:
        """Pay for at most a few circuits; a failure is logged once and tried again at the next step."""
        for key, circuit_id in self._due():
            try:
                self._pay(key, circuit_id)
            except OSError as fault:
                if isinstance(fault, urllib.error.HTTPError) and fault.code == HTTPStatus.UNAUTHORIZED:
                    self._token = None  # it has run out, or somebody revoked it: the next step gets another
                if not self._failed:
                    _log.warning("demo.payment_failed", fault=str(fault))
                self._failed = True
                return
            self._failed = False

    def close(self) -> None:
        """Make the token worthless: nobody pays any more."""
        if self._token is None:
            return
        with self._books.write() as connection, suppress(UnableToFindTokenError):  # revoked by somebody
            revoke_token(connection, token_id=self._token.token_id, now=self._clock.real_now())
        self._token = None

    def _secret(self) -> str:
        if self._token is None:
            with self._books.write() as connection:
                finance = find_user(connection, username="finance")
                self._token = issue_token(
                    connection, user_id=finance.user_id, days=_TOKEN_DAYS, now=self._clock.real_now()
                )
        return self._token.secret

    def _due(self) -> list[tuple[str, str]]:
        """Return payments to make, as key and circuit; a cut has one key until that payment is in the books.

        Who still owes after a payment makes another. Who does not waits for the gateway, in nobody's way.
        """
        now = self._clock.now()
        students = sa.select(residencies.c.room_id)
        query = (
            sa.select(holds.c.hold_id, holds.c.circuit_id, holds.c.placed_at)
            .join(circuits, circuits.c.circuit_id == holds.c.circuit_id)
            .where(
                holds.c.reason == Reason.ARREARS.value,
                holds.c.released_at.is_(None),
                holds.c.shadow.is_(False),
                holds.c.placed_at < now - timedelta(hours=_SHORTEST_WAIT_H),
                circuits.c.room_id.not_in(students),
            )
            .order_by(holds.c.placed_at)
        )
        due: list[tuple[str, str]] = []
        with self._books.read() as connection:
            for row in connection.execute(query).all():
                if len(due) == _AT_ONCE:
                    break
                if row.placed_at + timedelta(hours=_patience_h(row.hold_id)) > now:
                    continue
                paid = _balances_paid_to(connection, row.circuit_id, since=row.placed_at)
                if not paid or paid[-1] <= 0:
                    due.append((f"demo-{row.hold_id}-{len(paid)}", row.circuit_id))
        return due

    def _pay(self, key: str, circuit_id: str) -> None:
        draw = random.Random(key)  # noqa: S311 - a simulation, not a secret
        body = {"amount_fen": draw.choice(_AMOUNTS_FEN), "channel": "campus_card", "note": "demo"}
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self._address}/api/v1/circuits/{circuit_id}/recharges",
            data=json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._secret()}",
                "Content-Type": "application/json",
                "Idempotency-Key": key,  # one payment, however often it has to be tried
            },
        )
        with urllib.request.urlopen(request, timeout=2):  # noqa: S310 - loopback
            pass


def _balances_paid_to(connection: Connection, circuit_id: str, *, since: datetime) -> list[int]:
    """Return the balance in Wh after each recharge of a circuit since an instant, in order."""
    query = (
        sa.select(transactions.c.balance_after_wh)
        .where(
            transactions.c.circuit_id == circuit_id,
            transactions.c.kind == "recharge",
            transactions.c.posted_at >= since,
        )
        .order_by(transactions.c.sequence)
    )
    return list(connection.execute(query).scalars())


def _patience_h(hold_id: str) -> float:
    """Return how many campus hours a resident lets pass: the same for the same cut."""
    return random.Random(f"{hold_id}/patience").uniform(_SHORTEST_WAIT_H, _LONGEST_WAIT_H)  # noqa: S311
