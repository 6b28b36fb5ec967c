"""Readings on their way to a real InfluxDB that goes, comes back, loses answers and refuses lines."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dormpower.readings.factory import open_influx
from dormpower.readings.influx import InfluxReadings
from dormpower.readings.influx_lines import Lines
from dormpower.readings.outbox import Outbox
from dormpower.readings.port import Reading, ReadingTags, UnableToReachReadingsError

START = datetime(2026, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CIRCUIT = "south-03-412-ac"
TAGS = {
    CIRCUIT: ReadingTags(
        campus="south", building="south-03", room="south-03-412", kind="ac", module="m-south-03-412"
    )
}

WRITER = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from dormpower.readings.factory import open_influx
from dormpower.readings.port import Reading
store = open_influx(url=sys.argv[1], org="campus", bucket=sys.argv[2], token="any", site="s", tags={},
                    outbox_path=Path(sys.argv[3]))
batch = 0
while True:
    at = datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=batch)
    store.append([Reading(circuit_id=f"c{n}", at=at, register_wh=batch) for n in range(10)])
    print(batch, flush=True)
    batch += 1
"""


def reading(second: int, **values: Any) -> Reading:
    return Reading(circuit_id=CIRCUIT, at=START + timedelta(seconds=second), register_wh=second, **values)


def open_store(url: str, bucket: str, path: Path, **options: Any) -> InfluxReadings:
    store = InfluxReadings(
        url=url,
        org="campus",
        bucket=bucket,
        token="any",
        site="south-north",
        tags=TAGS,
        outbox=Outbox(path, **options),
        first_retry_s=0.02,
        longest_retry_s=0.1,
    )
    store.start()
    return store


@pytest.fixture
def bucket(influx_server: Any) -> str:
    return influx_server.new_bucket()


@pytest.fixture
def store(influx_server: Any, bucket: str, tmp_path: Path) -> Iterator[InfluxReadings]:
    opened = open_store(influx_server.url, bucket, tmp_path / "outbox.db")
    yield opened
    opened.close()


def registers(store: InfluxReadings) -> list[int]:
    return [row.register_wh for row in store.between(CIRCUIT, START, START + DAY)]


def test_a_line_has_the_agreed_measurement_tags_fields_and_milliseconds():
    line = Lines(site="south-north", tags=TAGS).line(
        reading(7, power_w=812, voltage_v=229.8, current_a=3.5, power_factor=1e-05, relay="closed")
    )
    assert line == (
        b"reading,building=south-03,campus=south,circuit=south-03-412-ac,kind=ac,module=m-south-03-412,"
        b"room=south-03-412,site=south-north "
        b"register_wh=7i,power_w=812.0,voltage_v=229.8,current_a=3.5,power_factor=1e-05,"
        b'relay="closed" 1772323207000'
    )


def test_a_replaced_module_shows_from_the_next_reading_on():
    tags = dict(TAGS)
    lines = Lines(site="s", tags=tags)
    assert b"module=m-south-03-412," in lines.line(reading(0))
    tags[CIRCUIT] = ReadingTags(campus="south", building="", room="r", kind="ac", module="m-new")
    line = lines.line(reading(1))
    assert b"module=m-new," in line
    assert b"building" not in line


@pytest.mark.needs("influxd")
def test_the_server_has_the_agreed_types(store: InfluxReadings, influx_server: Any, bucket: str):
    store.append([reading(7, power_w=812, voltage_v=229, current_a=3, power_factor=1, relay="open")])
    assert store.wait_until_delivered(timeout_s=30)
    (series,) = influx_server.query("SHOW FIELD KEYS FROM reading", bucket)["results"][0]["series"]
    assert dict(series["values"]) == {
        "register_wh": "integer",
        "power_w": "float",
        "voltage_v": "float",
        "current_a": "float",
        "power_factor": "float",
        "relay": "string",
    }
    (series,) = influx_server.query("SHOW TAG KEYS FROM reading", bucket)["results"][0]["series"]
    assert [row[0] for row in series["values"]] == [
        "building",
        "campus",
        "circuit",
        "kind",
        "module",
        "room",
        "site",
    ]


@pytest.mark.needs("influxd")
def test_a_server_killed_and_started_in_the_middle_loses_nothing_and_has_nothing_twice(
    store: InfluxReadings, influx_server: Any, bucket: str
):
    expected = []
    for batch in range(30):
        if batch == 10:
            influx_server.kill()
        if batch == 20:
            influx_server.start()
        readings = [reading(10 * batch + n) for n in range(10)]
        store.append(readings)
        expected += [row.register_wh for row in readings]
    assert store.wait_until_delivered(timeout_s=60)
    assert registers(store) == expected
    (series,) = influx_server.query("SELECT count(register_wh) FROM reading", bucket)["results"][0]["series"]
    assert series["values"][0][1] == len(expected)
    counts = store.counts()
    assert counts is not None
    assert (counts.delivered_lines, counts.dropped_lines, counts.rejected_lines) == (len(expected), 0, 0)


@pytest.mark.needs("influxd")
def test_reads_say_that_the_server_is_away_while_appends_go_on(store: InfluxReadings, influx_server: Any):
    influx_server.kill()
    try:
        store.append([reading(1)])
        with pytest.raises(UnableToReachReadingsError, match="bucket dorm_"):
            registers(store)
    finally:
        influx_server.start()
    assert store.wait_until_delivered(timeout_s=60)
    assert registers(store) == [1]


@pytest.mark.needs("influxd")
def test_a_lost_answer_leads_to_a_second_write_that_changes_nothing(
    store: InfluxReadings, influx_server: Any, bucket: str
):
    influx_server.forwarder.lose_answers = 3
    store.append([reading(1), reading(2)])
    assert store.wait_until_delivered(timeout_s=60)
    assert influx_server.forwarder.lose_answers == 0
    assert registers(store) == [1, 2]
    counts = store.counts()
    assert counts is not None
    assert counts.delivered_lines == 2


@pytest.mark.needs("influxd")
def test_lines_that_the_server_refuses_are_set_aside_and_counted_and_the_others_arrive(
    influx_server: Any, bucket: str, tmp_path: Path
):
    outbox = Outbox(tmp_path / "outbox.db")
    good = Lines(site="south-north", tags=TAGS)
    batch = [good.line(reading(second)) for second in range(50)]
    batch[17] = b"reading,circuit=x register_wh= 1772323207000"
    batch[31] = b"certainly no line protocol"
    batch[32] = b'reading,circuit=y register_wh="a text" 1772323207000'
    outbox.append([batch[0]])
    outbox.append(batch[1:])
    outbox.close()
    store = open_store(influx_server.url, bucket, tmp_path / "outbox.db")
    assert store.wait_until_delivered(timeout_s=60)
    assert registers(store) == [second for second in range(50) if second not in (17, 31, 32)]
    counts = store.counts()
    assert counts is not None
    assert (counts.delivered_lines, counts.rejected_lines, counts.pending_lines) == (47, 3, 0)
    kept = (tmp_path / "outbox.rejected").read_bytes().splitlines()
    assert [line for line in kept if not line.startswith(b"# ")] == [batch[17], batch[31], batch[32]]
    assert all(line.startswith(b"# 400 ") for line in kept[::2])
    store.append([reading(60)])
    assert store.wait_until_delivered(timeout_s=60)
    assert registers(store)[-1] == 60
    store.close()


@pytest.mark.needs("influxd")
def test_a_missing_bucket_keeps_the_lines_until_it_is_made(influx_server: Any, tmp_path: Path):
    store = open_store(influx_server.url, "dorm_not_yet", tmp_path / "outbox.db")
    store.append([reading(1)])
    assert not store.wait_until_delivered(timeout_s=0.3)
    counts = store.counts()
    assert counts is not None
    assert (counts.pending_lines, counts.rejected_lines) == (1, 0)
    influx_server.query('CREATE DATABASE "dorm_not_yet"')
    assert store.wait_until_delivered(timeout_s=60)
    assert registers(store) == [1]
    store.close()


@pytest.mark.needs("influxd")
def test_an_outbox_full_while_the_server_is_away_drops_the_oldest_and_delivers_the_rest(
    influx_server: Any, bucket: str, tmp_path: Path
):
    influx_server.kill()
    try:
        store = open_store(influx_server.url, bucket, tmp_path / "outbox.db", max_bytes=10_000)
        for second in range(200):
            store.append([reading(second)])
        counts = store.counts()
        assert counts is not None
        assert counts.dropped_lines > 0
        assert counts.pending_lines + counts.dropped_lines == 200
    finally:
        influx_server.start()
    assert store.wait_until_delivered(timeout_s=60)
    counts = store.counts()
    assert counts is not None
    arrived = registers(store)
    assert len(arrived) == counts.delivered_lines
    assert counts.delivered_lines + counts.dropped_lines == 200
    # The newest are there without a gap; what was on its way when it overflowed may be there too.
    assert arrived[-1] == 199
    store.close()


@pytest.mark.needs("influxd")
def test_what_waits_at_a_stop_is_delivered_by_the_next_start(influx_server: Any, bucket: str, tmp_path: Path):
    outbox = Outbox(tmp_path / "outbox.db")
    outbox.append([Lines(site="south-north", tags=TAGS).line(reading(5))])
    outbox.close()
    store = open_store(influx_server.url, bucket, tmp_path / "outbox.db")
    assert store.wait_until_delivered(timeout_s=60)
    assert registers(store) == [5]
    store.close()


@pytest.mark.needs("influxd")
def test_the_reading_side_needs_no_outbox_and_may_not_write(influx_server: Any, bucket: str):
    reader = open_influx(
        url=influx_server.url, org="campus", bucket=bucket, token="any", site="s", tags={}, outbox_path=None
    )
    assert reader.between(CIRCUIT, START, START + DAY) == []
    assert reader.counts() is None
    with pytest.raises(UnableToReachReadingsError, match="reading only"):
        reader.append([reading(1)])
    reader.close()


@pytest.mark.needs("influxd")
def test_kill_9_of_a_gateway_loses_nothing_that_was_acknowledged(
    influx_server: Any, bucket: str, tmp_path: Path
):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, influx_server.url, bucket, str(tmp_path / "outbox.db")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 40:
            os.kill(process.pid, signal.SIGKILL)
            break
    acknowledged = max([40, *(int(line) for line in process.stdout if line.endswith("\n"))])
    process.wait()
    process.stdout.close()
    store = open_influx(
        url=influx_server.url,
        org="campus",
        bucket=bucket,
        token="any",
        site="s",
        tags={},
        outbox_path=tmp_path / "outbox.db",
    )
    assert store.wait_until_delivered(timeout_s=60)
    for circuit in range(10):
        rows = store.between(f"c{circuit}", START, START + DAY)
        assert [row.register_wh for row in rows][: acknowledged + 1] == list(range(acknowledged + 1))
    store.close()
