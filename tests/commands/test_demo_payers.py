"""The demo's residents who pay: what was dark for some campus hours, once a cut, with a token that lives."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import sqlalchemy as sa

from config.settings import load
from dormpower.books import holds, tables, users
from dormpower.books.database import Books
from dormpower.books.residencies import begin_residency
from dormpower.books.sites import sync_site
from dormpower.clock import ManualClock
from dormpower.commands.demo_payers import Payers
from dormpower.domain import arrears
from dormpower.domain.holds import Reason

SITE = """
site: {id: s, name: S}
lines: [{id: a, transport: tcp, host: 127.0.0.1, port: 1}]
modules:
  - {id: m1, profile: dormpower-dual, line: a, unit: 1}
  - {id: m2, profile: dormpower-dual, line: a, unit: 2}
  - {id: m3, profile: dormpower-dual, line: a, unit: 3}
rooms:
  - {room_id: r-1, campus: c, building: b, floor: 1, name: 1, lighting_module: m1, lighting_channel: 0,
     ac_module: m1, ac_channel: 1, rated_current_a: 32}
  - {room_id: r-2, campus: c, building: b, floor: 1, name: 2, lighting_module: m2, lighting_channel: 0,
     ac_module: m2, ac_channel: 1, rated_current_a: 32}
  - {room_id: r-3, campus: c, building: b, floor: 1, name: 3, lighting_module: m3, lighting_channel: 0,
     ac_module: m3, ac_channel: 1, rated_current_a: 32}
"""
NOW = datetime(2026, 3, 1, 4, tzinfo=UTC)


@dataclass
class Counter:
    """Stands for the API: takes payments of whoever shows a token that the books know.

    They come into the books where a balance is given that they lead to.
    """

    books: Books
    clock: ManualClock
    paid: list[tuple[str, str]] = field(default_factory=list)  # path, idempotency key
    refused: int = 0
    address: str = ""
    balance_after_wh: int | None = None

    def take(self, path: str, authorization: str, key: str) -> int:
        with self.books.read() as connection:
            user = users.token_user(
                connection, secret=authorization.removeprefix("Bearer "), now=self.clock.real_now()
            )
        if user is None:
            self.refused += 1
            return 401
        assert user.username == "finance"
        self.paid.append((path, key))
        if self.balance_after_wh is not None:
            self._post(path.split("/")[-2], key, self.balance_after_wh)
        return 201

    def _post(self, circuit_id: str, key: str, balance_after_wh: int) -> None:
        with self.books.write() as connection:
            connection.execute(
                sa.insert(tables.transactions).values(
                    transaction_id=key,
                    sequence=len(self.paid),
                    source="api",
                    idempotency_key=key,
                    content_sha256="",
                    kind="recharge",
                    posted_at=self.clock.now(),
                    circuit_id=circuit_id,
                    balance_after_wh=balance_after_wh,
                    actor="finance",
                )
            )


@pytest.fixture
def counter(sqlite_books, tmp_path) -> Iterator[Counter]:
    found = Counter(books=sqlite_books, clock=ManualClock(NOW))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert body["amount_fen"] > 0
            code = found.take(self.path, self.headers["Authorization"], self.headers["Idempotency-Key"])
            self.send_response(code)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    (tmp_path / "dormpower.yaml").write_text(SITE, encoding="utf-8")
    sync_site(books=sqlite_books, site=load(tmp_path / "dormpower.yaml").site, now=NOW, today=NOW.date())
    with sqlite_books.write() as connection:
        users.add_user(connection, username="finance", role=users.Role.FINANCE, password_hash=None, now=NOW)
        student = users.add_user(
            connection, username="student", role=users.Role.STUDENT, password_hash=None, now=NOW
        )
        begin_residency(connection, user_id=student, room_id="r-2", from_at=NOW)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


def cut(books: Books, circuit_id: str, at: datetime) -> None:
    with books.write() as connection:
        holds.place(
            connection,
            circuit_id=circuit_id,
            reason=Reason.ARREARS,
            placed_by=arrears.RULE,
            evidence={},
            now=at,
        )


def payers(counter: Counter) -> Payers:
    return Payers(books=counter.books, clock=counter.clock, address=counter.address)


def test_a_circuit_is_paid_for_after_some_hours_in_the_dark_and_the_student_s_is_left(counter):
    cut(counter.books, "r-1-ac", NOW)
    cut(counter.books, "r-2-ac", NOW)
    residents = payers(counter)
    counter.clock.advance(18 * 3600)
    residents.step()
    assert counter.paid == []
    counter.clock.advance(42 * 3600)  # nobody lets more than sixty hours pass
    residents.step()
    residents.step()  # the cut still stands: the gateway has not seen the payment yet
    (path, key), again = counter.paid
    assert path == "/api/v1/circuits/r-1-ac/recharges"
    assert again == (path, key), "one payment for one cut, however often it is tried"


def test_who_owes_more_than_was_paid_pays_again_and_keeps_nobody_waiting(counter):
    """Three payments are made in a step: three that paid and stay in the dark must not be the only ones."""
    circuits = ["r-1-ac", "r-1-lighting", "r-3-ac", "r-3-lighting"]
    for number, circuit_id in enumerate(circuits):
        cut(counter.books, circuit_id, NOW + timedelta(seconds=number))
    residents = payers(counter)
    counter.clock.advance(61 * 3600)
    counter.balance_after_wh = -5_000
    residents.step()
    first = list(counter.paid)
    assert len(first) == 3
    counter.balance_after_wh = 5_000
    residents.step()
    assert {path for path, _ in counter.paid[3:]} == {path for path, _ in first}
    assert not {key for _, key in counter.paid[3:]} & {key for _, key in first}
    residents.step()
    residents.step()
    assert [path for path, _ in counter.paid[6:]] == ["/api/v1/circuits/r-3-lighting/recharges"]


def test_residents_go_on_paying_when_their_token_has_run_out(counter):
    cut(counter.books, "r-1-ac", NOW)
    residents = payers(counter)
    counter.clock.advance(60 * 3600)
    residents.step()
    assert len(counter.paid) == 1
    cut(counter.books, "r-1-lighting", counter.clock.now())
    counter.clock.advance(60 * 3600)
    residents.step()
    assert counter.refused == 1
    residents.step()
    assert {path for path, _ in counter.paid} == {
        "/api/v1/circuits/r-1-ac/recharges",
        "/api/v1/circuits/r-1-lighting/recharges",
    }
    assert counter.refused == 1


def test_no_token_is_left_when_the_demo_ends(counter):
    cut(counter.books, "r-1-ac", NOW - timedelta(hours=60))
    residents = payers(counter)
    residents.close()
    residents.step()
    residents.close()
    with counter.books.read() as connection:
        issued = connection.execute(sa.select(tables.tokens.c.revoked_at)).scalars().all()
    assert len(issued) == 1
    assert None not in issued
