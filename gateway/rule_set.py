"""All that a change of policies replaces in a running gateway, made of one site's settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from config.settings import Settings
from dormpower.domain import spread, switching, trips
from dormpower.domain.feeder_facts import SheddingPolicy
from dormpower.domain.protection import OverloadPolicy
from dormpower.domain.scopes import where_of
from dormpower.domain.spread import SpreadPolicy
from gateway.composition import controlled_circuits, shedding_policy
from gateway.control_memory import ControlledCircuit
from gateway.night_limits import NightLimits
from gateway.placed_policies import configured, placed_arrears, placed_overload, placed_prohibited
from gateway.policies import Policy, described
from gateway.rules import build_policies
from gateway.schedule_rule import ScheduleRule


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """What control, the modules' own limits and shedding go by.

    `plain` describes the rules that place no holds: what they say is in `closings` and `circuits`. `shedding`
    is at this clock's speed and, for restored books that nobody has confirmed, in shadow;
    `shedding_configured` is the same as the site has it.
    """

    policies: Sequence[Policy]
    plain: Mapping[str, Mapping[str, Any]]
    circuits: Mapping[str, ControlledCircuit]
    closings: SpreadPolicy
    warning_channels: Sequence[str]
    overload: Mapping[str, OverloadPolicy]
    night: NightLimits
    shedding: SheddingPolicy
    shedding_configured: SheddingPolicy


def rule_set(settings: Settings, *, in_shadow: bool, speed: float) -> RuleSet:
    """Compose the rules of a site."""
    stale_after_s = settings.stale_after_s * speed
    overload, where = placed_overload(settings), where_of(settings.site)
    night = NightLimits(settings.policies.curfew, where)
    return RuleSet(
        policies=build_policies(
            arrears=placed_arrears(settings),
            overload=overload,
            night=night,
            prohibited=placed_prohibited(settings, max_gap_s=stale_after_s),
            schedule=ScheduleRule(settings.policies.curfew, where),
            max_gap_s=stale_after_s,
        ),
        plain={
            spread.RULE: described(settings.policies.closings),
            switching.RULE: configured(settings.policies.min_off),
            trips.RULE: configured(settings.policies.trips),
        },
        circuits=controlled_circuits(settings),
        closings=settings.policies.closings,
        warning_channels=settings.policies.warning_channels,
        overload=overload.by_circuit,
        night=night,
        shedding=shedding_policy(settings, shadow=in_shadow, speed=speed),
        shedding_configured=settings.policies.shedding,
    )
