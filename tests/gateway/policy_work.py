"""Proposing, trying and approving changes of policies of a composed site, as the API does it."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from dormpower.books import policy_proposals
from dormpower.books.policy_proposals import Proposal
from dormpower.books.tables import audit_log
from tests.gateway.composed_site import ComposedSite

PROPOSER, APPROVER = "mai", "ada"


def propose(site: ComposedSite, section: str, content: Mapping[str, Any]) -> str:
    with site.books.write() as connection:
        proposal = policy_proposals.propose(
            connection, section=section, content=content, note="x", actor=PROPOSER, now=site.clock.now()
        )
    return proposal.proposal_id


def get(site: ComposedSite, proposal_id: str) -> Proposal:
    with site.books.read() as connection:
        return policy_proposals.get(connection, proposal_id)


def look(site: ComposedSite) -> None:
    site.run(site.gateway.desk.look)


def dry_run(site: ComposedSite, section: str, content: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Propose a change and have the gateway try it."""
    proposal_id = propose(site, section, content)
    with site.books.write() as connection:
        policy_proposals.ask_dry_run(connection, proposal_id=proposal_id, now=site.clock.now())
    look(site)
    found = get(site, proposal_id).dry_run
    assert found is not None, get(site, proposal_id).refusal
    return proposal_id, dict(found)


def approve(site: ComposedSite, proposal_id: str, circuits: int) -> None:
    site.clock.advance(1)
    own = site.settings.document["policies"].get(get(site, proposal_id).section)
    with site.books.write() as connection:
        policy_proposals.approve(
            connection,
            proposal_id=proposal_id,
            circuits=circuits,
            file_fingerprint=policy_proposals.fingerprint_of(own),
            actor=APPROVER,
            now=site.clock.now(),
            real_now=site.clock.real_now(),
        )


def apply(site: ComposedSite, section: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Take a change through all steps; return what its dry run said."""
    proposal_id, found = dry_run(site, section, content)
    approve(site, proposal_id, found["circuits"])
    look(site)
    assert get(site, proposal_id).applied_at == site.clock.now()
    return found


def audited(site: ComposedSite, after: int = 0) -> list[tuple[str, str, str]]:
    """Return (action, subject, actor) of the audit rows after the first ones."""
    with site.books.read() as connection:
        rows = connection.execute(sa.select(audit_log).order_by(audit_log.c.audit_id))
        return [(row.action, row.subject_id, row.actor) for row in rows][after:]
