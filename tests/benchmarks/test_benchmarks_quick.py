"""The benchmarks' quick forms run to their end, hold their counts against the stores, and leave figures.

No test here depends on how fast anything is: bounds on speed are printed and kept, never asserted.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.recharge_to_relay import FIRST, STEADY
from benchmarks.report import Report, median, percentile

ROOT = Path(__file__).parent.parent.parent
TIMEOUT_S = 110


def run_quick(name: str, results: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--quick", "--results", str(results)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    document: dict[str, Any] = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
    assert document["benchmark"] == name
    assert {"machine", "versions", "assumptions", "figures", "checks"} <= document.keys()
    return document


def test_intake_accounts_for_every_room_that_it_polled(tmp_path: Path) -> None:
    document = run_quick("intake", tmp_path)
    checks = document["checks"]
    for condition in (
        "no poll failed",
        "every sample of the measured time accepted",
        "accepted = 2 × rooms polled, no sample dropped",
        "every accepted sample is a row of the readings",
        "the books stand where the readings end",
        "the proof of the books finds nothing",
        "paced: every sample taken in",
    ):
        assert checks[condition] is True, (condition, document["figures"])
    assert document["figures"]["flat_out"]["ratio"] > 0
    assert document["figures"]["paced"]["cpu_s"] > 0


def test_recharges_close_relays_on_both_kinds_of_line(tmp_path: Path) -> None:
    document = run_quick("recharge_to_relay", tmp_path)
    assert document["checks"]["every relay recharged is closed on its line"] is True
    assert document["checks"]["the proof of the books finds nothing"] is True
    for line in ("loopback", "9600 baud"):
        for time in (FIRST, STEADY):
            for figures in document["figures"][f"{line}, {time}"].values():
                assert figures["count"] > 0
                assert 0 < figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]


def test_every_store_keeps_every_reading_of_the_day(tmp_path: Path) -> None:
    document = run_quick("readings_store", tmp_path)
    kept = {name: passed for name, passed in document["checks"].items() if name.endswith("every row is there")}
    assert {"embedded: every row is there", "naive sqlite3: every row is there"} <= kept.keys()
    assert all(kept.values())
    assert document["figures"]["embedded"]["bytes"] > 0


@pytest.mark.needs("wrk")
def test_the_api_is_asked_by_wrk_and_answers_without_failure(tmp_path: Path) -> None:
    document = run_quick("api_reads", tmp_path)
    assert document["figures"]


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 5.0), (0.99, 10.0), (0.9, 9.0), (0.1, 1.0), (0.0, 1.0), (1.0, 10.0)]
)
def test_a_percentile_is_the_value_of_its_nearest_rank(share: float, expected: float) -> None:
    assert percentile([float(one) for one in range(10, 0, -1)], share) == expected


def test_a_percentile_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 0.5)


def test_a_median_is_not_moved_by_one_slow_round() -> None:
    assert median([10.0, 11.0, 900.0]) == 11.0


def test_a_report_keeps_figures_checks_and_machine_as_json(tmp_path: Path) -> None:
    report = Report(name="example", assumptions={"rooms": 3})
    report.figures["rooms_per_s"] = 12.5
    report.check("nothing lost", passed=False)
    report.row("rooms a second", "12.5")
    document = json.loads(report.publish(tmp_path).read_text(encoding="utf-8"))
    assert document["figures"] == {"rooms_per_s": 12.5}
    assert document["checks"] == {"nothing lost": False}
    assert document["assumptions"] == {"rooms": 3}
    assert document["machine"]["cores"] >= 1
    assert document["versions"]["pymodbus"]


def test_a_bound_fails_a_full_run_and_a_condition_fails_every_run():
    slow, wrong, right = (Report(name="example", assumptions={}) for _ in range(3))
    slow.check("nothing lost", passed=True)
    slow.bound("fast enough", passed=False)
    wrong.check("nothing lost", passed=False)
    right.bound("fast enough", passed=True)
    assert [one.exit_code(quick=False) for one in (slow, wrong, right)] == [1, 1, 0]
    assert [one.exit_code(quick=True) for one in (slow, wrong, right)] == [0, 1, 0]
