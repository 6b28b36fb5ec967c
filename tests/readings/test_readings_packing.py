"""How the embedded store packs what came in: nothing lost, nothing twice, wherever it is broken off."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dormpower.readings.embedded import COMPACT_AFTER_S, EmbeddedReadings
from dormpower.readings.packing import Chunk, chunks_of, latest_of_each_instant, rows_of
from dormpower.readings.port import Reading, UnableToReachReadingsError

START = datetime(2026, 3, 1, tzinfo=UTC)
DAYS = (START - timedelta(days=400), START + timedelta(days=400))
CIRCUITS = ("south-01-101-ac", "south-01-101-lighting", "north-01-101-ac")


def reading(second: float, circuit_id: str = CIRCUITS[0], **values: object) -> Reading:
    known = {"register_wh": 1_000 + int(second), "power_w": 812.5, "voltage_v": 229.8, "relay": "closed"}
    return Reading(
        circuit_id=circuit_id,
        at=START + timedelta(seconds=second),
        **(known | values),  # type: ignore[arg-type]
    )


def tables(path: Path) -> dict[str, int]:
    connection = sqlite3.connect(path)
    counts = {
        name: int(connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0])
        for name in ("batches", "blocks", "chunks")
    }
    connection.close()
    return counts


def test_packing_waits_until_a_blocks_worth_has_come(tmp_path: Path) -> None:
    store = EmbeddedReadings(tmp_path / "r.db", rows_a_block=4, monotonic_s=lambda: 0.0)
    store.append([reading(0), reading(0, CIRCUITS[1])])
    assert store.compact() == 0
    store.append([reading(30), reading(30, CIRCUITS[1])])
    store.append([reading(60)])
    assert store.compact() == 4
    assert tables(tmp_path / "r.db") == {"batches": 1, "blocks": 1, "chunks": 2}
    assert store.between(CIRCUITS[0], *DAYS) == [reading(0), reading(30), reading(60)]
    store.close()


def test_packing_does_not_wait_for_ever_and_goes_by_what_an_earlier_process_left(tmp_path: Path) -> None:
    now_s = [0.0]
    store = EmbeddedReadings(tmp_path / "r.db", monotonic_s=lambda: now_s[0])
    store.append([reading(0)])
    now_s[0] += COMPACT_AFTER_S - 1
    assert store.compact() == 0
    store.close()
    store = EmbeddedReadings(tmp_path / "r.db", monotonic_s=lambda: now_s[0])
    assert store.compact() == 0  # since when it waits is not known: from this start on
    now_s[0] += COMPACT_AFTER_S
    assert store.compact() == 1
    assert store.compact() == 0
    assert tables(tmp_path / "r.db") == {"batches": 0, "blocks": 1, "chunks": 1}
    store.close()


def test_a_late_reading_takes_its_place_in_time_and_a_repeated_one_that_of_the_first(tmp_path: Path) -> None:
    store = EmbeddedReadings(tmp_path / "r.db", rows_a_block=2)
    store.append([reading(60), reading(90)])
    assert store.compact() == 2
    store.append([reading(30), reading(90, power_w=1.0)])
    expected = [reading(30), reading(60), reading(90, power_w=1.0)]
    assert store.between(CIRCUITS[0], *DAYS) == expected
    assert store.compact() == 2
    assert store.between(CIRCUITS[0], *DAYS) == expected
    (step,) = store.every(CIRCUITS[0], *DAYS, every_s=3600)
    assert step.power_w == pytest.approx((812.5 + 812.5 + 1.0) / 3)
    store.close()


@pytest.mark.parametrize(
    "values",
    [
        {"register_wh": 9_007_199_254_740_993},
        {"register_wh": -5},
        {"power_w": 3_000_000.0},
        {"power_w": -2_147_483.648},
        {"power_w": 1e30},
        {"voltage_v": None, "current_a": None},
        {"power_factor": -3.2768},
        {"power_factor": 3.2768},
        {"relay": None},
    ],
    ids=str,
)
def test_packing_changes_no_value_however_wide(tmp_path: Path, values: dict[str, object]) -> None:
    store = EmbeddedReadings(tmp_path / "r.db", rows_a_block=3)
    store.append([reading(0), reading(30, **values), reading(90 * 86_400)])
    before = store.between(CIRCUITS[0], *DAYS)
    assert store.compact() == 3
    assert store.between(CIRCUITS[0], *DAYS) == before
    expected = reading(30, **({"power_w": None} if values.get("power_w") == 1e30 else values))
    assert before[1] == expected
    store.close()


class BrokenOffError(Exception):
    """The process ends here."""


class BreaksOff(EmbeddedReadings):
    """A store whose process ends before its n-th use of the file."""

    left = 0

    def compact_until_broken_off(self) -> None:
        with suppress(BrokenOffError):
            while True:
                self.compact()

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        self.left -= 1
        if self.left < 0:
            raise BrokenOffError
        with super()._write() as writer:
            yield writer


@pytest.mark.parametrize("uses", range(1, 13))
def test_packing_that_was_broken_off_anywhere_loses_and_doubles_nothing(tmp_path: Path, uses: int) -> None:
    path = tmp_path / "r.db"
    rows = [reading(second, one) for second in range(6) for one in CIRCUITS]
    store = EmbeddedReadings(path, rows_a_block=9)
    for first in range(0, len(rows), 3):
        store.append(rows[first : first + 3])
    store.close()
    breaking = BreaksOff(path, rows_a_block=9)
    breaking.left = uses
    breaking.compact_until_broken_off()
    breaking.close()
    store = EmbeddedReadings(path, rows_a_block=9)
    for _ in range(2):
        for one in CIRCUITS:
            assert store.between(one, *DAYS) == [reading(second, one) for second in range(6)]
        store.append([reading(6)])  # also with something that came after
        assert store.between(CIRCUITS[0], *DAYS)[-1] == reading(6)
        store.drop_before(START)  # packs everything
        assert tables(path)["batches"] == 0
        assert store.drop_before(START + timedelta(seconds=7)) in (19, 1)
        store.append(rows)
    store.close()


def test_batches_that_are_packed_already_do_not_come_back_when_their_block_ages_out(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    breaking = BreaksOff(path, rows_a_block=1)
    breaking.left = 100
    breaking.append([reading(0)])
    # Ends between the block's completion and the deletion of its batch.
    for breaking.left in range(1, 20):
        breaking.compact_until_broken_off()
        if tables(path) == {"batches": 1, "blocks": 1, "chunks": 1} and _complete(path):
            break
    else:
        pytest.fail("the state that this is about was never reached")
    breaking.close()
    store = EmbeddedReadings(path)
    assert store.drop_before(START + timedelta(days=1)) == 1
    assert store.between(CIRCUITS[0], *DAYS) == []
    store.close()


class GetsMore(EmbeddedReadings):
    """A store to which another thread appends each time that the packing lets go of the write lock."""

    second = 0

    def _write_block(self, block: int, chunks: Iterator[Chunk]) -> None:
        super()._write_block(block, chunks)
        self.second += 1
        if self.second > 20:
            raise BrokenOffError
        self.append([reading(self.second)])


@pytest.mark.parametrize("pack", ["compact", "drop"])
def test_packing_ends_with_what_there_was_when_it_began_however_much_comes_in(
    tmp_path: Path, pack: str
) -> None:
    now_s = [0.0]
    store = GetsMore(tmp_path / "r.db", monotonic_s=lambda: now_s[0])
    store.append([reading(0)])
    now_s[0] += COMPACT_AFTER_S
    if pack == "compact":
        assert store.compact() == 1
    else:
        store.drop_before(START)
    assert tables(tmp_path / "r.db") == {"batches": 1, "blocks": 1, "chunks": 1}
    assert store.between(CIRCUITS[0], *DAYS) == [reading(0), reading(1)]
    store.close()


def test_a_block_that_was_cut_is_left_alone_until_its_first_reading_is_due(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    store = EmbeddedReadings(path, rows_a_block=4)
    store.append([reading(0), reading(30 * 86_400), reading(31 * 86_400), reading(30 * 86_400, CIRCUITS[1])])
    assert store.compact() == 4
    assert store.drop_before(START + timedelta(days=1)) == 1
    connection = sqlite3.connect(path)
    (from_ms,) = connection.execute("SELECT from_ms FROM blocks").fetchone()
    connection.close()
    assert from_ms == (START + timedelta(days=30)).timestamp() * 1000
    assert store.drop_before(START + timedelta(days=30, seconds=1)) == 2
    assert store.between(CIRCUITS[0], *DAYS) == [reading(31 * 86_400)]
    assert store.between(CIRCUITS[1], *DAYS) == []
    store.close()


def _complete(path: Path) -> bool:
    connection = sqlite3.connect(path)
    (complete,) = connection.execute("SELECT complete FROM blocks").fetchone()
    connection.close()
    return bool(complete)


instants = st.integers(min_value=0, max_value=200_000)
readings = st.builds(
    lambda second, circuit, power: reading(second, circuit, power_w=power),
    instants,
    st.sampled_from(CIRCUITS),
    st.one_of(st.none(), st.integers(-10_000_000, 10_000_000).map(lambda one: one / 1000)),
)
acts = st.one_of(
    st.lists(readings, min_size=1, max_size=12),
    st.just("compact"),
    st.just("reopen"),
    st.tuples(st.just("drop"), instants),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(acts, max_size=14), st.integers(1, 12))
def test_whatever_is_appended_packed_and_dropped_reads_as_a_plain_table_would(
    story: list[object], rows_a_block: int
) -> None:
    model: dict[tuple[str, datetime], Reading] = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "r.db"
        store = EmbeddedReadings(path, rows_a_block=rows_a_block)
        for act in story:
            match act:
                case list():
                    store.append(act)
                    model |= {(one.circuit_id, one.at): one for one in act}
                case "compact":
                    store.compact()
                case "reopen":
                    store.close()
                    store = EmbeddedReadings(path, rows_a_block=rows_a_block)
                case ("drop", int(second)):
                    before = START + timedelta(seconds=second)
                    older = [key for key in model if key[1] < before]
                    assert store.drop_before(before) >= len(older)  # a repeated one may lie in two blocks
                    for key in older:
                        del model[key]
            for circuit_id in CIRCUITS:
                expected = sorted(
                    (one for one in model.values() if one.circuit_id == circuit_id), key=lambda one: one.at
                )
                assert store.between(circuit_id, *DAYS) == expected
                last_of_step = {one.at.timestamp() // 3600: one.register_wh for one in expected}
                steps = store.every(circuit_id, *DAYS, every_s=3600)
                assert {one.at.timestamp() // 3600: one.register_wh for one in steps} == last_of_step
        store.close()


def test_a_mean_of_equal_values_is_that_value(tmp_path: Path) -> None:
    store = EmbeddedReadings(tmp_path / "r.db")
    store.append([reading(second, power_w=4.2) for second in range(30)])
    (step,) = store.every(CIRCUITS[0], *DAYS, every_s=60)
    assert step.power_w == 4.2
    store.close()


def test_chunks_are_as_small_as_is_said_and_unpack_to_the_same_rows() -> None:
    rows = rows_of([reading(30 * number) for number in range(20)])
    (narrow,) = chunks_of(np.full(len(rows), 7, np.int32), rows)
    packed = narrow.packed
    assert (narrow.circuit, packed.wide, len(packed.body)) == (7, False, 20 * 23)
    assert (packed.rows() == latest_of_each_instant(rows)).all()


# --- the version before ------------------------------------------------------------------------------------

VERSION_1 = """
CREATE TABLE circuits (circuit INTEGER PRIMARY KEY, circuit_id TEXT NOT NULL UNIQUE);
CREATE TABLE readings (
    circuit INTEGER NOT NULL, at_ms INTEGER NOT NULL, register_wh INTEGER NOT NULL, power_mw INTEGER,
    voltage_mv INTEGER, current_ma INTEGER, power_factor_e4 INTEGER, relay INTEGER, PRIMARY KEY (circuit, at_ms)
) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


def version_1(path: Path) -> dict[str, list[Reading]]:
    """Write a file as version 1 did, of three circuits over some days."""
    connection = sqlite3.connect(path)
    connection.executescript(VERSION_1)
    expected: dict[str, list[Reading]] = {}
    for number, circuit_id in enumerate(CIRCUITS, start=1):
        connection.execute("INSERT INTO circuits VALUES (?, ?)", (number, circuit_id))
        for hour in range(0, 70, 5):
            at = START + timedelta(hours=hour)
            relay = (None, 0, 1)[hour % 3]
            row = (number, int(at.timestamp() * 1000), 1_000 + hour, 812_500, None, 3_541, 9_985, relay)
            connection.execute("INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            expected.setdefault(circuit_id, []).append(
                Reading(
                    circuit_id=circuit_id,
                    at=at,
                    register_wh=1_000 + hour,
                    power_w=812.5,
                    current_a=3.541,
                    power_factor=0.9985,
                    relay=(None, "open", "closed")[hour % 3],
                )
            )
    connection.commit()
    connection.close()
    return expected


def test_a_file_of_version_1_is_brought_up_and_reads_the_same(tmp_path: Path) -> None:
    expected = version_1(tmp_path / "r.db")
    reader = EmbeddedReadings(tmp_path / "r.db", read_only=True)
    with pytest.raises(UnableToReachReadingsError, match="version 1, which the gateway brings up to 2"):
        reader.between(CIRCUITS[0], *DAYS)
    store = EmbeddedReadings(tmp_path / "r.db")
    store.append([reading(70 * 3600 + 1)])
    for circuit_id, rows in expected.items():
        found = reader.between(circuit_id, *DAYS)
        assert found[: len(rows)] == rows
    assert store.between(CIRCUITS[0], *DAYS)[-1] == reading(70 * 3600 + 1)
    assert store.drop_before(START + timedelta(hours=24)) == 3 * 5
    assert store.between(CIRCUITS[1], *DAYS) == expected[CIRCUITS[1]][5:]
    store.close()
    reader.close()


def test_an_upgrade_that_was_broken_off_goes_on(tmp_path: Path) -> None:
    """As after a crash between two circuits: the first one's rows are packed, the others' are not."""
    whole, half = tmp_path / "whole.db", tmp_path / "half.db"
    version_1(whole)
    expected = version_1(half)
    connection = sqlite3.connect(half)
    connection.executescript("DELETE FROM readings WHERE circuit > 1; DELETE FROM circuits WHERE circuit > 1;")
    connection.close()
    EmbeddedReadings(half).compact()  # opens and brings it up
    connection = sqlite3.connect(half)
    connection.executescript(
        f"{VERSION_1.replace('CREATE TABLE circuits', 'CREATE TABLE IF NOT EXISTS circuits')}"
        f"ATTACH '{whole}' AS whole; INSERT OR IGNORE INTO circuits SELECT * FROM whole.circuits;"
        " INSERT INTO readings SELECT * FROM whole.readings WHERE circuit > 1;"
    )
    connection.close()
    store = EmbeddedReadings(half)
    store.compact()
    for circuit_id, rows in expected.items():
        assert store.between(circuit_id, *DAYS) == rows
    store.close()
