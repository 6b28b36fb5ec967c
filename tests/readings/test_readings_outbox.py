"""The outbox on disk: durable when it says so, bounded, and honest about what it dropped."""

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from dormpower.readings.outbox import MAX_PARCEL_LINES, Outbox
from dormpower.readings.port import UnableToReachReadingsError

WRITER = """
import sys
from pathlib import Path
from dormpower.readings.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]))
batch = 0
while True:
    outbox.append([b"line-%d-%d" % (batch, n) for n in range(10)])
    print(batch, flush=True)
    batch += 1
"""


def lines(first: int, count: int) -> list[bytes]:
    return [b"line-%06d" % number for number in range(first, first + count)]


def drain(outbox: Outbox) -> list[bytes]:
    taken: list[bytes] = []
    while (parcels := outbox.take()) is not None:
        taken += parcels.lines
        outbox.acknowledge(parcels)
    return taken


def test_lines_come_out_in_order_and_stay_until_acknowledged(tmp_path: Path):
    outbox = Outbox(tmp_path / "o.db")
    outbox.append(lines(0, 3))
    outbox.append(lines(3, 2))
    first = outbox.take()
    assert first is not None
    assert list(first.lines) == lines(0, 5)
    assert outbox.take() == first
    outbox.append(lines(5, 1))
    outbox.acknowledge(first)
    assert drain(outbox) == lines(5, 1)
    assert outbox.take() is None
    counts = outbox.counts()
    assert (counts.pending_lines, counts.pending_bytes, counts.delivered_lines) == (0, 0, 6)
    outbox.close()


def test_what_waits_and_the_counts_are_there_after_opening_again(tmp_path: Path):
    outbox = Outbox(tmp_path / "o.db", max_bytes=50)
    outbox.append(lines(0, 4))
    outbox.append(lines(4, 4))
    before = outbox.counts()
    outbox.close()
    again = Outbox(tmp_path / "o.db", max_bytes=50)
    assert again.counts() == before
    assert (before.pending_lines, before.dropped_lines) == (4, 4)
    assert drain(again) == lines(4, 4)
    again.close()


def test_a_full_outbox_drops_the_oldest_and_counts_them(tmp_path: Path):
    outbox = Outbox(tmp_path / "o.db", max_bytes=1_000)
    dropped = [outbox.append(lines(10 * n, 10)) for n in range(12)]
    assert dropped == [0] * 8 + [10] * 4
    counts = outbox.counts()
    assert counts.pending_bytes <= 1_000
    assert (counts.pending_lines, counts.dropped_lines) == (80, 40)
    assert drain(outbox) == lines(40, 80)
    outbox.close()


def test_an_overflow_leaves_what_is_on_its_way_so_that_a_line_is_counted_as_one_thing(tmp_path: Path):
    outbox = Outbox(tmp_path / "o.db", max_bytes=250)
    outbox.append(lines(0, 10))
    outbox.append(lines(10, 10))
    taken = outbox.take(max_lines=10)
    assert taken is not None
    outbox.append(lines(20, 10))
    outbox.acknowledge(taken, rejected_lines=1)
    assert drain(outbox) == lines(20, 10)
    counts = outbox.counts()
    assert (counts.delivered_lines, counts.dropped_lines, counts.rejected_lines) == (19, 10, 1)
    outbox.close()


def test_one_batch_larger_than_the_outbox_is_still_taken_whole(tmp_path: Path):
    outbox = Outbox(tmp_path / "o.db", max_bytes=100)
    outbox.append(lines(0, 5))
    assert outbox.append(lines(5, 50)) == 5
    assert drain(outbox) == lines(5, 50)
    outbox.close()


def test_a_large_batch_is_taken_in_bounded_parts(tmp_path: Path):
    outbox = Outbox(tmp_path / "o.db")
    outbox.append(lines(0, 2 * MAX_PARCEL_LINES + 1))
    part = outbox.take()
    assert part is not None
    assert len(part.lines) == MAX_PARCEL_LINES
    assert drain(outbox) == lines(0, 2 * MAX_PARCEL_LINES + 1)
    outbox.close()


def test_another_version_or_a_broken_file_is_refused_with_its_name(tmp_path: Path):
    with sqlite3.connect(tmp_path / "o.db") as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(UnableToReachReadingsError, match=r"o\.db: expected an outbox of version 1, got 9"):
        Outbox(tmp_path / "o.db")
    (tmp_path / "b.db").write_bytes(b"certainly no database " * 100)
    with pytest.raises(UnableToReachReadingsError, match=r"b\.db: the outbox of readings fails"):
        Outbox(tmp_path / "b.db")


def test_kill_9_of_the_writer_loses_nothing_that_was_acknowledged(tmp_path: Path):
    path = tmp_path / "o.db"
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 40:
            os.kill(process.pid, signal.SIGKILL)
            break
    acknowledged = max([40, *(int(line) for line in process.stdout if line.endswith("\n"))])
    process.wait()
    process.stdout.close()
    outbox = Outbox(path)
    kept = drain(outbox)
    assert kept[: 10 * (acknowledged + 1)] == [
        b"line-%d-%d" % (batch, n) for batch in range(acknowledged + 1) for n in range(10)
    ]
    assert len(kept) in (10 * (acknowledged + 1), 10 * (acknowledged + 2))
    outbox.close()
