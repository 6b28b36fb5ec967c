"""What a start makes of policies that were changed: versions on record, and no hold without a rule behind it.

A rule that is off or in shadow (for a circuit) releases its enforced holds here, in the transaction that puts
the new version on record and audits both. So a disabled rule leaves nobody in the dark until the next sample.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy.engine import Connection

from dormpower.books import holds, policies
from dormpower.domain.holds import Enforcement
from gateway.policies import Policy


def take_over(connection: Connection, configured: Sequence[Policy], *, shadow_only: bool, now: datetime) -> int:
    """Record versions and release what is no longer in force; return how many holds were released.

    `shadow_only`: restored books that nobody has confirmed yet; every rule is in shadow then.
    """
    by_rule = {policy.rule: policy for policy in configured}
    for policy in configured:
        policies.record(connection, rule=policy.rule, described=policy.described(), now=now)
    released = 0
    for circuit_id, standing in holds.standing(connection).items():
        for hold in standing:
            policy_of_hold = by_rule.get(hold.placed_by)
            if policy_of_hold is None:
                continue  # a person's, the module's own, or of a rule that keeps its own holds
            mode = policy_of_hold.mode_of(circuit_id)
            if shadow_only and mode is Enforcement.ENFORCE:
                mode = Enforcement.SHADOW
            if mode is not (Enforcement.SHADOW if hold.shadow else Enforcement.ENFORCE):
                released += holds.release(
                    connection,
                    hold_id=hold.hold_id,
                    released_by=hold.placed_by,
                    evidence={"cause": f"policy_{mode}"},
                    now=now,
                )
    return released
