"""Keeping child processes alive: started in order, restarted with growing delays, stopped together.

- A child that ends by itself is started again after 0.5 s, doubling to 30 s; a minute of life resets the delay.
- A child that refuses (exit code 1 or 2) before it has ever lived for `SETTLED_S` is a fault of the set-up: all
  stop and its exit code is passed on, so that a wrong file is seen at once instead of in a loop.
- SIGTERM and SIGINT stop all: SIGTERM to each, SIGKILL to what is left after `STOP_TIMEOUT_S`. What has to be
  prepared before the children run is left at once (`stoppable`).
- Children die with the supervisor: the kernel sends them SIGTERM when it ends in any way (Linux).
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import structlog

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
STEADY_S = 60.0
SETTLED_S = 10.0
STOP_TIMEOUT_S = 20.0
_LOOK_EVERY_S = 0.1
_TAIL_BYTES = 16_384
_PR_SET_PDEATHSIG = 1

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Child:
    """A process to keep alive; what it writes is added to its log, or goes where the supervisor's own goes."""

    name: str
    arguments: Sequence[str]
    log: Path | None = None


class Stopped(BaseException):
    """SIGTERM or SIGINT came before the children ran; no Exception, as nothing may take it for a failure."""


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise Stopped in the body on SIGTERM or SIGINT, as long as no supervisor runs in it."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Stopped

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@dataclass(slots=True)
class _Running:
    child: Child
    process: subprocess.Popen[bytes] | None = None
    started_at_s: float = 0.0
    next_start_at_s: float = 0.0
    delay_s: float = FIRST_DELAY_S
    settled: bool = False


@dataclass(slots=True)
class Supervisor:
    """Runs children until told to stop; `each_look` is called a few times a second (a live summary, say).

    `last_words` is the sentence that a child with a log refused with, where that ended everything.
    """

    children: Sequence[Child]
    each_look: Callable[[], None] | None = None
    first_delay_s: float = FIRST_DELAY_S
    settled_s: float = SETTLED_S
    last_words: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Ask for the end; safe in a signal handler and from another thread."""
        self._stop.set()

    def run(self) -> int:
        """Start all children and keep them alive until stopped; returns the exit code to end with."""
        previous = {
            number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)
        }
        running = [_Running(child, delay_s=self.first_delay_s) for child in self.children]
        try:
            return self._watch(running)
        finally:
            _stop_all(running)
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _watch(self, running: Sequence[_Running]) -> int:
        while not self._stop.is_set():
            for one in running:
                refused = self._look_at(one)
                if refused is not None:
                    self.last_words = last_words(one.child.log)
                    _log.error("supervisor.gave_up", process=one.child.name, exit_code=refused)
                    return refused
            if self.each_look is not None:
                self.each_look()
            self._stop.wait(_LOOK_EVERY_S)
        return 0

    def _look_at(self, one: _Running) -> int | None:
        """Start, or start again, what should run; returns an exit code that ends everything."""
        now_s = time.monotonic()
        if one.process is None:
            if now_s >= one.next_start_at_s:
                one.process = _start(one.child)
                one.started_at_s = now_s
                _log.info("process.started", process=one.child.name, pid=one.process.pid)
            return None
        exit_code = one.process.poll()
        lived_s = now_s - one.started_at_s
        if exit_code is None:
            one.settled = one.settled or lived_s >= self.settled_s
            return None
        if not one.settled and exit_code in (1, 2):
            return exit_code
        if lived_s >= STEADY_S:
            one.delay_s = self.first_delay_s
        _log.error(
            "process.ended", process=one.child.name, exit_code=exit_code, restart_in_s=round(one.delay_s, 1)
        )
        one.process = None
        one.next_start_at_s = now_s + one.delay_s
        one.delay_s = min(one.delay_s * 2, LONGEST_DELAY_S)
        return None

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop.set()


def last_words(log: Path | None) -> str:
    """Return the last line of a log that is a sentence for people: not a record of events, which is JSON."""
    if log is None or not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    return next((line for line in reversed(lines) if line.strip() and not line.startswith("{")), "")


def _start(child: Child) -> subprocess.Popen[bytes]:
    with ExitStack() as stack:
        log = stack.enter_context(child.log.open("ab")) if child.log is not None else None
        # A process group of its own: Ctrl-C reaches the supervisor alone, which stops the children in order.
        return subprocess.Popen(  # noqa: S603 - our own programs, no shell
            list(child.arguments),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            preexec_fn=_die_with_parent(os.getpid()),  # noqa: PLW1509 - one system call, nothing that locks
        )


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask_the_kernel() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask_the_kernel


def _stop_all(running: Sequence[_Running]) -> None:
    alive = [(one.child.name, one.process) for one in running if one.process and one.process.poll() is None]
    for _, process in alive:
        process.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for name, process in alive:
        try:
            process.wait(timeout=max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _log.error("process.killed", process=name, after_s=STOP_TIMEOUT_S)
            process.kill()
            process.wait()
