"""The benchmark of the prohibited-load rule: its scores are those of the document; it reads labelled traces."""

import os
from pathlib import Path

import pytest

from benchmarks import prohibited_load as benchmark
from dormpower.domain.loadsteps import StepRules

DOCUMENT = Path(__file__).parents[2] / "docs" / "prohibited-load.md"
SEEDS = range(101, 111)  # nobody had looked at these when thresholds were chosen


def unseen_rows(name: str) -> list[str]:
    """Return the document's first table's rows of these rooms: those of the seeds above."""
    table = DOCUMENT.read_text(encoding="utf-8").partition("## Scores")[2].partition("Seeds 1–10")[0]
    return [line for line in table.splitlines() if line.startswith(f"| {name} |")]


@pytest.fixture(scope="module")
def recordings() -> list[benchmark.Recording]:
    folder = benchmark.data_folder() / "tracebase"
    if not folder.is_dir():
        reason = f"no recordings at {folder}: set DORMPOWER_DATA"
        if os.environ.get("CI") == "true":
            pytest.fail(f"in CI nothing may be skipped: {reason}")
        pytest.skip(reason)
    return benchmark.read_recordings(folder)


def test_simulated_appliances_on_unseen_seeds_score_as_documented() -> None:
    scores = benchmark.table(benchmark.simulated_room(seed) for seed in SEEDS)
    assert benchmark.lines("simulated appliances", scores) == unseen_rows("simulated appliances")


def test_rooms_mixed_from_real_recordings_score_as_documented(recordings: list[benchmark.Recording]) -> None:
    scores = benchmark.table(benchmark.mixed_room(recordings, seed) for seed in SEEDS)
    assert benchmark.lines("mixed recordings", scores) == unseen_rows("mixed recordings")


def test_the_documented_scores_are_good_enough_to_act_on() -> None:
    for name in ("simulated appliances", "mixed recordings"):
        rows = [row.strip("| ").split(" | ") for row in unseen_rows(name)]
        assert [row[1] for row in rows] == ["1 s", "5 s", "30 s"]
        for row in rows:
            precision, recall = float(row[6]), float(row[7])
            assert precision >= 0.95
            assert recall >= (0.8 if row[1] == "30 s" else 0.95)


def test_a_labelled_trace_is_scored_and_a_broken_one_told(tmp_path: Path) -> None:
    lines = ["at,power_w,apparent_va,label"]
    for second in range(60):
        on = 20 <= second < 40
        label = "kettle+laptop" if on else "laptop"
        lines.append(f"2026-03-02T12:00:{second:02d},{1560 if on else 60},{1562 if on else 80},{label}")
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    found = benchmark.score(benchmark.read_csv(path), 1.0, StepRules())
    assert (found.events, found.found, found.reports, found.right) == (1, 1, 1, 1)
    path.write_text("\n".join([*lines, "2026-03-02T12:01:00,1,1,spaceship"]), encoding="utf-8")
    with pytest.raises(SystemExit, match="spaceship"):
        benchmark.read_csv(path)
