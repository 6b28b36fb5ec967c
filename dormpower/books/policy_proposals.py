"""Changes of policies while the site runs: proposed, tried against the present, approved, taken over.

Theory of operation. A proposal names one section of the site file's `policies` and its whole new content, as it
would stand in the file. The gateway, which alone knows the present, says what it would do (the *dry run*). An
admin approves it by naming the number of circuits that the dry run said would be cut; the gateway then takes it
over in one transaction with everything that follows from it. Until then the proposal changes nothing.

An applied section stands until another one of the same section is applied, or until the site file's own section
has become another than it was at the approval: the newest of the two is in force. The file is never written.

A dry run is good for some minutes, and only as long as no other change is approved after it; an approval that
no gateway takes over in time lapses. Both are real time: facts move on, and so do people. While a restore
awaits its confirmation nothing is approved: every dry run says that nothing would be cut, and the confirmation
makes that untrue.

Here is what people do with proposals; what the gateway does with them is `books.policy_takeovers`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from dormpower.books import audit_log, policies, shadow
from dormpower.books.database import lock_rows
from dormpower.books.ids import new_id
from dormpower.books.tables import policy_proposals

SECTIONS = (
    "arrears",
    "overload",
    "prohibited",
    "shedding",
    "curfew",
    "night_mode",
    "min_off",
    "trips",
    "closings",
)
SITE_FILE = "site file"

DRY_RUN_VALID_S = 600
TAKE_OVER_S = 300


class UnableToProposeError(Exception):
    """The proposal can't be made; the message says why."""


class UnableToFindProposalError(Exception):
    """There is no proposal of this id."""


class UnableToChangeProposalError(Exception):
    """The proposal's state, or its dry run, does not allow it; the message says why and what to do."""


class State(StrEnum):
    """How far a proposal has come."""

    PROPOSED = "proposed"
    APPROVED = "approved"  # the gateway is to take it over
    APPLIED = "applied"
    WITHDRAWN = "withdrawn"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A proposal as it stands. `refusal` are the faults, as (key, message), for which it can't be in force."""

    proposal_id: str
    section: str
    content: Mapping[str, Any]
    note: str
    proposed_by: str
    proposed_at: datetime
    state: State
    dry_run_asked_at: datetime | None
    dry_run_at: datetime | None
    dry_run: Mapping[str, Any] | None
    dry_run_valid_until_at: datetime | None
    refusal: Sequence[Sequence[str]] | None
    approved_by: str | None
    approved_at: datetime | None
    take_over_until_at: datetime | None
    file_fingerprint: str | None
    applied_at: datetime | None
    ended_by: str | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionInForce:
    """A section with where it comes from, `file` or `proposal`; `content` None where the file has none."""

    section: str
    source: str
    proposal_id: str | None
    applied_at: datetime | None
    content: Mapping[str, Any] | None


def fingerprint_of(content: object) -> str:
    """Return what tells one content of a section from another; what the file leaves out is None."""
    return policies.fingerprint_of({"content": content})


def propose(
    connection: Connection, *, section: str, content: Mapping[str, Any], note: str, actor: str, now: datetime
) -> Proposal:
    """Put a proposal on record; the caller has checked it as the site file is. Raises UnableToProposeError."""
    if section not in SECTIONS:
        raise UnableToProposeError(f"section: expected one of {', '.join(SECTIONS)}, got {section!r}")
    if not note.strip():
        raise UnableToProposeError("note: expected why this is proposed, got nothing")
    proposal_id = new_id("pol", now)
    connection.execute(
        sa.insert(policy_proposals).values(
            proposal_id=proposal_id,
            section=section,
            content=dict(content),
            note=note,
            proposed_by=actor,
            proposed_at=now,
            state=State.PROPOSED.value,
        )
    )
    proposal = get(connection, proposal_id)
    detail = {"content": dict(content), "note": note}
    audit(connection, proposal, action="policy.proposed", actor=actor, detail=detail, now=now)
    return proposal


def get(connection: Connection, proposal_id: str) -> Proposal:
    """Return a proposal. Raises UnableToFindProposalError."""
    return _get(connection, sa.select(policy_proposals), proposal_id)


def listing(
    connection: Connection, *, state: State | None = None, limit: int, cursor: str | None = None
) -> tuple[list[Proposal], str | None]:
    """Return proposals, newest first, and the cursor of the next page."""
    query = sa.select(policy_proposals).order_by(policy_proposals.c.proposal_id.desc()).limit(limit + 1)
    if state is not None:
        query = query.where(policy_proposals.c.state == state.value)
    if cursor is not None:
        query = query.where(policy_proposals.c.proposal_id < cursor)
    found = [proposal_of(row) for row in connection.execute(query).mappings()]
    return found[:limit], found[limit - 1].proposal_id if len(found) > limit else None


def applied(connection: Connection) -> dict[str, Proposal]:
    """Return the proposals that are in force, by section."""
    query = sa.select(policy_proposals).where(policy_proposals.c.state == State.APPLIED.value)
    return {row["section"]: proposal_of(row) for row in connection.execute(query).mappings()}


def contents(connection: Connection) -> dict[str, Mapping[str, Any]]:
    """Return the contents that stand in place of the site file's, by section."""
    return {section: one.content for section, one in applied(connection).items()}


def in_force(connection: Connection, own_sections: Mapping[str, Any]) -> list[SectionInForce]:
    """Return every section as it is in force; `own_sections` are the site file's."""
    standing = applied(connection)
    return [
        SectionInForce(
            section=section,
            source="proposal" if section in standing else "file",
            proposal_id=standing[section].proposal_id if section in standing else None,
            applied_at=standing[section].applied_at if section in standing else None,
            content=standing[section].content if section in standing else own_sections.get(section),
        )
        for section in SECTIONS
    ]


# --- the dry run ------------------------------------------------------------------------------------------


def ask_dry_run(connection: Connection, *, proposal_id: str, now: datetime) -> Proposal:
    """Ask the gateway what the proposal would do now. Raises UnableToChangeProposalError."""
    _require(locked(connection, proposal_id), State.PROPOSED)
    write(connection, proposal_id, dry_run_asked_at=now, dry_run_at=None, dry_run=None, refusal=None)
    return get(connection, proposal_id)


# --- approving ----------------------------------------------------------------------------------------------


def approve(
    connection: Connection,
    *,
    proposal_id: str,
    circuits: int,
    file_fingerprint: str,
    actor: str,
    now: datetime,
    real_now: datetime,
) -> Proposal:
    """Have the gateway take a proposal over. `circuits` is the number that the dry run said would be cut.

    Raises UnableToChangeProposalError; then nothing was changed.
    """
    lock_rows(connection, "policy_approval")  # of two dry runs neither knows what the other's change would do
    proposal = locked(connection, proposal_id)
    _require(proposal, State.PROPOSED)
    if shadow.awaits_confirmation(connection):
        raise UnableToChangeProposalError(
            f"proposal {proposal_id}: the restore of this site awaits its confirmation; "
            "confirm it first with `dormpower restore --confirm`, then ask for another dry run"
        )
    if proposal.refusal:
        raise UnableToChangeProposalError(
            f"proposal {proposal_id}: the gateway can't work with it: {_told(proposal.refusal)}"
        )
    if proposal.dry_run is None or proposal.dry_run_at is None or proposal.dry_run_valid_until_at is None:
        raise UnableToChangeProposalError(f"proposal {proposal_id}: no dry run yet; ask for one first")
    if real_now >= proposal.dry_run_valid_until_at:
        raise UnableToChangeProposalError(
            f"proposal {proposal_id}: the dry run is older than {DRY_RUN_VALID_S // 60} min; ask for another"
        )
    if proposal.dry_run.get("basis", {}).get("in_shadow"):
        raise UnableToChangeProposalError(
            f"proposal {proposal_id}: its dry run is from before the restore was confirmed, "
            "when nothing was cut; ask for another"
        )
    if _changed_since(connection, proposal.dry_run_at):
        raise UnableToChangeProposalError(
            f"proposal {proposal_id}: policies were changed after its dry run; ask for another"
        )
    said = proposal.dry_run["circuits"]
    if circuits != said:
        raise UnableToChangeProposalError(
            f"circuits: the dry run said {said} would be cut, you confirm {circuits}; nothing was changed"
        )
    write(
        connection,
        proposal_id,
        state=State.APPROVED.value,
        approved_by=actor,
        approved_at=now,
        take_over_until_at=real_now + timedelta(seconds=TAKE_OVER_S),
        file_fingerprint=file_fingerprint,
    )
    detail = {"circuits": circuits, "dry_run_at": proposal.dry_run_at.isoformat()}
    audit(connection, proposal, action="policy.approved", actor=actor, detail=detail, now=now)
    return get(connection, proposal_id)


def withdraw(connection: Connection, *, proposal_id: str, actor: str, now: datetime) -> Proposal:
    """Take back a proposal that is not in force yet. Raises UnableToChangeProposalError."""
    proposal = locked(connection, proposal_id)
    _require(proposal, State.PROPOSED, State.APPROVED)
    end(connection, proposal, State.WITHDRAWN, by=actor, now=now)
    return get(connection, proposal_id)


# --- what every step needs --------------------------------------------------------------------------------


def _changed_since(connection: Connection, at: datetime) -> bool:
    """Whether what a dry run of `at` started from, the rules in force, has changed since or is about to."""
    found = connection.scalar(
        sa.select(sa.func.count())
        .select_from(policy_proposals)
        .where(
            sa.or_(
                policy_proposals.c.state == State.APPROVED.value,
                policy_proposals.c.applied_at > at,
                sa.and_(
                    policy_proposals.c.state == State.SUPERSEDED.value,
                    policy_proposals.c.ended_by == SITE_FILE,
                    policy_proposals.c.ended_at > at,
                ),
            )
        )
    )
    return bool(found)


def locked(connection: Connection, proposal_id: str) -> Proposal:
    """Return a proposal that nobody else changes until the transaction ends."""
    return _get(connection, sa.select(policy_proposals).with_for_update(), proposal_id)


def _get(connection: Connection, query: sa.Select[Any], proposal_id: str) -> Proposal:
    row = connection.execute(query.where(policy_proposals.c.proposal_id == proposal_id)).mappings().first()
    if row is None:
        raise UnableToFindProposalError(f"proposal {proposal_id}: there is none of this id")
    return proposal_of(row)


def _require(proposal: Proposal, *states: State) -> None:
    if proposal.state not in states:
        raise UnableToChangeProposalError(
            f"proposal {proposal.proposal_id}: expected {' or '.join(states)}, it is {proposal.state}"
        )


def end(connection: Connection, proposal: Proposal, state: State, *, by: str, now: datetime) -> None:
    """End a proposal: a person took it back, or something else is in force instead."""
    write(connection, proposal.proposal_id, state=state.value, ended_by=by, ended_at=now)
    actor = policies.ACTOR if state is State.SUPERSEDED else by
    audit(connection, proposal, action=f"policy.{state}", actor=actor, detail={"by": by}, now=now)


def write(connection: Connection, proposal_id: str, **values: Any) -> None:
    """Write some columns of a proposal."""
    connection.execute(
        sa.update(policy_proposals).where(policy_proposals.c.proposal_id == proposal_id).values(**values)
    )


def _told(faults: Sequence[Sequence[str]]) -> str:
    return "; ".join(": ".join(fault) for fault in faults[:3])


def proposal_of(row: sa.RowMapping) -> Proposal:
    """Return the proposal of a row."""
    return Proposal(**{**row, "state": State(row["state"])})


def audit(
    connection: Connection,
    proposal: Proposal,
    *,
    action: str,
    actor: str,
    detail: Mapping[str, Any],
    now: datetime,
) -> None:
    """Put on record what was done with a proposal."""
    audit_log.write(
        connection,
        actor=actor,
        action=action,
        subject_kind="policy_proposal",
        subject_id=proposal.proposal_id,
        detail={"section": proposal.section, **detail},
        now=now,
    )
