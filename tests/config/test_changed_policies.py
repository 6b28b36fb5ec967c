"""A site with other contents of some sections of its policies, checked as the site file is."""

from pathlib import Path

import pytest

from config.changed_policies import policy_sections, policy_sections_on_disk, with_policies
from config.faults import UnableToLoadSiteError
from config.settings import Settings, load
from dormpower.domain.holds import Enforcement
from dormpower.domain.scopes import Where

SITE = """
site: {id: s, name: S}
lines: [{id: a, transport: tcp, host: 127.0.0.1, port: 5020}]
modules: [{id: m1, profile: dormpower-dual, line: a, unit: 1}]
rooms:
  - {room_id: r1, campus: c, building: b, floor: 1, name: 1, lighting_module: m1, lighting_channel: 0,
     rated_current_a: 32}
policies:
  prices: [{from: 2026-01-01, price_millifen_per_kwh: 56530}]
  overload: {limit_w: 2000, mode: shadow}
  shedding: {mode: off}
"""
WHERE = Where(campus="c", building="b", room_id="r1", kind="lighting")


@pytest.fixture
def site(tmp_path: Path) -> Settings:
    path = tmp_path / "site.yaml"
    path.write_text(SITE, encoding="utf-8")
    return load(path)


def test_only_the_sections_that_are_named_become_others(site: Settings):
    changed = with_policies(site, {"overload": {"limit_w": 1500, "mode": "enforce"}})
    policy = changed.policies.overload.at(WHERE)
    assert (policy.limit_w, policy.mode) == (1500, Enforcement.ENFORCE)
    assert changed.policies.shedding.mode is Enforcement.OFF
    assert (changed.policies.prices, changed.site) == (site.policies.prices, site.site)
    assert site.policies.overload.at(WHERE).limit_w == 2000


def test_a_section_is_replaced_as_a_whole_and_starts_from_the_file_each_time(site: Settings):
    changed = with_policies(with_policies(site, {"shedding": {"mode": "enforce"}}), {"overload": {}})
    assert changed.policies.overload.at(WHERE).limit_w is None
    assert changed.policies.shedding.mode is Enforcement.OFF
    assert policy_sections(changed)["overload"] == {"limit_w": 2000, "mode": "shadow"}


@pytest.mark.parametrize(
    ("content", "faults"),
    [
        (
            {"debounce_samples": 1, "mdoe": "off"},
            {
                "policies.overload.debounce_samples: expected 2–100 samples, got 1",
                "policies.overload.mdoe: unknown key, did you mean mode?",
            },
        ),
        (
            {"overrides": [{"building": "bb", "mode": "off"}]},
            {"policies.overload.overrides[0].building: unknown building 'bb', did you mean b?"},
        ),
        (["limit_w"], {"policies.overload: expected a mapping, got a list of 1"}),
    ],
)
def test_every_fault_is_told_with_its_key_what_was_found_and_what_was_expected(site, content, faults):
    with pytest.raises(UnableToLoadSiteError) as refusal:
        with_policies(site, {"overload": content})
    assert {f"{fault.key}: {fault.message}" for fault in refusal.value.faults} == faults


def test_the_sections_on_disk_are_those_of_now(site: Settings):
    site.path.write_text(SITE.replace("limit_w: 2000", "limit_w: 1000"), encoding="utf-8")
    assert policy_sections_on_disk(site)["overload"] == {"limit_w": 1000, "mode": "shadow"}
    assert policy_sections(site)["overload"] == {"limit_w": 2000, "mode": "shadow"}
    site.path.write_text(SITE[: SITE.index("policies:")], encoding="utf-8")
    assert policy_sections_on_disk(site) == {}
    site.path.write_text("policies: [", encoding="utf-8")
    assert policy_sections_on_disk(site) == policy_sections(site)
