"""The site file's section of alarms: when a building's openings are one, and each value that is none."""

from pathlib import Path

import pytest

from config.faults import UnableToLoadSiteError
from config.settings import load
from dormpower.domain.openings import OpeningsPolicy
from gateway.composition import openings_policy

SITE = """
site: {id: s, name: S, zone: Asia/Shanghai}
gateway: {poll_s: 20}
lines: [{id: a, transport: tcp, host: 127.0.0.1, port: 5020}]
modules: [{id: m1, profile: dormpower-dual, line: a, unit: 1}]
rooms:
  - {room_id: r-1, campus: south, building: "03", floor: "1", name: "101", lighting_module: m1,
      lighting_channel: 0, ac_module: m1, ac_channel: 1, rated_current_a: 20}
policies: {prices: [{from: 2026-01-01, kind: all, price_millifen_per_kwh: 56530}]}
"""


def site(folder: Path, alarms: str = "") -> Path:
    path = folder / "site.yaml"
    path.write_text(SITE + alarms, encoding="utf-8")
    return path


def test_without_it_ten_circuits_and_half_of_them_within_two_polls_are_one(tmp_path: Path) -> None:
    assert load(site(tmp_path)).openings == OpeningsPolicy(circuits=10, share=0.5, window_s=40, poll_s=20)


def test_it_is_taken_over_and_follows_a_clock_that_runs_fast(tmp_path: Path) -> None:
    settings = load(site(tmp_path, "alarms: {building_opened: {circuits: 4, share: 0.8, polls: 1}}\n"))
    assert openings_policy(settings, speed=10.0) == OpeningsPolicy(
        circuits=4, share=0.8, window_s=220, poll_s=200, lag_s=20
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("circuits: 1", "circuits: expected 2–100000 circuits, got 1"),
        ("share: 0", "share: expected a share above 0, at most 1, got 0"),
        ("share: .nan", "share: expected a share above 0, at most 1, got '.nan'"),
        ("polls: 0", "polls: expected 1–20 poll cycles, got 0"),
    ],
)
def test_a_value_that_is_none_is_told(tmp_path: Path, value: str, expected: str) -> None:
    with pytest.raises(UnableToLoadSiteError) as refusal:
        load(site(tmp_path, f"alarms: {{building_opened: {{{value}}}}}\n"))
    (fault,) = refusal.value.faults
    assert str(fault).endswith(f"site.yaml: alarms.building_opened.{expected}")
