"""All policies of the gateway. A new one is a file of rules and one line here."""

from collections.abc import Sequence

from dormpower.domain.arrears import ArrearsPolicy
from dormpower.domain.prohibited import ProhibitedPolicy
from dormpower.domain.protection import OverloadPolicy
from gateway.night_limits import NightLimits
from gateway.policies import ArrearsRule, Placed, Policy
from gateway.protection_rules import OverloadRule, ProhibitedRule
from gateway.schedule_rule import ScheduleRule

DEFAULT_MAX_GAP_S = 150.0


def build_policies(
    *,
    arrears: Placed[ArrearsPolicy],
    overload: Placed[OverloadPolicy] | None = None,
    prohibited: Placed[ProhibitedPolicy] | None = None,
    night: NightLimits | None = None,
    schedule: ScheduleRule | None = None,
    max_gap_s: float = DEFAULT_MAX_GAP_S,
) -> Sequence[Policy]:
    """Return the policies in the order in which they are asked; what is not given is not in force."""
    return (
        OverloadRule(overload or Placed(by_circuit={}, configured={}), max_gap_s, night),
        ProhibitedRule(prohibited or Placed(by_circuit={}, configured={})),
        ArrearsRule(arrears),
        *(() if schedule is None else (schedule,)),
    )
