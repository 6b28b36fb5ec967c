"""`dormpower demo` as a person runs it: ready, signed in, paid for, stopped, killed, each time going on."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import httpx
import pytest
import sqlalchemy as sa

from dormpower.books.database import open_books
from dormpower.books.tables import (
    alarms,
    meter_points,
    quarantines,
    residencies,
    settled_days,
    transactions,
)
from proofs.running_site import ROOT, eventually

pytestmark = pytest.mark.timeout(300)

READY_WITHIN_S = 90  # a condition's deadline on a busy machine, not a promise
PASSWORD = "dormpower-demo"
COMMAND = [sys.executable, "-c", "from dormpower.cli import main; main()"]


class Demo:
    """One demo process and what it prints."""

    def __init__(self, data: Path, number: int, *options: str) -> None:
        self.data = data
        self._output = data.parent / f"demo-{number}.txt"
        self.asked_at_s = time.monotonic()
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*COMMAND, "demo", "--data", str(data), *options],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def address(self) -> str:
        def ready() -> str | None:
            text = self.shown()
            assert self.process.poll() is None, f"the demo has ended: {text[-2000:]}"
            found = re.search(r"ready at (http://\S+?),", text)
            return found[1] if found else None

        return eventually(ready, what="the demo says that it is ready", within_s=READY_WITHIN_S)

    def shown(self) -> str:
        return self._output.read_text(encoding="utf-8", errors="replace")

    def pids(self) -> list[int]:
        """All processes of this demo: those that name its data folder."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    line = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if str(self.data).encode() in line:
                    found.append(int(entry.name))
        return found

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def kill_all(self) -> None:
        """kill -9 of the demo and all that it started."""
        for pid in [self.process.pid, *self.pids()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait(30)
        eventually(lambda: not self.pids(), what="nothing of the demo is left")


@pytest.fixture
def start_demo() -> Iterator[Callable[..., Demo]]:
    # A folder of its own: the sockets in it need a short path.
    folder = Path(tempfile.mkdtemp(prefix="dormpower-demo-"))
    started: list[Demo] = []

    def start(*options: str) -> Demo:
        started.append(Demo(folder / "campus", len(started), *options))
        return started[-1]

    yield start
    for demo in started:
        if demo.process.poll() is None:
            demo.kill_all()
    shutil.rmtree(folder, ignore_errors=True)


def signed_in(address: str, username: str, role: str | None = None) -> httpx.Client:
    client = httpx.Client(base_url=f"{address}/api/v1", timeout=20, trust_env=False)
    answer = client.post("/session", json={"username": username, "password": PASSWORD})
    assert answer.status_code in {200, 201}, answer.text
    client.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
    me = client.get("/me").json()
    assert (me["username"], me["role"]) == (username, role or username)
    return client


def figures(data: Path) -> dict[str, object]:
    """What stands in the books: registers, metered energy, the keys of all transactions, what was doubted."""
    books = open_books("sqlite:///books.db", base=data)
    try:
        with books.read() as connection:
            points = connection.execute(
                sa.select(meter_points.c.circuit_id, meter_points.c.register_wh, meter_points.c.metered_wh)
            ).all()
            posted = set(connection.scalars(sa.select(transactions.c.transaction_id)))
            doubted = connection.scalars(sa.select(quarantines.c.circuit_id)).all()
            told = connection.scalars(
                sa.select(alarms.c.subject_id).where(alarms.c.kind == "register_quarantined")
            ).all()
    finally:
        books.close()
    return {
        "points": {row.circuit_id: (row.register_wh, row.metered_wh) for row in points},
        "posted": posted,
        "doubted": [*doubted, *told],
    }


def goes_on(before: dict[str, object], demo: Demo) -> None:
    """Wait until every circuit has been read anew; no register fell, nothing is gone or doubted."""
    since = time.time()

    def moved() -> bool:
        now = figures(demo.data)
        assert now["doubted"] == [], f"{time.time() - since:.0f} s after the start"
        steps = [
            (now["points"][circuit_id][0] - register_wh, now["points"][circuit_id][1] - metered_wh)
            for circuit_id, (register_wh, metered_wh) in before["points"].items()
        ]
        assert all(register >= 0 and metered == register for register, metered in steps), steps
        assert before["posted"] <= now["posted"]
        return sum(register > 0 for register, _ in steps) > len(steps) // 3

    eventually(moved, what="the campus goes on", within_s=60, every_s=0.5)


def dormpower(demo: Demo, *arguments: str, stdin: str = "") -> str:
    """Run another command on the demo's folder; returns what it prints."""
    done = subprocess.run(
        [*COMMAND, *arguments, "--config", str(demo.data / "dormpower.yaml")],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def audit(demo: Demo) -> None:
    dormpower(demo, "audit")


def tells_what_it_is(demo: Demo, address: str) -> None:
    """Addresses, sign-ins and how long it took stand on the screen, then a live line; no records of events."""
    shown = demo.shown()
    for row in (
        rf"pages and API +│ {re.escape(address)} ",
        r"sign in as +│ student, finance, maintenance or admin ",
        r"password +│ dormpower-demo ",
    ):
        assert re.search(row, shown), shown
    ready_after = re.search(r"ready after +│ ([0-9.]+) s ", shown)
    assert ready_after, shown
    assert 0 < float(ready_after[1]) <= time.monotonic() - demo.asked_at_s
    line = r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun) \d{4}-\d\d-\d\d \d\d:\d\d  24 rooms  \d+ readings/s  .*normal \d+"
    eventually(lambda: re.search(line, demo.shown()), what="a line tells what happens")
    records = [record for record in demo.shown().splitlines() if record.startswith("{")]
    assert records == []
    log = (demo.data / "demo.log").read_text(encoding="utf-8")
    for event in ("process.started", "simulator.started", "gateway.started", "api.started"):
        assert f'"event": "{event}"' in log


def refuses_a_second_one(demo: Demo) -> None:
    files = {name: (demo.data / name).read_bytes() for name in ("dormpower.yaml", "clock.json")}
    done = subprocess.run(
        [*COMMAND, "demo", "--data", str(demo.data)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "runs in this folder already" in done.stderr
    assert files == {name: (demo.data / name).read_bytes() for name in files}


def let_a_day_pass(data: Path) -> None:
    record = json.loads((data / "clock.json").read_text(encoding="utf-8"))
    began = datetime.fromisoformat(record["real_epoch"]) - timedelta(days=1)
    record["real_epoch"] = began.isoformat()
    (data / "clock.json").write_text(json.dumps(record), encoding="utf-8")


def stands_still(demo: Demo) -> None:
    """Nothing that a command writes while the demo is stopped lies in the future of the demo that goes on."""
    seen = datetime.fromisoformat((demo.data / "clock.seen").read_text(encoding="utf-8"))
    let_a_day_pass(demo.data)
    dormpower(demo, "settle")
    dormpower(demo, "user", "add", "late", "--role", "student", "--room", "north-01-101", stdin=f"{PASSWORD}\n")
    books = open_books("sqlite:///books.db", base=demo.data)
    with books.read() as connection:
        last = connection.scalar(sa.select(sa.func.max(settled_days.c.used_on)))
        moved_in = connection.scalar(sa.select(sa.func.max(residencies.c.from_at)))
    books.close()
    campus = ZoneInfo("Asia/Shanghai")
    assert last is None or last < seen.astimezone(campus).date()
    assert moved_in - seen < timedelta(minutes=10)


def test_the_demo_starts_serves_stops_goes_on_and_survives_kill_nine(start_demo):
    demo = start_demo("--rooms", "24", "--speed", "120")
    address = demo.address()
    tells_what_it_is(demo, address)
    refuses_a_second_one(demo)
    finance = signed_in(address, "finance")
    for username in ("student", "maintenance", "admin"):
        signed_in(address, username).close()

    def dark_room() -> tuple[str, dict[str, object]] | None:
        for room in finance.get("/rooms", params={"state": "arrears", "limit": 200}).json()["items"]:
            for circuit in room["circuits"]:
                if circuit["state"] == "arrears" and circuit["relay"] == "open":
                    return room["room_id"], circuit
        return None

    room_id, dark = eventually(dark_room, what="a room is dark for arrears", within_s=60)
    assert dark["balance_wh"] <= 0
    paid = finance.post(
        f"/circuits/{dark['circuit_id']}/recharges",
        json={"amount_fen": 20_000, "channel": "cash"},
        headers={"Idempotency-Key": "the-dark-room"},
    )
    assert paid.status_code == 201, paid.text

    def lit() -> bool:
        circuits = finance.get(f"/rooms/{room_id}").json()["circuits"]
        found = next(one for one in circuits if one["circuit_id"] == dark["circuit_id"])
        return (found["state"], found["relay"]) == ("normal", "closed")

    eventually(lit, what="the paid room is supplied again", within_s=60)
    finance.close()
    eventually(
        lambda: all(register_wh is not None for register_wh, _ in figures(demo.data)["points"].values()),
        what="every circuit's first register is believed",
    )

    assert demo.stop() == 0
    eventually(lambda: not demo.pids(), what="no child is left")
    audit(demo)
    before = figures(demo.data)
    assert before["doubted"] == []
    stands_still(demo)

    again = start_demo()
    late = signed_in(again.address(), "late", "student")
    assert late.get("/me").json()["room_ids"] == ["north-01-101"]
    late.close()
    goes_on(before, again)
    again.kill_all()
    audit(again)
    before = figures(again.data)

    last = start_demo()
    signed_in(last.address(), "student").close()
    goes_on(before, last)
    assert last.stop() == 0
    eventually(lambda: not last.pids(), what="no child is left")
    audit(last)


def test_a_demo_that_is_told_to_stop_before_it_is_up_ends_with_exit_code_0(start_demo):
    demo = start_demo("--rooms", "1000")
    eventually((demo.data / "dormpower.yaml").exists, what="the files are there, the books are being filled")
    assert demo.stop() == 0
    assert "Traceback" not in demo.shown()
    assert "stopped before it was up" in demo.shown()
    eventually(lambda: not demo.pids(), what="no child is left")
