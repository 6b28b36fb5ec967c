"""Processes that a benchmark starts beside itself, each on a core of its own where the machine has two."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
STOP_TIMEOUT_S = 60


class PeerError(Exception):
    """A process that the benchmark needs did not do its part; the message says which."""


def cores() -> tuple[int, int]:
    """Return the core for what is measured and the core for the rest; the same one where there is no other."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def free_port() -> int:
    """Ask the machine for a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _command(core: int | None, arguments: Sequence[str]) -> list[str]:
    pinned = [] if core is None else ["taskset", "--cpu-list", str(core)]
    return [*pinned, *arguments]


@contextmanager
def running(
    arguments: Sequence[str],
    *,
    core: int | None = None,
    log: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[str]]:
    """Run a process of ours until the block ends, then SIGTERM; its standard error goes to `log`."""
    with (log or Path(os.devnull)).open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            _command(core, arguments),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.communicate(timeout=STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def run_json(
    arguments: Sequence[str],
    *,
    core: int | None = None,
    timeout_s: float = 300,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Run a process of ours to its end and return the JSON object that it prints."""
    done = subprocess.run(
        _command(core, arguments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    if done.returncode != 0:
        raise PeerError(f"{' '.join(arguments[:4])}: exit code {done.returncode}: {done.stderr[-2000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@contextmanager
def responder(*, lines: int, core: int | None, framer: str = "socket") -> Iterator[list[int]]:
    """Run the light responder and give its ports."""
    arguments = [sys.executable, "-m", "simulators.responder", "--ports", str(lines), "--framer", framer]
    with running(arguments, core=core) as process:
        line = process.stdout.readline() if process.stdout is not None else ""
        if not line:
            raise PeerError("simulators.responder ended before it told its ports")
        yield list(json.loads(line)["ports"])
