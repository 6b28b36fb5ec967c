"""What only the embedded store does: one file, several processes, retention in bounded steps."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dormpower.readings.embedded import CHUNKS_A_STEP
from dormpower.readings.factory import open_embedded
from dormpower.readings.port import Reading, UnableToReachReadingsError

START = datetime(2026, 3, 1, tzinfo=UTC)

WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from dormpower.readings.embedded import EmbeddedReadings
from dormpower.readings.port import Reading
store = EmbeddedReadings(Path(sys.argv[1]), rows_a_block=50)
start = datetime(2026, 3, 1, tzinfo=UTC)
batch = 0
while True:
    at = start + timedelta(seconds=batch)
    store.append([Reading(circuit_id=f"c{n}", at=at, register_wh=batch) for n in range(20)])
    print(batch, flush=True)
    batch += 1
    store.compact()
"""


def reading(second: float, **values: object) -> Reading:
    known = {"circuit_id": "south-03-412-ac"}
    return Reading(
        at=START + timedelta(seconds=second),
        register_wh=int(second),
        **(known | values),  # type: ignore[arg-type]
    )


def test_a_reader_of_a_store_that_is_not_there_yet_finds_nothing_and_later_what_was_written(tmp_path: Path):
    reader = open_embedded(tmp_path / "r.db", read_only=True)
    span = (START, START + timedelta(days=1))
    assert reader.between("south-03-412-ac", *span) == []
    assert not (tmp_path / "r.db").exists()
    writer = open_embedded(tmp_path / "r.db")
    writer.append([reading(1)])
    assert reader.between("south-03-412-ac", *span) == [reading(1)]
    writer.close()
    assert reader.between("south-03-412-ac", *span) == [reading(1)]
    reader.close()


def test_a_reader_may_not_write(tmp_path: Path):
    reader = open_embedded(tmp_path / "r.db", read_only=True)
    with pytest.raises(UnableToReachReadingsError, match="reading only"):
        reader.append([reading(1)])
    with pytest.raises(UnableToReachReadingsError, match="reading only"):
        reader.drop_before(START)


def test_another_version_of_the_file_is_refused_with_its_name(tmp_path: Path):
    with sqlite3.connect(tmp_path / "r.db") as connection:
        connection.execute("PRAGMA user_version = 7")
    connection.close()
    for read_only in (False, True):
        store = open_embedded(tmp_path / "r.db", read_only=read_only)
        with pytest.raises(UnableToReachReadingsError, match=r"r\.db: expected .* version 2, got 7"):
            store.between("c", START, START) if read_only else store.append([reading(1)])
        store.close()


def test_a_file_that_is_no_store_is_refused_with_its_name(tmp_path: Path):
    (tmp_path / "r.db").write_bytes(b"certainly no database " * 100)
    store = open_embedded(tmp_path / "r.db")
    with pytest.raises(UnableToReachReadingsError, match=r"r\.db: the readings store fails"):
        store.append([reading(1)])
    store.close()


def test_a_closed_store_says_so(tmp_path: Path):
    store = open_embedded(tmp_path / "r.db")
    store.append([reading(1)])
    store.close()
    with pytest.raises(UnableToReachReadingsError, match="closed"):
        store.append([reading(1)])
    with pytest.raises(UnableToReachReadingsError, match="closed"):
        store.between("c", START, START)


def test_a_refused_batch_leaves_nothing_behind_and_the_next_is_taken(tmp_path: Path):
    store = open_embedded(tmp_path / "r.db")
    with pytest.raises(ValueError, match="relay: expected open, closed or None, got 'ajar'"):
        store.append([reading(1), reading(2, relay="ajar")])
    store.append([reading(3)])
    assert store.between("south-03-412-ac", START, START + timedelta(days=1)) == [reading(3)]
    store.close()


def test_dropping_takes_more_than_one_bounded_step_and_leaves_the_rest(tmp_path: Path):
    store = open_embedded(tmp_path / "r.db")
    circuits = [f"c{number:04d}" for number in range(2 * CHUNKS_A_STEP + 7)]
    rows = [reading(second, circuit_id=one) for second in range(3) for one in circuits]
    store.append(rows)
    assert store.drop_before(START + timedelta(seconds=2)) == 2 * len(circuits)
    for one in (circuits[0], circuits[CHUNKS_A_STEP], circuits[-1]):
        assert store.between(one, START, START + timedelta(days=1)) == [reading(2, circuit_id=one)]
    assert store.drop_before(START) == 0
    assert store.drop_before(START + timedelta(seconds=3)) == len(circuits)
    assert store.between(circuits[0], START, START + timedelta(days=1)) == []
    store.close()


def test_values_finer_than_the_scale_are_rounded_half_even_and_registers_never(tmp_path: Path):
    store = open_embedded(tmp_path / "r.db")
    fine = reading(0, power_w=1.00049, voltage_v=229.99951, current_a=0.0025, power_factor=0.99995)
    store.append([fine])
    (kept,) = store.between("south-03-412-ac", START, START + timedelta(seconds=1))
    assert (kept.power_w, kept.voltage_v, kept.current_a, kept.power_factor) == (1.0, 230.0, 0.002, 1.0)
    store.append([Reading(circuit_id="big", at=START, register_wh=9_007_199_254_740_993)])
    (big,) = store.between("big", START, START + timedelta(seconds=1))
    assert big.register_wh == 9_007_199_254_740_993
    store.close()


def test_many_threads_read_while_one_writes(tmp_path: Path):
    store = open_embedded(tmp_path / "r.db")
    store.append([reading(0)])
    done = threading.Event()
    faults: list[str] = []

    def read() -> None:
        seen = 0
        while not done.is_set():
            rows = store.between("south-03-412-ac", START, START + timedelta(days=1))
            if len(rows) < seen or len(rows) % 10 != 1:
                faults.append(f"{seen} then {len(rows)}")
            seen = len(rows)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for batch in range(60):
        store.append([reading(1 + batch * 10 + n) for n in range(10)])
    done.set()
    for thread in threads:
        thread.join()
    assert not faults
    store.close()


def test_kill_9_of_the_writer_loses_nothing_that_was_acknowledged(tmp_path: Path):
    path = tmp_path / "r.db"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    acknowledged = -1
    for line in process.stdout:
        acknowledged = int(line)
        if acknowledged == 30:
            os.kill(process.pid, signal.SIGKILL)
            break
    acknowledged = max([acknowledged, *(int(line) for line in process.stdout if line.endswith("\n"))])
    process.wait()
    process.stdout.close()
    store = open_embedded(path)
    for circuit in range(20):
        rows = store.between(f"c{circuit}", START, START + timedelta(days=1))
        assert [row.register_wh for row in rows[: acknowledged + 1]] == list(range(acknowledged + 1))
    store.append([reading(1)])
    store.close()
