"""Bytes and time to store the readings of 10,000 rooms: embedded store, a naive table, InfluxDB.

A day of 20,000 circuits at a sample every 30 s would be 57.6 million rows. What is really stored is a day with
a longer time between samples (`--every-s`), in commits of as many rows as a gateway takes in a second at 30 s;
the day at 30 s is extrapolated from the bytes and the time of a row, and said to be so. Every store gets the
same batch in turn. Values move as real ones do: registers advance, volts, amps and watts wander.

The naive table is plain sqlite3 with the same durability: circuit id and relay as text, the time as RFC 3339
text, REAL columns, a rowid and an index on (circuit, at). InfluxDB is Debian's 1.6.7 where it is installed: the
same batches as line protocol over HTTP, its bytes taken after its own compaction.
"""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from benchmarks import campus, peers
from benchmarks.report import Report, parser
from dormpower.readings.embedded import EmbeddedReadings
from dormpower.readings.influx_lines import Lines
from dormpower.readings.port import Reading, ReadingTags

DAY_S = 86_400
CYCLE_S = 30
START = datetime(2026, 3, 1, tzinfo=UTC)
_NAIVE = (
    "CREATE TABLE readings (circuit_id TEXT, at TEXT, register_wh REAL, power_w REAL, voltage_v REAL,"
    " current_a REAL, power_factor REAL, relay TEXT);"
    "CREATE INDEX readings_circuit_at ON readings (circuit_id, at)"
)


class Store(Protocol):
    """Something that takes batches and tells how big it is."""

    name: str

    def append(self, batch: Sequence[Reading]) -> None: ...

    def finish(self) -> None:
        """Do what is left to be done with what was appended; its time counts."""

    def size_bytes(self) -> int: ...

    def count(self) -> int: ...

    def close(self) -> None: ...


class Embedded:
    name = "embedded"

    def __init__(self, folder: Path, circuit_ids: Sequence[str]) -> None:
        self._path = folder / "readings.db"
        self._circuit_ids = circuit_ids
        self._store = EmbeddedReadings(self._path)

    def append(self, batch: Sequence[Reading]) -> None:
        """Append and, where a block is full, pack it: a gateway does that in another thread."""
        self._store.append(batch)
        self._store.compact()

    def finish(self) -> None:
        self._store.drop_before(START)  # there is nothing so old: it packs what is left

    def size_bytes(self) -> int:
        return _checkpointed(self._path)

    def count(self) -> int:
        end = START + timedelta(days=2)
        return sum(len(self._store.between(one, START, end, limit=sys.maxsize)) for one in self._circuit_ids)

    def close(self) -> None:
        self._store.close()


class Naive:
    name = "naive sqlite3"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "naive.db"
        self._connection = sqlite3.connect(self._path, isolation_level=None)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -65536"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.executescript(_NAIVE)

    def append(self, batch: Sequence[Reading]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.executemany(
            "INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    one.circuit_id,
                    one.at.isoformat(),
                    float(one.register_wh),
                    one.power_w,
                    one.voltage_v,
                    one.current_a,
                    one.power_factor,
                    one.relay,
                )
                for one in batch
            ],
        )
        self._connection.execute("COMMIT")

    def finish(self) -> None:
        pass

    def size_bytes(self) -> int:
        return _checkpointed(self._path)

    def count(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM readings").fetchone()[0])

    def close(self) -> None:
        self._connection.close()


class Influx:
    name = "InfluxDB 1.6"

    def __init__(self, folder: Path, circuit_ids: Sequence[str]) -> None:
        self._folder = folder / "influx"
        self._port = peers.free_port()
        self._process = _start_influxd(self._folder, self._port)
        try:
            self._wait()
            self._post("query?q=CREATE%20DATABASE%20dorm", b"")
        except BaseException:
            self.close()
            raise
        tags = {one: _tags(one) for one in circuit_ids}
        self._lines = Lines(site="benchmark", tags=tags)

    def append(self, batch: Sequence[Reading]) -> None:
        self._post("write?db=dorm&precision=ms", b"\n".join(map(self._lines.line, batch)))

    def finish(self) -> None:
        pass

    def size_bytes(self) -> int:
        """Wait until compaction has come to rest, then add up the files."""
        before, same = -1, 0
        deadline_s = time.monotonic() + 180
        while same < 5 and time.monotonic() < deadline_s:
            time.sleep(1)
            found = sum(one.stat().st_size for one in self._folder.rglob("*") if one.is_file())
            same = same + 1 if found == before else 0
            before = found
        return before

    def count(self) -> int:
        answer = self._post("query?db=dorm&q=SELECT%20count(register_wh)%20FROM%20reading", b"")
        return int(answer.decode().rpartition(",")[2].split("]")[0])

    def close(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=60)

    def _post(self, path: str, body: bytes) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}/{path}", data=body, method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            content: bytes = answer.read()
            return content

    def _wait(self) -> None:
        deadline_s = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self._port}/ping", timeout=5).close()
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline_s:
                    raise
                time.sleep(0.1)
            else:
                return


@dataclass(slots=True)
class _Circuit:
    circuit_id: str
    register_wh: int
    power_w: float


def main() -> int:
    arguments = parser("readings_store", __doc__)
    arguments.add_argument("--rooms", type=int, default=None)
    arguments.add_argument("--every-s", type=int, default=None, help="seconds between a circuit's samples")
    wanted = arguments.parse_args()
    rooms = wanted.rooms or (500 if wanted.quick else 10_000)
    every_s = wanted.every_s or (7_200 if wanted.quick else 600)
    batch = max(1, 2 * rooms // CYCLE_S)
    report = Report(
        name="readings_store",
        assumptions={
            "circuits": 2 * rooms,
            "stored": f"24 h, a sample every {every_s} s",
            "rows": 2 * rooms * (DAY_S // every_s),
            "rows a commit": batch,
        },
    )
    with tempfile.TemporaryDirectory(prefix="dormpower-readings-") as folder:
        _measure(Path(folder), report, rooms=rooms, every_s=every_s, batch=batch)
    report.publish(wanted.results)
    return report.exit_code(quick=wanted.quick)


def _measure(folder: Path, report: Report, *, rooms: int, every_s: int, batch: int) -> None:
    circuit_ids = [f"{campus.room_name(index)}-{kind}" for index in range(rooms) for kind in ("lighting", "ac")]
    stores: list[Store] = [Embedded(folder, circuit_ids), Naive(folder)]
    if _influxd() is not None:
        stores.append(Influx(folder, circuit_ids))
    else:
        report.row("InfluxDB", "not measured", "influxd is not installed")
    taken_s = dict.fromkeys((store.name for store in stores), 0.0)
    rows = 0
    try:
        for number, readings in enumerate(_batches(circuit_ids, every_s=every_s, batch=batch)):
            rows += len(readings)
            # Whose turn is first goes round, so that nobody always finds the caches of another.
            for offset in range(len(stores)):
                store = stores[(number + offset) % len(stores)]
                started_s = time.perf_counter()
                store.append(readings)
                taken_s[store.name] += time.perf_counter() - started_s
        for store in stores:
            started_s = time.perf_counter()
            store.finish()
            taken_s[store.name] += time.perf_counter() - started_s
            _tell(report, store, rows=rows, rooms=rooms, taken_s=taken_s[store.name])
    finally:
        for store in stores:
            store.close()
    report.figures["rows"] = rows


def _batches(circuit_ids: Sequence[str], *, every_s: int, batch: int) -> Iterator[list[Reading]]:
    """Yield a day of readings in the order in which a gateway would take them in."""
    draw = random.Random(1)
    circuits = [
        _Circuit(one, draw.randrange(100_000, 90_000_000), draw.choice((0.0, 40.0, 180.0, 900.0)))
        for one in circuit_ids
    ]
    found: list[Reading] = []
    for step in range(DAY_S // every_s):
        for index, circuit in enumerate(circuits):
            if draw.random() < 0.05:
                circuit.power_w = draw.choice((0.0, 40.0, 180.0, 900.0))
            power_w = round(circuit.power_w * draw.uniform(0.98, 1.02), 1)
            voltage_v = round(draw.uniform(216.0, 238.0), 1)
            circuit.register_wh += round(power_w * every_s / 3600 / 10) * 10
            offset_ms = every_s * 1000 * index // len(circuits)
            found.append(
                Reading(
                    circuit_id=circuit.circuit_id,
                    at=START + timedelta(seconds=step * every_s, milliseconds=offset_ms),
                    register_wh=circuit.register_wh,
                    power_w=power_w,
                    voltage_v=voltage_v,
                    current_a=round(power_w / voltage_v, 2),
                    power_factor=round(draw.uniform(0.9, 1.0), 3),
                    relay="closed",
                )
            )
            if len(found) == batch:
                yield found
                found = []
    if found:
        yield found


def _tell(report: Report, store: Store, *, rows: int, rooms: int, taken_s: float) -> None:
    size_bytes = store.size_bytes()
    a_day = 2 * rooms * DAY_S // CYCLE_S
    report.row(
        f"{store.name}, stored",
        f"{size_bytes / rows:.1f} bytes a row",
        f"{size_bytes / 2**20:,.0f} MiB for {rows:,} rows",
    )
    report.row(
        f"{store.name}, time", f"{taken_s / rows * 1e6:.1f} µs a row", f"{rows / taken_s:,.0f} rows a second"
    )
    report.row(
        f"{store.name}, a day at {CYCLE_S} s (extrapolated)",
        f"{size_bytes / rows * a_day / 2**30:.2f} GiB",
        f"{taken_s / rows * a_day / 60:.1f} min of writing for {a_day:,} rows",
    )
    report.check(f"{store.name}: every row is there", store.count() == rows)
    report.figures[store.name] = {
        "bytes": size_bytes,
        "bytes_per_row": size_bytes / rows,
        "seconds": taken_s,
        "us_per_row": taken_s / rows * 1e6,
        "extrapolated_day_rows": a_day,
        "extrapolated_day_gib": size_bytes / rows * a_day / 2**30,
    }


def _tags(circuit_id: str) -> ReadingTags:
    campus_id, building, door, kind = circuit_id.split("-")
    room = f"{campus_id}-{building}-{door}"
    return ReadingTags(
        campus=campus_id, building=f"{campus_id}-{building}", room=room, kind=kind, module=f"m-{room}"
    )


def _checkpointed(path: Path) -> int:
    """Return the size of a database file and its write-ahead log once the log is written back."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return sum(one.stat().st_size for one in path.parent.glob(f"{path.name}*"))


def _influxd() -> str | None:
    return shutil.which("influxd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin")


def _start_influxd(folder: Path, port: int) -> subprocess.Popen[bytes]:
    folder.mkdir()
    configuration = folder.with_suffix(".conf")
    configuration.write_text(
        "reporting-disabled = true\n"
        f'bind-address = "127.0.0.1:{peers.free_port()}"\n'
        f'[meta]\ndir = "{folder}/meta"\n'
        f'[data]\ndir = "{folder}/data"\nwal-dir = "{folder}/wal"\nmax-series-per-database = 0\n'
        'cache-snapshot-write-cold-duration = "2s"\ncompact-full-write-cold-duration = "2s"\n'
        f'[http]\nbind-address = "127.0.0.1:{port}"\nlog-enabled = false\n'
        "[monitor]\nstore-enabled = false\n",
        encoding="utf-8",
    )
    with folder.with_suffix(".log").open("wb") as log:
        return subprocess.Popen(
            [_influxd() or "influxd", "-config", str(configuration)], stdout=log, stderr=log
        )


if __name__ == "__main__":
    sys.exit(main())
