"""Keeping a demo's campus time: it goes on while a process that lives by it does, and stands still else.

A fast campus left alone would run away from its books: at 600 times real time ten minutes are four campus days,
and what a command wrote in them would lie in the future of the demo that goes on. So each process that lives by
such a clock (the demo, a gateway, an API or simulators started alone) notes every second how far campus time
went, in `clock.seen`. The clock is read as never further than a little after the last note, and the first
process that lives by it again starts it again there. A folder without that note (every real site) has a clock
that nobody needs to keep.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from dormpower.clock import NOTE_EVERY_S, SEEN_FILE, CampusClock, load_clock, start_clock

LOCK_FILE = "clock.lock"
_LOOK_EVERY_S = 0.1


@contextmanager
def keep_clock(folder: Path) -> Iterator[CampusClock]:
    """Yield the folder's campus clock, running, and note how far it goes until the end.

    Raises UnableToReadClockError where the clock's record can't be used.
    """
    if not (folder / SEEN_FILE).exists():
        yield load_clock(folder)
        return
    with (folder / LOCK_FILE).open("a", encoding="utf-8") as lock:
        if _is_held_alone(lock):
            _start_again(folder)
        # Shared with the others that live by this clock; given back when a process ends in any way.
        fcntl.flock(lock, fcntl.LOCK_SH)
        clock = replace(load_clock(folder), not_after=None)
        ended = threading.Event()
        notes = threading.Thread(target=_note_on, args=(folder, clock, ended), name="clock-notes", daemon=True)
        notes.start()
        try:
            yield clock
        finally:
            ended.set()
            notes.join()
            note_seen(folder, clock)


def begin_clock(folder: Path, *, speed: float | None) -> None:
    """Start a clock to be kept: where campus time stood, with its speed of before where none is given.

    At real pace campus time catches up with the present. Raises ValueError where the speed is not within
    0 < speed <= 600, UnableToReadClockError for a record that can't be used.
    """
    before = load_clock(folder)
    chosen = before.speed if speed is None else speed
    start = max(before.now(), before.real_now()) if chosen == 1.0 else before.now()
    note_seen(folder, start_clock(folder, speed=chosen, campus_start=start))


def is_kept(folder: Path, *, wait_s: float = 0.0) -> bool:
    """Tell whether a process lives by the folder's clock, waiting so long for the end of what is ending."""
    path = folder / LOCK_FILE
    if not path.exists():
        return False
    deadline = time.monotonic() + wait_s
    with path.open("a", encoding="utf-8") as lock:
        while not _is_held_alone(lock):
            if time.monotonic() >= deadline:
                return True
            time.sleep(_LOOK_EVERY_S)
    return False


def note_seen(folder: Path, clock: CampusClock) -> None:
    """Leave how far campus time went; one that can't be left (a full disk) is made up for by the next."""
    temporary = folder / f"{SEEN_FILE}.{os.getpid()}"
    with suppress(OSError):
        temporary.write_text(clock.now().isoformat(), encoding="utf-8")
        temporary.replace(folder / SEEN_FILE)


def _is_held_alone(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _start_again(folder: Path) -> None:
    clock = load_clock(folder)
    if clock.stands:
        clock = start_clock(folder, speed=clock.speed, campus_start=clock.now())
    note_seen(folder, clock)


def _note_on(folder: Path, clock: CampusClock, ended: threading.Event) -> None:
    while not ended.wait(NOTE_EVERY_S):
        note_seen(folder, clock)
