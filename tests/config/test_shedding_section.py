"""The site file's section of shedding: the domain's defaults, and each contradiction told."""

from typing import Any

import pytest
from pydantic import ValidationError

from config.faults import Findings
from config.shedding_section import SheddingSection, check_shedding, shedding_of
from dormpower.domain.feeder_facts import ShedAs, SheddingPolicy, ShedPlace
from dormpower.domain.scopes import Scope


def test_an_empty_section_is_the_domain_s_own_policy_in_shadow() -> None:
    assert shedding_of(SheddingSection()) == SheddingPolicy()


@pytest.mark.parametrize(
    ("values", "key", "told"),
    [
        ({"restore_below": 0.98}, "restore_below", "less than shed_to (0.97), got 0.98"),
        ({"rotate_after_s": 900}, "rotate_after_s", "less than max_off_s (900), got 900"),
        ({"priorities": ("ac", "ac")}, "priorities", "each kind once"),
        ({"priorities": ("lighting", "ac")}, "priorities", "lighting is shed last or never"),
        ({"modes": [{"feeder": "bb", "mode": "off"}]}, "modes[0].feeder", "unknown feeder 'bb'"),
        ({"modes": [{"feeder": "floor", "mode": "off"}]}, "modes[0].feeder", "floor hangs on b"),
        ({"modes": [{"feeder": "b", "mode": "off"}] * 2}, "modes[1].feeder", "given twice"),
    ],
)
def test_values_that_don_t_go_together_are_told(values: dict[str, Any], key: str, told: str) -> None:
    findings = Findings("site.yaml")
    check_shedding(
        SheddingSection.model_validate(values), parents={"b": "away", "floor": "b"}, findings=findings
    )
    (fault,) = findings.faults
    assert fault.key == f"policies.shedding.{key}"
    assert told in str(fault)


def test_places_are_taken_over_in_their_order() -> None:
    section = SheddingSection.model_validate(
        {"overrides": [{"building": "07", "shed": "never"}, {"room": "r-1", "shed": "last"}]}
    )
    assert shedding_of(section).places == (
        ShedPlace(scope=Scope(building="07"), shed=ShedAs.NEVER),
        ShedPlace(scope=Scope(room_id="r-1"), shed=ShedAs.LAST),
    )


def test_a_share_above_the_limit_is_refused() -> None:
    with pytest.raises(ValidationError):
        SheddingSection(shed_to=1.1)
