"""What becomes of policies that were changed: versions on record, and no hold without a rule behind it.

A rule that is off or in shadow (for a circuit) releases its enforced holds here, in the transaction that puts
the new version on record and audits both. So a disabled rule leaves nobody in the dark until the next sample.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from dormpower.books import holds, policies
from gateway.policies import Policy, Timed, in_shadow_only


def record_plain(
    connection: Connection,
    described: Mapping[str, Mapping[str, Any]],
    *,
    now: datetime,
    actor: str = policies.ACTOR,
) -> None:
    """Record versions of rules that place no holds: how soon, how often and how many relays close."""
    for rule, one in described.items():
        policies.record(connection, rule=rule, described=one, actor=actor, now=now)


def take_over(
    connection: Connection,
    configured: Sequence[Policy],
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
    let_go: dict[tuple[str, str], list[str]] = {}
    for circuit_id, standing in holds.standing(connection).items():
        for hold in standing:
            policy_of_hold = by_rule.get(hold.placed_by)
            if policy_of_hold is None:
                continue  # a person's, the module's own, or of a rule that keeps its own holds
            if not policy_of_hold.keeps(circuit_id, hold, shadow_only=shadow_only, now=now):
                mode = in_shadow_only(policy_of_hold.mode_of(circuit_id), shadow_only=shadow_only)
                let_go.setdefault((hold.placed_by, mode.value), []).append(hold.hold_id)
    return sum(
        holds.release_all(connection, hold_ids, released_by=rule, evidence={"cause": f"policy_{mode}"}, now=now)
        for (rule, mode), hold_ids in let_go.items()
    )
