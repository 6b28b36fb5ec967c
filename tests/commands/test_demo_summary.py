"""What a demo's books begin with, and what its screen tells of them."""

import io
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import sqlalchemy as sa
import yaml
from rich.console import Console

from config.settings import Settings, load
from dormpower.books import counters, migration, tables
from dormpower.books.database import Books, open_books
from dormpower.books.sites import sync_site
from dormpower.clock import ManualClock
from dormpower.commands.demo_books import fill_demo_books
from dormpower.commands.demo_summary import LiveSummary
from dormpower.domain.holds import SupplyState
from simulators import demo_files

NOW = datetime(2026, 3, 1, 4, tzinfo=UTC)
ROOMS = 60


@pytest.fixture(scope="module")
def answering() -> Iterator[int]:
    """A port where /healthz answers, as the API's does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def made(folder: Path, *, seed: int = 1) -> tuple[Settings, Books]:
    folder.mkdir()
    assert demo_files.main(["--data", str(folder), "--rooms", str(ROOMS)]) == 0
    settings = load(folder / "dormpower.yaml")
    books = open_books(settings.database, base=folder)
    migration.upgrade(books)
    sync_site(books=books, site=settings.site, now=NOW, today=NOW.date())
    fill(books, settings, seed=seed)
    return settings, books


def fill(books: Books, settings: Settings, *, seed: int = 1) -> None:
    fill_demo_books(books, settings, now=NOW, real_now=NOW, seed=seed, console=Console(file=io.StringIO()))


def balances(books: Books) -> dict[str, int]:
    with books.read() as connection:
        rows = connection.execute(
            sa.select(tables.ledger_accounts).where(
                tables.ledger_accounts.c.ledger_account_id.like("wh:account:%")
            )
        ).all()
    return {row.ledger_account_id: row.balance for row in rows}


def test_a_campus_begins_with_some_circuits_dark_some_near_it_and_most_with_energy_for_days(tmp_path):
    settings, books = made(tmp_path / "campus")
    found = balances(books)
    policy = settings.policies.arrears.base
    dark = [balance for balance in found.values() if balance <= 0]
    near = [balance for balance in found.values() if 0 < balance <= policy.critical_wh]
    assert len(dark) == ROOMS * 5 // 100
    assert 0 < len(near) < len(found) // 4
    assert sum(balance > policy.low_wh for balance in found.values()) > len(found) // 2
    with books.read() as connection:
        held = connection.execute(sa.select(tables.holds.c.circuit_id, tables.holds.c.reason)).all()
    assert {row.reason for row in held} == {"arrears"}
    assert {f"wh:account:acc-{row.circuit_id}" for row in held} == {
        account for account, balance in found.items() if balance <= 0
    }
    fill(books, settings)  # started again
    assert balances(books) == found
    books.close()


def test_the_same_seed_gives_the_same_books_and_another_one_others(tmp_path):
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        _, books = made(tmp_path / name, seed=seed)
        found.append(balances(books))
        books.close()
    assert found[0] == found[1]
    assert found[0] != found[2]


def screen(tmp_path: Path, port: int, *, terminal: bool) -> tuple[str, str]:
    """What stands on the screen when the demo has come up, and after a minute of readings."""
    settings, books = made(tmp_path / "campus")
    path = tmp_path / "campus" / "dormpower.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["api"]["port"] = port
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    output = io.StringIO()
    clock = ManualClock(NOW)
    summary = LiveSummary(
        settings=load(path),
        books=books,
        clock=clock,
        console=Console(file=output, force_terminal=terminal, width=120, color_system=None),
        begun_s=clock.monotonic() - 4.2,
    )
    with summary:
        summary.look()
        ready = output.getvalue()
        for taken in (0.0, 1200.0):
            with books.write() as connection:
                if taken:
                    room = sa.select(tables.circuits.c.circuit_id).where(
                        tables.circuits.c.room_id == "north-01-101"
                    )
                    connection.execute(
                        sa.update(tables.control_points)
                        .where(tables.control_points.c.circuit_id == room.limit(1).scalar_subquery())
                        .values(state=SupplyState.LOCKED_OUT.value)
                    )
                counters.write(
                    connection,
                    process=settings.gateway.gateway_id,
                    values={"intake_accepted": taken},
                    real_now=clock.real_now(),
                )
            clock.advance(60)
            summary.look()
    books.close()
    return ready, output.getvalue()


def test_the_screen_tells_how_to_come_in_and_then_what_happens(tmp_path, answering):
    ready, later = screen(tmp_path, answering, terminal=False)
    for words in (f"http://127.0.0.1:{answering}", "student, finance, maintenance or admin", "dormpower-demo"):
        assert words in ready
    assert "ready after       │ 4.2 s" in ready
    first, second = [line for line in later.splitlines() if "readings/s" in line][-2:]
    assert first.startswith("Sun 2026-03-01 12:01  60 rooms  0 readings/s  ")
    assert second.startswith("Sun 2026-03-01 12:02  60 rooms  20 readings/s  locked_out 1  ")
    figures = dict(zip(second.split()[7::2], map(int, second.split()[8::2]), strict=True))
    assert sum(figures.values()) == ROOMS, "each room counts once, by what most needs a look"


def test_on_a_terminal_one_line_is_kept_up_to_date(tmp_path, answering):
    _, later = screen(tmp_path, answering, terminal=True)
    kept = later.rpartition("\x1b[2K")[2]  # what stands after the last time that the line was cleared
    assert "Sun 2026-03-01 12:02  60 rooms  20 readings/s" in kept
    assert kept.count("readings/s") == 1
