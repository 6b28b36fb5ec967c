"""What the gateway does with proposals of policies (`books.policy_proposals`): tries them, takes them over.

What it took up may have changed when it comes back with its answer: withdrawn, asked about anew, in force
already. Each answer therefore counts only for the proposal as it was taken up.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books.policy_proposals import (
    DRY_RUN_VALID_S,
    SITE_FILE,
    Proposal,
    State,
    applied,
    audit,
    end,
    fingerprint_of,
    get,
    locked,
    proposal_of,
    write,
)
from dormpower.books.tables import policy_proposals


def waiting(connection: Connection) -> list[Proposal]:
    """Return what the gateway has to do, oldest first: dry runs that were asked for, and approved proposals."""
    query = (
        sa.select(policy_proposals)
        .where(
            sa.or_(
                policy_proposals.c.state == State.APPROVED.value,
                sa.and_(
                    policy_proposals.c.state == State.PROPOSED.value,
                    policy_proposals.c.dry_run_asked_at.is_not(None),
                    policy_proposals.c.dry_run_at.is_(None),
                ),
            )
        )
        .order_by(policy_proposals.c.proposal_id)
    )
    return [proposal_of(row) for row in connection.execute(query).mappings()]


def note_dry_run(
    connection: Connection, *, proposal: Proposal, result: Mapping[str, Any], now: datetime, real_now: datetime
) -> None:
    """Put down what the gateway found. `circuits` of it is the number that an approval has to name.

    Nothing is put down where the proposal was withdrawn meanwhile, or another dry run was asked for.
    """
    if not _is_as_taken(connection, proposal):
        return
    write(
        connection,
        proposal.proposal_id,
        dry_run_at=now,
        dry_run=dict(result),
        dry_run_valid_until_at=real_now + timedelta(seconds=DRY_RUN_VALID_S),
    )


def refuse(
    connection: Connection, *, proposal: Proposal, faults: Sequence[tuple[str, str]], actor: str, now: datetime
) -> bool:
    """Put down why the gateway can't work with a proposal; an approved one is a mere proposal again.

    False, and nothing is put down, where it is not what the gateway took up any more: withdrawn meanwhile,
    asked about anew, or in force already.
    """
    if not _is_as_taken(connection, proposal):
        return False
    write(
        connection,
        proposal.proposal_id,
        state=State.PROPOSED.value,
        refusal=[list(fault) for fault in faults],
        dry_run_at=now,
        dry_run=None,
        dry_run_valid_until_at=None,
    )
    detail = {"faults": [list(fault) for fault in faults]}
    audit(connection, proposal, action="policy.refused", actor=actor, detail=detail, now=now)
    return True


def take_over(connection: Connection, *, proposal_id: str, now: datetime) -> Proposal | None:
    """Put an approved proposal in force in place of its section's former one. None: it was withdrawn."""
    proposal = locked(connection, proposal_id)
    if proposal.state is not State.APPROVED:
        return None
    former = applied(connection).get(proposal.section)
    if former is not None:
        end(connection, former, State.SUPERSEDED, by=proposal_id, now=now)
    write(connection, proposal_id, state=State.APPLIED.value, applied_at=now)
    detail = {"content": dict(proposal.content), "note": proposal.note, "proposed_by": proposal.proposed_by}
    actor = proposal.approved_by or proposal.proposed_by
    audit(connection, proposal, action="policy.applied", actor=actor, detail=detail, now=now)
    return get(connection, proposal_id)


def lapse(connection: Connection, *, proposal: Proposal, actor: str, now: datetime, real_now: datetime) -> bool:
    """Make an approval that nobody took over in time a mere proposal again; True where that is so."""
    until = proposal.take_over_until_at
    if proposal.state is not State.APPROVED or until is None or real_now < until:
        return False
    if not _is_as_taken(connection, proposal):
        return False
    write(connection, proposal.proposal_id, state=State.PROPOSED.value, dry_run_valid_until_at=real_now)
    audit(connection, proposal, action="policy.lapsed", actor=actor, detail={}, now=now)
    return True


def supersede_changed(
    connection: Connection, own_sections: Mapping[str, Any], *, now: datetime
) -> list[Proposal]:
    """End the applied proposals whose section the site file has another content for since; return them."""
    found = [
        one
        for one in applied(connection).values()
        if fingerprint_of(own_sections.get(one.section)) != one.file_fingerprint
    ]
    for proposal in found:
        supersede(connection, proposal, faults=(), now=now)
    return found


def supersede(
    connection: Connection, proposal: Proposal, *, faults: Sequence[tuple[str, str]], now: datetime
) -> None:
    """Put the site file's own section in force again; `faults`: why the proposal's can't be, if that is so."""
    if faults:
        write(connection, proposal.proposal_id, refusal=[list(fault) for fault in faults])
    end(connection, proposal, State.SUPERSEDED, by=SITE_FILE, now=now)


def _is_as_taken(connection: Connection, proposal: Proposal) -> bool:
    """Whether a proposal that the gateway took up is still that; if so nobody else changes it until the end."""
    present = locked(connection, proposal.proposal_id)
    return (present.state, present.dry_run_asked_at, present.approved_at) == (
        proposal.state,
        proposal.dry_run_asked_at,
        proposal.approved_at,
    )
