"""`dormpower demo` as a person runs it: ready, signed in, paid for, stopped, killed, each time going on."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from dormpower.books.database import open_books
from dormpower.books.tables import alarms, meter_points, quarantines, transactions
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
            text = self._output.read_text(encoding="utf-8", errors="replace")
            assert self.process.poll() is None, f"the demo has ended: {text[-2000:]}"
            found = re.search(r"ready at (http://\S+?),", text)
            return found[1] if found else None

        return eventually(ready, what="the demo says that it is ready", within_s=READY_WITHIN_S)

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


def signed_in(address: str, username: str) -> httpx.Client:
    client = httpx.Client(base_url=f"{address}/api/v1", timeout=20, trust_env=False)
    answer = client.post("/session", json={"username": username, "password": PASSWORD})
    assert answer.status_code in {200, 201}, answer.text
    client.headers["X-CSRF-Token"] = answer.json()["csrf_token"]
    me = client.get("/me").json()
    assert (me["username"], me["role"]) == (username, username)
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


def audit(demo: Demo) -> None:
    audited = subprocess.run(
        [*COMMAND, "audit", "--config", str(demo.data / "dormpower.yaml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert audited.returncode == 0, audited.stderr


def test_the_demo_starts_serves_stops_goes_on_and_survives_kill_nine(start_demo):
    demo = start_demo("--rooms", "24", "--speed", "120")
    address = demo.address()
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

    again = start_demo()
    again.address()
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
