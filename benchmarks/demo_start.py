"""`python -m benchmarks.demo_start`: how long `dormpower demo` takes from its call until it is ready.

Each start is in an empty folder: the site is made, the books are migrated and filled, and the simulators, the
gateway and the API come up. It ends when the line "ready at …" stands on the output.
"""

import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import Report, median, parser

READY_BOUND_S = 10.0
_GIVE_UP_S = 120.0


class UnableToMeasureError(Exception):
    """The demo did not come up; the message holds what it said."""


def main() -> int:
    wanted = parser("demo_start", __doc__).parse_args()
    rooms, starts = (24, 1) if wanted.quick else (240, 5)
    report = Report(name="demo_start", assumptions={"rooms": rooms, "starts": starts, "folder": "empty"})
    took_s = [_start_once(rooms) for _ in range(starts)]
    report.figures["ready_after_s"] = [round(one, 2) for one in took_s]
    report.row("from the call to ready, median", f"{median(took_s):.1f} s", f"of {starts}")
    report.row("the slowest", f"{max(took_s):.1f} s")
    report.bound(f"each within {READY_BOUND_S:g} s", max(took_s) <= READY_BOUND_S)
    report.publish(wanted.results)
    return report.exit_code(quick=wanted.quick)


def _start_once(rooms: int) -> float:
    command = [sys.executable, "-c", "from dormpower.cli import main; main()", "demo", "--rooms", str(rooms)]
    with tempfile.TemporaryDirectory(prefix="dormpower-start-") as name:
        output = Path(name) / "output.txt"
        begun_s = time.monotonic()
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*command, "--data", f"{name}/campus"], stdin=subprocess.DEVNULL, stdout=file, stderr=file
            )
        try:
            while not re.search(rb"^ready at ", output.read_bytes(), re.MULTILINE):
                if process.poll() is not None or time.monotonic() - begun_s > _GIVE_UP_S:
                    raise UnableToMeasureError(output.read_text(encoding="utf-8", errors="replace"))
                time.sleep(0.02)
            return time.monotonic() - begun_s
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


if __name__ == "__main__":
    sys.exit(main())
