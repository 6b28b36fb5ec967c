"""What becomes of policies that were changed: versions on record, and no hold without a rule behind it.

A rule that is off or in shadow (for a circuit) releases its enforced holds here, in the transaction that puts
the new version on record and audits both. So a disabled rule leaves nobody in the dark until the next sample.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.engine import Connection

from dormpower.books import holds, policies
from dormpower.domain import spread
from dormpower.domain.spread import SpreadPolicy
from gateway.policies import Policy, Timed, described, in_shadow_only


def take_over(
    connection: Connection,
    configured: Sequence[Policy],
    closings: SpreadPolicy | None,
    *,
    shadow_only: bool,
    now: datetime,
    actor: str = policies.ACTOR,
) -> int:
    """Record versions and release what is no longer in force; return how many holds were released.

    `shadow_only`: restored books that nobody has confirmed yet; every rule is in shadow then. `actor` is who
    has changed the policies.
    """
    by_rule = {policy.rule: policy for policy in configured}
    for policy in configured:
        policies.record(connection, rule=policy.rule, described=policy.described(), actor=actor, now=now)
        if isinstance(policy, Timed):
            policy.refresh(connection, now=now)
    if closings is not None:
        policies.record(connection, rule=spread.RULE, described=described(closings), actor=actor, now=now)
    released = 0
    for circuit_id, standing in holds.standing(connection).items():
        for hold in standing:
            policy_of_hold = by_rule.get(hold.placed_by)
            if policy_of_hold is None:
                continue  # a person's, the module's own, or of a rule that keeps its own holds
            if not policy_of_hold.keeps(circuit_id, hold, shadow_only=shadow_only, now=now):
                mode = in_shadow_only(policy_of_hold.mode_of(circuit_id), shadow_only=shadow_only)
                released += holds.release(
                    connection,
                    hold_id=hold.hold_id,
                    released_by=hold.placed_by,
                    evidence={"cause": f"policy_{mode}"},
                    now=now,
                )
    return released
