"""Campus time of a demo: it runs while somebody lives by it, stands still else, and never goes back."""

import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dormpower.clock import CLOCK_FILE, SEEN_FILE, UnableToReadClockError, load_clock, start_clock
from dormpower.clock_keeping import begin_clock, is_kept, keep_clock

START = datetime(2026, 5, 20, 4, tzinfo=UTC)
SPEED = 600.0
MARGIN = timedelta(seconds=2 * SPEED)  # two real seconds, in campus time


def fast_campus(folder: Path) -> None:
    """A campus that was started at 600 times real time and is not lived in now."""
    start_clock(folder, speed=SPEED, campus_start=START)
    (folder / SEEN_FILE).write_text(START.isoformat(), encoding="utf-8")


def let_pass(folder: Path, passed: timedelta) -> None:
    """Let real time pass: the record is made as much older."""
    path = folder / CLOCK_FILE
    record = json.loads(path.read_text(encoding="utf-8"))
    record["real_epoch"] = (datetime.fromisoformat(record["real_epoch"]) - passed).isoformat()
    path.write_text(json.dumps(record), encoding="utf-8")


def seen(folder: Path) -> datetime:
    return datetime.fromisoformat((folder / SEEN_FILE).read_text(encoding="utf-8"))


def keeper(folder: Path) -> subprocess.Popen[str]:
    """Another process that lives by the clock; it prints once it does."""
    code = (
        "import sys, pathlib\nfrom dormpower.clock_keeping import keep_clock\n"
        "with keep_clock(pathlib.Path(sys.argv[1])) as clock:\n"
        "    print(clock.campus_epoch.isoformat(), flush=True)\n    sys.stdin.read()\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_a_campus_that_nobody_lives_in_stands_a_little_after_it_was_last_seen(tmp_path):
    fast_campus(tmp_path)
    let_pass(tmp_path, timedelta(days=3))
    clock = load_clock(tmp_path)
    assert clock.now() == START + MARGIN
    assert clock.stands
    assert clock.speed == SPEED


def test_it_goes_on_there_while_it_is_lived_in_and_stands_where_that_ended(tmp_path):
    fast_campus(tmp_path)
    let_pass(tmp_path, timedelta(days=3))
    before = datetime.now(UTC)
    with keep_clock(tmp_path) as clock:
        assert not clock.stands
        assert START + MARGIN <= clock.now() <= START + MARGIN + (datetime.now(UTC) - before) * SPEED
        assert is_kept(tmp_path)
    ended = seen(tmp_path)
    assert ended >= START + MARGIN
    assert not is_kept(tmp_path)
    let_pass(tmp_path, timedelta(days=3))
    assert load_clock(tmp_path).now() == ended + MARGIN


def test_whoever_joins_lives_by_the_same_clock_even_if_its_last_note_is_long_ago(tmp_path):
    fast_campus(tmp_path)
    with keep_clock(tmp_path) as first:
        (tmp_path / SEEN_FILE).write_text(START.isoformat(), encoding="utf-8")
        let_pass(tmp_path, timedelta(hours=1))
        record = (tmp_path / CLOCK_FILE).read_bytes()
        with keep_clock(tmp_path) as second:
            assert second.campus_epoch == first.campus_epoch
            assert (tmp_path / CLOCK_FILE).read_bytes() == record
        assert is_kept(tmp_path), "the first one still is there"


def test_after_kill_nine_it_stands_where_it_was_last_seen(tmp_path):
    fast_campus(tmp_path)
    process = keeper(tmp_path)
    assert process.stdout.readline()
    noted = seen(tmp_path)
    deadline = time.monotonic() + 20
    while seen(tmp_path) == noted:  # until it has left a note of its own
        assert time.monotonic() < deadline, "no note"
        time.sleep(0.05)
    assert is_kept(tmp_path)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    last = seen(tmp_path)
    let_pass(tmp_path, timedelta(days=1))
    assert not is_kept(tmp_path)
    assert load_clock(tmp_path).now() == last + MARGIN


def test_a_clock_goes_on_with_its_speed_or_another_never_back(tmp_path):
    fast_campus(tmp_path)
    let_pass(tmp_path, timedelta(days=3))
    begin_clock(tmp_path, speed=None)
    assert load_clock(tmp_path).speed == SPEED
    assert seen(tmp_path) >= START + MARGIN
    before = load_clock(tmp_path).now()
    begin_clock(tmp_path, speed=2.0)
    assert load_clock(tmp_path).speed == 2.0
    assert load_clock(tmp_path).now() >= before


def test_at_real_pace_campus_time_is_the_present_with_nobody_there(tmp_path):
    begin_clock(tmp_path, speed=1.0)
    (tmp_path / SEEN_FILE).write_text(START.isoformat(), encoding="utf-8")
    before = datetime.now(UTC)
    clock = load_clock(tmp_path)
    assert before <= clock.now() <= datetime.now(UTC)
    assert not clock.stands


def test_a_campus_ahead_of_the_present_at_real_pace_waits_for_it(tmp_path):
    ahead = datetime.now(UTC) + timedelta(days=12)
    start_clock(tmp_path, speed=1.0, campus_start=ahead)
    (tmp_path / SEEN_FILE).write_text(ahead.isoformat(), encoding="utf-8")
    let_pass(tmp_path, timedelta(days=3))
    assert load_clock(tmp_path).now() == ahead + timedelta(seconds=2)
    let_pass(tmp_path, timedelta(days=3))
    (tmp_path / SEEN_FILE).write_text((ahead - timedelta(days=20)).isoformat(), encoding="utf-8")
    assert load_clock(tmp_path).now() - datetime.now(UTC) < timedelta(seconds=1)


def test_a_real_site_s_clock_needs_no_keeper(tmp_path):
    with keep_clock(tmp_path) as clock:
        assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=5)
    assert list(tmp_path.iterdir()) == []
    start_clock(tmp_path, speed=SPEED, campus_start=START)
    let_pass(tmp_path, timedelta(hours=1))
    assert load_clock(tmp_path).now() >= START + timedelta(hours=600)


def test_a_note_that_is_damaged_is_refused_by_name(tmp_path):
    fast_campus(tmp_path)
    (tmp_path / SEEN_FILE).write_text("yesterday", encoding="utf-8")
    with pytest.raises(UnableToReadClockError, match=r"clock\.seen: expected the campus instant last seen"):
        load_clock(tmp_path)
