"""One suite for every readings store: what the port promises, on SQLite and on a real InfluxDB."""

import os
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dormpower.readings.columns import ReadingColumns
from dormpower.readings.embedded import EmbeddedReadings
from dormpower.readings.factory import open_embedded, open_influx
from dormpower.readings.port import Reading, ReadingsStore, ReadingTags

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CIRCUIT = "south-03-412-ac"
TAGS = {
    CIRCUIT: ReadingTags(
        campus="南区", building="3#, old wing", room="south-03-412", kind="ac", module="m-south-03-412"
    )
}

needs_influx = () if "INFLUXDB_URL" in os.environ else (pytest.mark.needs("influxd"),)


class Store:
    """A store and a way to wait until what was appended can be read."""

    def __init__(self, store: ReadingsStore, settle: Callable[[], None], *, in_columns: bool = False) -> None:
        self.store = store
        self._settle = settle
        self._in_columns = in_columns

    def append(self, *readings: Reading) -> None:
        self.store.append(ReadingColumns.of(readings) if self._in_columns else readings)
        self._settle()


@pytest.fixture(
    params=[
        "embedded",
        "embedded-in-columns",
        "embedded-packed",
        pytest.param("influx", marks=needs_influx),
        pytest.param("influx-in-columns", marks=needs_influx),
    ]
)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    in_columns = request.param.endswith("in-columns")
    if request.param in ("embedded", "embedded-in-columns"):
        embedded = open_embedded(tmp_path / "readings.db")
        yield Store(embedded, lambda: None, in_columns=in_columns)
        embedded.close()
        return
    if request.param == "embedded-packed":
        packed = EmbeddedReadings(tmp_path / "readings.db", rows_a_block=1)
        yield Store(packed, lambda: _pack(packed))
        packed.close()
        return
    target = request.getfixturevalue("influx_target")
    influx = open_influx(
        **target, site=f"site-{uuid.uuid4().hex[:8]}", tags=TAGS, outbox_path=tmp_path / "outbox.db"
    )

    def settle() -> None:
        assert influx.wait_until_delivered(timeout_s=30)

    yield Store(influx, settle, in_columns=in_columns)
    influx.close()


def _pack(store: EmbeddedReadings) -> None:
    while store.compact():
        pass


def reading(second: float, circuit_id: str = CIRCUIT, **values: object) -> Reading:
    known = {
        "power_w": 812.5,
        "voltage_v": 229.8,
        "current_a": 3.541,
        "power_factor": 0.9985,
        "relay": "closed",
    }
    return Reading(
        circuit_id=circuit_id,
        at=START + timedelta(seconds=second),
        register_wh=1_000_000 + int(second),
        **(known | values),  # type: ignore[arg-type]
    )


def test_what_was_appended_comes_back_as_it_was_in_order_of_time(store: Store):
    store.append(reading(60), reading(0), reading(30, relay="open"))
    assert store.store.between(CIRCUIT, START, START + DAY) == [
        reading(0),
        reading(30, relay="open"),
        reading(60),
    ]


def test_a_quantity_that_a_module_lacks_stays_unknown(store: Store):
    bare = reading(0, power_w=None, voltage_v=None, current_a=None, power_factor=None, relay=None)
    store.append(bare)
    assert store.store.between(CIRCUIT, START, START + DAY) == [bare]


def test_a_value_that_is_no_number_is_kept_as_unknown(store: Store):
    store.append(reading(0, power_w=float("nan"), voltage_v=float("inf")), reading(30))
    assert store.store.between(CIRCUIT, START, START + DAY) == [
        reading(0, power_w=None, voltage_v=None),
        reading(30),
    ]


def test_a_relay_state_that_is_none_is_refused(store: Store):
    with pytest.raises(ValueError, match="relay: expected open, closed or None, got 'ajar'"):
        store.store.append([reading(0, relay="ajar")])


def test_negative_power_and_whole_numbers_keep_their_value(store: Store):
    odd = reading(0, power_w=-12, voltage_v=0.0, current_a=0.001, power_factor=-1)
    store.append(odd)
    assert store.store.between(CIRCUIT, START, START + DAY) == [odd]


def test_a_large_register_keeps_every_wh(store: Store):
    large = Reading(circuit_id=CIRCUIT, at=START, register_wh=9_007_199_254_740_993)
    store.append(large)
    assert store.store.between(CIRCUIT, START, START + DAY) == [large]


def test_the_same_readings_again_change_nothing(store: Store):
    for _ in range(3):
        store.append(reading(0), reading(30))
    assert store.store.between(CIRCUIT, START, START + DAY) == [reading(0), reading(30)]


def test_a_reading_of_the_same_instant_takes_the_place_of_the_first(store: Store):
    store.append(reading(0))
    store.append(reading(0, power_w=1.0, relay="open"))
    assert store.store.between(CIRCUIT, START, START + DAY) == [reading(0, power_w=1.0, relay="open")]


def test_spans_are_half_open_to_the_millisecond(store: Store):
    store.append(reading(0), reading(0.001), reading(0.002))
    ms = timedelta(milliseconds=1)
    assert store.store.between(CIRCUIT, START + ms, START + 2 * ms) == [reading(0.001)]
    assert store.store.between(CIRCUIT, START + ms / 2, START + 1.5 * ms) == [reading(0.001)]
    assert store.store.between(CIRCUIT, START, START) == []


def test_what_is_finer_than_a_millisecond_is_cut_off(store: Store):
    store.append(reading(0.0019))
    (kept,) = store.store.between(CIRCUIT, START, START + DAY)
    assert kept.at == START + timedelta(milliseconds=1)


def test_a_page_is_no_longer_than_asked(store: Store):
    store.append(*(reading(second) for second in range(10)))
    assert store.store.between(CIRCUIT, START, START + DAY, limit=3) == [reading(0), reading(1), reading(2)]
    steps = store.store.every(CIRCUIT, START, START + DAY, every_s=2, limit=3)
    assert [step.at for step in steps] == [START + timedelta(seconds=s) for s in (0, 2, 4)]


@pytest.mark.parametrize(("limit", "every_s"), [(0, 60), (-1, 60), (10, 0), (10, -5)])
def test_pages_and_steps_that_make_no_sense_are_refused(store: Store, limit: int, every_s: int):
    with pytest.raises(ValueError, match="expected"):
        store.store.every(CIRCUIT, START, START + DAY, every_s=every_s, limit=limit)


def test_circuits_are_kept_apart_and_an_unknown_one_is_empty(store: Store):
    store.append(reading(0), reading(0, "south-03-412-lighting", power_w=1.0))
    assert store.store.between("south-03-412-lighting", START, START + DAY) == [
        reading(0, "south-03-412-lighting", power_w=1.0)
    ]
    assert store.store.between("south-03-999-ac", START, START + DAY) == []
    assert store.store.every("south-03-999-ac", START, START + DAY, every_s=60) == []


@pytest.mark.parametrize(
    "circuit_id",
    [
        "a b,c=d",
        "it's",
        'say "open"',
        "x' OR '1'='1",
        "南-03-412-ac",
        'a\'; DROP MEASUREMENT "reading"; --',
        "back\\slash'",
    ],
)
def test_no_circuit_id_can_break_out_of_its_place(store: Store, circuit_id: str):
    store.append(reading(0), reading(1, circuit_id))
    assert store.store.between(circuit_id, START, START + DAY) == [reading(1, circuit_id)]
    assert [row.circuit_id for row in store.store.every(circuit_id, START, START + DAY, every_s=60)] == [
        circuit_id
    ]
    assert store.store.between(CIRCUIT, START, START + DAY) == [reading(0)]


def test_steps_give_means_and_the_last_register_and_leave_empty_ones_out(store: Store):
    store.append(
        reading(0, power_w=100.0, voltage_v=230.0, current_a=1.0, power_factor=1.0, relay="closed"),
        reading(30, power_w=200.0, voltage_v=231.0, current_a=2.0, power_factor=0.5, relay="open"),
        reading(59.999, power_w=None, voltage_v=232.0, current_a=3.0, power_factor=0.0, relay=None),
        reading(180, power_w=7.0),
    )
    first, last = store.store.every(CIRCUIT, START, START + DAY, every_s=60)
    assert (first.at, last.at) == (START, START + timedelta(seconds=180))
    assert (first.power_w, first.voltage_v, first.current_a, first.power_factor) == pytest.approx(
        (150.0, 231.0, 2.0, 0.5)
    )
    assert (first.register_wh, first.relay) == (1_000_059, "open")
    assert (last.register_wh, last.power_w, last.relay) == (1_000_180, pytest.approx(7.0), "closed")


def test_a_quantity_unknown_through_a_whole_step_stays_unknown(store: Store):
    store.append(reading(0, power_w=None, relay=None), reading(60))
    first, _ = store.store.every(CIRCUIT, START, START + DAY, every_s=60)
    assert (first.power_w, first.relay, first.register_wh) == (None, None, 1_000_000)


@pytest.mark.parametrize("every_s", [1, 7, 900, 3600, 86_400, 604_800])
def test_steps_are_aligned_to_the_epoch_whatever_their_length(store: Store, every_s: int):
    offsets = [0, 1, 6, 7, 899, 900, 3_600, 90_000, 700_000]
    store.append(*(reading(offset) for offset in offsets))
    start_s = int(START.timestamp())
    expected: dict[int, int] = {}
    for offset in offsets[1:]:
        expected[(start_s + offset) // every_s * every_s] = 1_000_000 + offset
    steps = store.store.every(CIRCUIT, START + timedelta(seconds=1), START + 30 * DAY, every_s=every_s)
    assert {int(step.at.timestamp()): step.register_wh for step in steps} == expected
    assert [step.at for step in steps] == sorted(step.at for step in steps)


def test_a_burst_is_stored_whole(store: Store):
    burst = [reading(30 * (n // 50), f"room-{n % 50}-ac") for n in range(5_000)]
    store.append(*burst)
    for circuit in (0, 49):
        rows = store.store.between(f"room-{circuit}-ac", START, START + DAY)
        assert [row.register_wh for row in rows] == [1_000_000 + 30 * n for n in range(100)]


def test_an_empty_append_is_nothing(store: Store):
    store.store.append([])
    assert store.store.between(CIRCUIT, START, START + DAY) == []


def test_dropping_old_readings_never_takes_newer_ones(store: Store):
    store.append(reading(0), reading(30))
    store.store.drop_before(START + timedelta(seconds=30))
    assert reading(30) in store.store.between(CIRCUIT, START, START + DAY)


def test_columns_are_a_sequence_of_readings():
    readings = [reading(0), reading(30, "other", power_w=None, relay=None), reading(60, relay="open")]
    columns = ReadingColumns.of(readings)
    assert (len(columns), list(columns)) == (3, readings)
    assert (columns[-1], columns[1:]) == (readings[2], readings[1:])
    assert ReadingColumns.of(columns) is columns
    with pytest.raises(IndexError):
        columns[3]


@pytest.mark.parametrize("split", range(4))
def test_columns_that_are_followed_by_readings_hold_both(split: int):
    readings = [reading(0), reading(30, "other", power_w=None), reading(60)]
    assert list(ReadingColumns.of(readings[:split]).followed_by(readings[split:])) == readings
