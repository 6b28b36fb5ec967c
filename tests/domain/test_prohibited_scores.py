"""The benchmark of the prohibited-load rule: its scores don't fall, and it reads labelled traces."""

from pathlib import Path

import pytest

from benchmarks import prohibited_load as benchmark
from dormpower.domain.loadsteps import StepRules


def test_simulated_appliances_on_unseen_seeds_keep_their_scores() -> None:
    scores = benchmark.table([benchmark.simulated_room(201)], periods_s=(5.0, 30.0))
    assert (scores[5.0].precision or 0) >= 0.95
    assert (scores[5.0].recall or 0) >= 0.95
    assert (scores[30.0].precision or 0) >= 0.8


def test_a_room_mixed_from_real_recordings_keeps_its_scores() -> None:
    folder = benchmark.data_folder() / "tracebase"
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}: set DORMPOWER_DATA")
    scores = benchmark.table([benchmark.mixed_room(benchmark.read_recordings(folder), 301)], periods_s=(5.0,))
    assert (scores[5.0].precision or 0) >= 0.9


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
