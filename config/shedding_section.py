"""The site file's section of feeder shedding, and the domain's policy of it."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from config.faults import Findings, did_you_mean
from config.policy_sections import PartOfSite
from config.site_values import Int, Mode, Seconds, Section, Slug
from dormpower.domain.feeder_facts import ShedAs, SheddingPolicy, ShedPlace, TreeMode
from dormpower.domain.holds import Enforcement
from dormpower.domain.scopes import Scope

DEFAULT = SheddingPolicy()


class SheddingOverride(PartOfSite):
    """How the circuits of a part of the site are shed."""

    shed: Literal["in_turn", "last", "never"] = Field(description="in_turn, last or never")


class TreeModeRow(Section):
    """The mode of a feeder and of all that hangs on it."""

    feeder: Slug
    mode: Mode = Field(description="enforce, shadow or off")


class SheddingSection(Section):
    """Who is taken off a feeder that is over its limit, and for how long."""

    mode: Mode = Field(default="shadow", description="enforce, shadow or off")
    cycle_s: float = Field(default=DEFAULT.cycle_s, ge=1, le=60, description="1–60 seconds")
    window_s: Seconds = Field(default=DEFAULT.window_s, description="seconds above 0, at most 86400")
    look_ahead_s: float = Field(default=DEFAULT.look_ahead_s, ge=0, le=900, description="0–900 seconds")
    shed_to: float = Field(default=DEFAULT.shed_to, ge=0.5, le=1, description="a share of the limit, 0.5–1")
    restore_below: float = Field(
        default=DEFAULT.restore_below, ge=0.3, le=1, description="a share of the limit, 0.3–1"
    )
    sustained_s: Seconds = Field(default=DEFAULT.sustained_s, description="seconds above 0, at most 86400")
    max_off_s: Seconds = Field(default=DEFAULT.max_off_s, description="seconds above 0, at most 86400")
    rotate_after_s: Seconds = Field(
        default=DEFAULT.rotate_after_s, description="seconds above 0, at most 86400"
    )
    min_on_s: Seconds = Field(default=DEFAULT.min_on_s, description="seconds above 0, at most 86400")
    min_between_s: Seconds = Field(default=DEFAULT.min_between_s, description="seconds above 0, at most 86400")
    pickup: float = Field(default=DEFAULT.pickup, ge=1, le=4, description="1–4 times what was drawn before")
    pickup_s: Seconds = Field(default=DEFAULT.pickup_s, description="seconds above 0, at most 86400")
    draws_w: Int = Field(default=DEFAULT.draws_w, ge=1, le=100_000, description="whole watts, 1–100000")
    restores_at_once: Int = Field(
        default=DEFAULT.restores_at_once, ge=1, le=1000, description="1–1000 circuits"
    )
    priorities: tuple[Literal["ac", "lighting"], ...] = Field(
        default=("ac",), description="kinds in the order in which they are shed: [ac] or [ac, lighting]"
    )
    modes: tuple[TreeModeRow, ...] = Field(default=(), description="a list of {feeder: …, mode: …}")
    overrides: tuple[SheddingOverride, ...] = Field(default=(), description="a list of overrides")


def shedding_of(section: SheddingSection) -> SheddingPolicy:
    """Return the domain's policy."""
    places = tuple(
        ShedPlace(
            scope=Scope(campus=row.campus, building=row.building, room_id=row.room, kind=row.kind),
            shed=ShedAs(row.shed),
        )
        for row in section.overrides
    )
    modes = tuple(TreeMode(root_id=row.feeder, mode=Enforcement(row.mode)) for row in section.modes)
    values = section.model_dump(exclude={"overrides", "modes"})
    return SheddingPolicy(**{**values, "mode": Enforcement(section.mode), "places": places, "modes": modes})


def check_shedding(section: SheddingSection, *, parents: Mapping[str, str | None], findings: Findings) -> None:
    """Note values that don't go together; `parents` are those of the site's feeders."""
    place = "policies.shedding"
    for index, row in enumerate(section.modes):
        key = f"{place}.modes[{index}].feeder"
        above = parents.get(row.feeder)
        if row.feeder not in parents:
            findings.refuse(key, f"unknown feeder {row.feeder!r}{did_you_mean(row.feeder, [*parents])}")
        elif above in parents:
            findings.refuse(key, f"expected a feeder at the top of its tree: {row.feeder} hangs on {above}")
        elif row.feeder in {one.feeder for one in section.modes[:index]}:
            findings.refuse(key, f"the mode of {row.feeder} is given twice")
    if section.restore_below >= section.shed_to:
        findings.refuse(
            f"{place}.restore_below",
            f"expected less than shed_to ({section.shed_to:g}), got {section.restore_below:g}",
        )
    if section.rotate_after_s >= section.max_off_s:
        findings.refuse(
            f"{place}.rotate_after_s",
            f"expected less than max_off_s ({section.max_off_s:g}), got {section.rotate_after_s:g}",
        )
    if len(set(section.priorities)) != len(section.priorities):
        findings.refuse(f"{place}.priorities", "expected each kind once")
    if section.priorities[:1] == ("lighting",):
        findings.refuse(f"{place}.priorities", "expected ac before lighting: lighting is shed last or never")
