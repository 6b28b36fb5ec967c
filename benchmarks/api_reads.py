"""`python -m benchmarks.api_reads`: what residents ask most, with 10,000 rooms and a year of days in the books.

`GET /rooms/{id}` and `GET /circuits/{id}/usage/daily` of a year are asked by `wrk` with random rooms and a
bearer token, against the API as a process of its own; beside them, in the same rounds, a trivial FastAPI
endpoint under the same uvicorn options, which answers a constant and touches no database. The books are filled
by SQL, not by a year of polling: a settled day and a segment a circuit and day.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
from rich.console import Console

from benchmarks.campus import days_before, lines_needed, make_books, make_token, room_name, write_site
from benchmarks.peers import PeerError, free_port, running
from benchmarks.report import Report, median, parser
from config.settings import Settings
from dormpower.books.database import Books
from dormpower.books.types import to_ms
from dormpower.books.users import Role

DAY_WH = 3_000
_READY_S = 60.0
TRIVIAL = "benchmarks.trivial_api"


def main(arguments: list[str] | None = None) -> int:
    """Measure and publish; exit code 1 where an answer failed."""
    options = parser("api_reads", __doc__)
    options.add_argument("--rooms", type=int, default=10_000)
    options.add_argument("--days", type=int, default=365)
    options.add_argument("--seconds", type=int, default=8, help="of each measurement")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--connections", type=int, default=16)
    wanted = options.parse_args(arguments)
    if wanted.quick:
        wanted.rooms, wanted.days, wanted.seconds, wanted.rounds = 100, 30, 1, 1
    if shutil.which("wrk") is None:
        sys.stderr.write("wrk is not on this machine; install Debian's package wrk\n")
        return 1
    report = Report(
        name="api_reads",
        assumptions={
            "rooms": wanted.rooms,
            "days": wanted.days,
            "connections": wanted.connections,
            "rounds": f"{wanted.rounds} × {wanted.seconds} s, alternating",
            "API": "one process, uvicorn with uvloop and httptools",
        },
    )
    with tempfile.TemporaryDirectory(prefix="dormpower-benchmark-") as folder:
        measure(report, Path(folder), wanted)
    report.publish(wanted.results)
    return report.exit_code(quick=wanted.quick)


def measure(report: Report, folder: Path, wanted: object) -> None:
    """Fill the books, start the two servers, and let wrk ask them in turns."""
    rooms, days = int(wanted.rooms), int(wanted.days)  # type: ignore[attr-defined]
    console = Console(stderr=True)
    port = free_port()
    with console.status(f"books of {rooms} rooms"):
        settings = write_site(folder, rooms=rooms, ports=_ports(rooms), poll_s=30, api_port=port)
        books = make_books(settings)
        token = make_token(books, role=Role.MAINTENANCE)
    with console.status(f"{days} days of {2 * rooms} circuits"):
        started = time.perf_counter()
        fill_days(books, settings, days=days)
        report.figures["filled_s"] = time.perf_counter() - started
    size = (folder / "books.db").stat().st_size
    books.close()
    report.figures["books_bytes"] = size
    report.row("books", f"{size / 1e6:,.0f} MB", f"{2 * rooms * days:,} days of circuits")
    today = datetime.now(settings.zone).date()
    paths = {
        "room": "/api/v1/rooms/%s",
        "usage": f"/api/v1/circuits/%s-ac/usage/daily?from={today - timedelta(days=days - 1)}&to={today}",
    }
    with ExitStack() as stack:
        ours = stack.enter_context(_api(settings, port))
        trivial = stack.enter_context(_trivial())
        asked = {
            "trivial": (f"{trivial}/", []),
            "room": (ours, _script(folder, "room", paths["room"], rooms, token)),
            "usage": (ours, _script(folder, "usage", paths["usage"], rooms, token)),
        }
        found: dict[str, list[dict[str, float]]] = {name: [] for name in asked}
        with console.status("wrk") as status:
            for number in range(wanted.rounds):  # type: ignore[attr-defined]
                for name, (address, script) in asked.items():
                    status.update(f"wrk: {name}, round {number + 1}")
                    found[name].append(
                        _wrk(address, script, wanted.seconds, wanted.connections)  # type: ignore[attr-defined]
                    )
    _tell(report, found)


def _tell(report: Report, found: dict[str, list[dict[str, float]]]) -> None:
    middle = {
        name: {key: median([one[key] for one in rounds]) for key in ("requests_s", "p50_ms", "p99_ms")}
        for name, rounds in found.items()
    }
    titles = {
        "trivial": "trivial FastAPI endpoint",
        "room": "GET /rooms/{id}",
        "usage": "GET …/usage/daily, the whole period",
    }
    for name, figures in middle.items():
        share = figures["requests_s"] / middle["trivial"]["requests_s"]
        report.row(
            titles[name],
            f"{figures['requests_s']:,.0f} requests/s",
            f"p50 {figures['p50_ms']:.1f} ms, p99 {figures['p99_ms']:.1f} ms, {share:.2f} of the trivial one",
        )
        report.figures[name] = figures | {"share_of_trivial": share}
    report.figures["rounds"] = found
    report.check("every answer was 200", all(one["failed"] == 0 for rounds in found.values() for one in rounds))


def fill_days(books: Books, settings: Settings, *, days: int) -> None:
    """Give each circuit a year of settled days as intake and settlement would have left them behind."""
    today = datetime.now(settings.zone).date()
    with books.write() as connection:
        spans = connection.execute(
            sa.text("SELECT circuit_id, span_id FROM channel_spans WHERE to_at IS NULL ORDER BY circuit_id")
        ).all()
        connection.exec_driver_sql("DROP TABLE IF EXISTS temp.bench_day")
        connection.exec_driver_sql(
            "CREATE TEMP TABLE bench_day (n INTEGER PRIMARY KEY, used_on TEXT, from_ms INTEGER, to_ms INTEGER)"
        )
        connection.exec_driver_sql(
            "INSERT INTO bench_day VALUES (?, ?, ?, ?)", list(_days(settings, today, days))
        )
        connection.exec_driver_sql(
            "INSERT INTO segments (circuit_id, span_id, used_on, from_at, to_at, from_register_wh,"
            " to_register_wh, energy_wh, cause, estimated)"
            f" SELECT s.circuit_id, s.span_id, d.used_on, d.from_ms, d.to_ms, d.n * {DAY_WH},"
            f" (d.n + 1) * {DAY_WH}, {DAY_WH}, 'measured', 0"
            " FROM channel_spans s, bench_day d WHERE s.to_at IS NULL"
        )
        connection.exec_driver_sql(
            "INSERT INTO settled_days"
            " (circuit_id, used_on, account_id, energy_wh, postings, estimated, settled_at)"
            f" SELECT l.circuit_id, d.used_on, l.account_id, {DAY_WH}, 1, 0, d.to_ms"
            " FROM account_links l, bench_day d WHERE l.to_on IS NULL"
        )
        end_ms = max(day[3] for day in _days(settings, today, days))
        connection.exec_driver_sql(
            f"UPDATE meter_points SET metered_wh = {days * DAY_WH}, settled_wh = {days * DAY_WH},"
            f" register_wh = {days * DAY_WH}, register_at = {end_ms}, segment_from_wh = {days * DAY_WH},"
            f" segment_from_at = {end_ms}, standing = 'accepted', relay = 'closed', power_w = 120.5,"
            f" last_seen_at = {end_ms}"
        )
    if not spans:
        raise PeerError("the campus has no channel spans")


def _days(settings: Settings, today: date, count: int) -> Iterator[tuple[int, str, int, int]]:
    for number, on in enumerate(days_before(today, count)):
        start = datetime(on.year, on.month, on.day, tzinfo=settings.zone).astimezone(UTC)
        yield number, on.isoformat(), to_ms(start), to_ms(start + timedelta(days=1))


def _ports(rooms: int) -> list[int]:
    # Nothing polls here: the lines only have to be described.
    return list(range(20_000, 20_000 + lines_needed(rooms)))


@contextmanager
def _api(settings: Settings, port: int) -> Iterator[str]:
    with running([sys.executable, "-m", "api", "--config", str(settings.path)]):
        yield _ready(f"http://127.0.0.1:{port}", "/readyz")


@contextmanager
def _trivial() -> Iterator[str]:
    port = free_port()
    arguments = [sys.executable, "-m", "uvicorn", f"{TRIVIAL}:app", "--port", str(port), "--loop", "uvloop"]
    with running([*arguments, "--http", "httptools", "--no-access-log", "--log-level", "error"]):
        yield _ready(f"http://127.0.0.1:{port}", "/")


def _ready(address: str, path: str) -> str:
    deadline = time.monotonic() + _READY_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(address + path, timeout=1):
                return address
        except OSError:
            time.sleep(0.1)
    raise PeerError(f"{address}{path}: no answer within {_READY_S:g} s")


def _script(folder: Path, name: str, path: str, rooms: int, token: str) -> list[str]:
    """Write wrk's script: random rooms, the token, and a count of answers that are not 200."""
    draw = random.Random(7)
    some = [path % room_name(draw.randrange(rooms)) for _ in range(min(2_000, rooms))]
    listed = ",".join(json.dumps(one) for one in some)
    script = folder / f"{name}.lua"
    script.write_text(
        f"local paths = {{{listed}}}\nlocal n = 0\n"
        f'local headers = {{["Authorization"] = "Bearer {token}"}}\n'
        "function request() n = n % #paths + 1; return wrk.format('GET', paths[n], headers) end\n",
        encoding="utf-8",
    )
    return ["-s", str(script)]


def _wrk(address: str, script: list[str], seconds: int, connections: int) -> dict[str, float]:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", *script, address]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
        env={**os.environ, "LC_ALL": "C"},
    )
    if done.returncode != 0:
        raise PeerError(f"wrk: {done.stderr or done.stdout}")
    failed = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    return {
        "requests_s": float(_found(r"Requests/sec:\s+([\d.]+)", done.stdout)),
        "p50_ms": _milliseconds(_found(r"50%\s+([\d.]+\w+)", done.stdout)),
        "p99_ms": _milliseconds(_found(r"99%\s+([\d.]+\w+)", done.stdout)),
        "failed": float(failed.group(1)) if failed else 0.0,
    }


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    if match is None:
        raise PeerError(f"wrk printed no {pattern}: {text}")
    return match.group(1)


def _milliseconds(text: str) -> float:
    for unit, factor in (("us", 0.001), ("ms", 1.0), ("s", 1000.0)):
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    raise PeerError(f"wrk: expected a time, got {text}")


if __name__ == "__main__":
    sys.exit(main())
