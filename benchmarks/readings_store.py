"""`python -m benchmarks.readings_store`: bytes and time to store the readings of 10,000 rooms, embedded.

A day of 10,000 rooms at a poll every 30 s is 57.6 million readings; what is stored is a day at a poll every
`--every-s` seconds (300 by default: 5.76 million), in batches of 5,000 as the gateway commits them, and the
table says so. Beside it, alternating batch by batch in the same run, stands what one would write first: plain
sqlite3 with the circuit's id as text and REAL columns, same pragmas, same batches, each durable on return.
"""

import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.progress import Progress

from benchmarks.report import Report, parser
from dormpower.readings.factory import open_embedded
from dormpower.readings.port import Reading

BATCH = 5_000
START = datetime(2026, 5, 20, tzinfo=UTC)


def main(arguments: list[str] | None = None) -> int:
    """Measure and publish; exit code 1 where a row is missing."""
    options = parser("readings_store", __doc__)
    options.add_argument("--rooms", type=int, default=10_000)
    options.add_argument("--every-s", type=int, default=300, help="campus seconds between two readings")
    wanted = options.parse_args(arguments)
    if wanted.quick:
        wanted.rooms, wanted.every_s = 200, 3_600
    report = Report(
        name="readings_store",
        assumptions={
            "rooms": wanted.rooms,
            "circuits a room": 2,
            "stored": f"one day, a reading each {wanted.every_s} s",
            "batch": BATCH,
        },
    )
    with tempfile.TemporaryDirectory(prefix="dormpower-benchmark-") as folder:
        measure(report, Path(folder), rooms=wanted.rooms, every_s=wanted.every_s)
    report.publish(wanted.results)
    return 0 if all(report.checks.values()) else 1


def measure(report: Report, folder: Path, *, rooms: int, every_s: int) -> None:
    """Store the same batches in both stores, one after the other, and compare."""
    circuits = [
        f"south-{n // 1000 + 1:02d}-{n % 1000:04d}-{kind}" for n in range(rooms) for kind in ("lighting", "ac")
    ]
    steps = 86_400 // every_s
    total = len(circuits) * steps
    embedded = open_embedded(folder / "readings.db")
    plain = _plain(folder / "plain.db")
    spent = {"embedded": 0.0, "plain": 0.0}
    with Progress(transient=True) as progress:
        task = progress.add_task("storing", total=total)
        for number, batch in enumerate(batches(circuits, steps=steps, every_s=every_s)):
            # Who goes first takes turns, so that neither always meets the quieter disk.
            for name in ("embedded", "plain") if number % 2 else ("plain", "embedded"):
                started = time.perf_counter()
                if name == "embedded":
                    embedded.append(batch)
                else:
                    _append_plain(plain, batch)
                spent[name] += time.perf_counter() - started
            progress.advance(task, len(batch))
    one = circuits[len(circuits) // 2]
    started = time.perf_counter()
    day = embedded.between(one, START, START + timedelta(days=1))
    read_s = time.perf_counter() - started
    embedded.close()
    plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    kept = plain.execute("SELECT count(*) FROM reading").fetchone()[0]
    plain.close()
    bytes_of = {"embedded": _bytes(folder, "readings.db"), "plain": _bytes(folder, "plain.db")}
    report.figures = {
        "readings": total,
        "seconds": spent,
        "bytes": bytes_of,
        "readings_a_second": {name: total / seconds for name, seconds in spent.items()},
        "bytes_a_reading": {name: size / total for name, size in bytes_of.items()},
        "a_day_of_one_circuit_s": read_s,
        "ratio_time_plain_to_embedded": spent["plain"] / spent["embedded"],
        "ratio_bytes_plain_to_embedded": bytes_of["plain"] / bytes_of["embedded"],
    }
    report.row("readings stored", f"{total:,}", f"{steps} a circuit and day")
    for name, seconds in spent.items():
        report.row(
            f"{name}: time",
            f"{seconds:.1f} s",
            f"{total / seconds:,.0f} readings/s, durable each batch",
        )
        report.row(
            f"{name}: size", f"{bytes_of[name] / 1e6:,.0f} MB", f"{bytes_of[name] / total:.1f} bytes a reading"
        )
    scale = every_s / 30
    report.row(
        "a day at a poll each 30 s (extrapolated)",
        f"{bytes_of['embedded'] * scale / 1e9:.1f} GB",
        f"{spent['embedded'] * scale:,.0f} s of writing in 86,400",
    )
    report.row("reading a day of one circuit back", f"{read_s * 1000:.1f} ms", f"{len(day)} readings")
    report.check("every reading is there", len(day) == steps and kept == total)


def batches(circuits: Sequence[str], *, steps: int, every_s: int) -> Iterator[list[Reading]]:
    """Yield a day of readings in the order of arrival: all circuits of a step, then the next step."""
    draw = random.Random(1)
    registers = [draw.randrange(10_000_000) for _ in circuits]
    batch: list[Reading] = []
    for step in range(steps):
        at = START + timedelta(seconds=step * every_s)
        for index, circuit_id in enumerate(circuits):
            power_w = round(draw.uniform(0, 2_000), 1)
            registers[index] += int(power_w * every_s / 3_600)
            batch.append(
                Reading(
                    circuit_id=circuit_id,
                    at=at + timedelta(milliseconds=index % 30_000),
                    register_wh=registers[index],
                    power_w=power_w,
                    voltage_v=round(draw.uniform(210, 230), 1),
                    current_a=round(power_w / 220, 2),
                    power_factor=0.95,
                    relay="closed",
                )
            )
            if len(batch) == BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def _plain(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE reading (circuit TEXT, at INTEGER, register_wh INTEGER, power_w REAL, voltage_v REAL,"
        " current_a REAL, power_factor REAL, relay TEXT, PRIMARY KEY (circuit, at))"
    )
    return connection


def _append_plain(connection: sqlite3.Connection, batch: Sequence[Reading]) -> None:
    rows = [
        (
            one.circuit_id,
            int(one.at.timestamp() * 1000),
            one.register_wh,
            one.power_w,
            one.voltage_v,
            one.current_a,
            one.power_factor,
            one.relay,
        )
        for one in batch
    ]
    connection.execute("BEGIN IMMEDIATE")
    connection.executemany("INSERT OR REPLACE INTO reading VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    connection.execute("COMMIT")


def _bytes(folder: Path, name: str) -> int:
    return sum(path.stat().st_size for path in folder.glob(f"{name}*"))


if __name__ == "__main__":
    sys.exit(main())
