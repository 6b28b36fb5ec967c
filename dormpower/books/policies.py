"""Policies in the books: as which each was configured and since when, and what rules remember of circuits.

A rule that changed counts for the breaker for a day (invariant 24). A rule's first configuration in these books
is a change too: nobody has seen yet what it does here.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from dormpower.books import audit_log
from dormpower.books.tables import policy_versions, rule_memories

ACTOR = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """A rule as it is configured, and since when."""

    rule: str
    fingerprint: str
    changed_at: datetime
    described: Mapping[str, Any]


def fingerprint_of(described: Mapping[str, Any]) -> str:
    """Return what two equal descriptions share, whatever the order of their keys."""
    text = json.dumps(described, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def record(
    connection: Connection, *, rule: str, described: Mapping[str, Any], now: datetime, actor: str = ACTOR
) -> PolicyVersion:
    """Put on record how a rule is configured; a change is audited. Returns the version in force.

    `actor` is who has changed it: the gateway where it found another site file.
    """
    fingerprint = fingerprint_of(described)
    row = (
        connection.execute(sa.select(policy_versions).where(policy_versions.c.rule == rule)).mappings().first()
    )
    if row is not None and row["fingerprint"] == fingerprint:
        return PolicyVersion(**row)
    version = {"fingerprint": fingerprint, "changed_at": now, "described": dict(described)}
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(
        insert(policy_versions)
        .values(rule=rule, **version)
        .on_conflict_do_update(index_elements=[policy_versions.c.rule], set_=version)
    )
    audit_log.write(
        connection,
        actor=actor,
        action="policy.changed",
        subject_kind="policy",
        subject_id=rule,
        detail={"before": None if row is None else row["described"], "after": dict(described)},
        now=now,
    )
    return PolicyVersion(rule=rule, fingerprint=fingerprint, changed_at=now, described=described)


def versions(connection: Connection) -> dict[str, PolicyVersion]:
    """Return every rule's version by its name."""
    rows = connection.execute(sa.select(policy_versions).order_by(policy_versions.c.rule)).mappings()
    return {row["rule"]: PolicyVersion(**row) for row in rows}


def memories(
    connection: Connection, circuit_ids: Sequence[str] | None = None
) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Return what rules remember, by circuit and rule; of all circuits by default."""
    query = sa.select(rule_memories)
    if circuit_ids is not None:
        query = query.where(rule_memories.c.circuit_id.in_(list(circuit_ids)))
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in connection.execute(query):
        found.setdefault(row.circuit_id, {})[row.rule] = row.memory
    return found


def remember(connection: Connection, *, circuit_id: str, rule: str, memory: Mapping[str, Any] | None) -> None:
    """Write what a rule remembers of a circuit; None forgets it."""
    if memory is None:
        connection.execute(
            sa.delete(rule_memories).where(
                rule_memories.c.circuit_id == circuit_id, rule_memories.c.rule == rule
            )
        )
        return
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(
        insert(rule_memories)
        .values(circuit_id=circuit_id, rule=rule, memory=dict(memory))
        .on_conflict_do_update(
            index_elements=[rule_memories.c.circuit_id, rule_memories.c.rule], set_={"memory": dict(memory)}
        )
    )
