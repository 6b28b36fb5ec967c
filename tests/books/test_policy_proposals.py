"""Changes of policies in the books: what an approval needs, which one is in force, what ends one."""

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dormpower.books import policy_proposals, policy_takeovers, shadow
from dormpower.books.database import Books
from dormpower.books.policy_proposals import (
    DRY_RUN_VALID_S,
    SITE_FILE,
    TAKE_OVER_S,
    Proposal,
    State,
    UnableToChangeProposalError,
    UnableToFindProposalError,
    UnableToProposeError,
)
from dormpower.books.tables import audit_log

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FILE = {"mode": "shadow"}


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def propose(books: Books, section: str = "overload", at_s: float = 0, **content: Any) -> Proposal:
    with books.write() as connection:
        return policy_proposals.propose(
            connection,
            section=section,
            content=content or {"mode": "enforce"},
            note="for the exam weeks",
            actor="mai",
            now=after(at_s),
        )


def dry_run(
    books: Books, proposal: Proposal, *, at_s: float, circuits: int = 3, basis: Mapping[str, Any] | None = None
) -> None:
    with books.write() as connection:
        asked = policy_proposals.ask_dry_run(connection, proposal_id=proposal.proposal_id, now=after(at_s))
        assert [one.proposal_id for one in policy_takeovers.waiting(connection)] == [proposal.proposal_id]
        policy_takeovers.note_dry_run(
            connection,
            proposal=asked,
            result={"circuits": circuits, "basis": dict(basis or {})},
            now=after(at_s),
            real_now=after(at_s),
        )


def approve(books: Books, proposal: Proposal, *, at_s: float, circuits: int = 3) -> Proposal:
    with books.write() as connection:
        return policy_proposals.approve(
            connection,
            proposal_id=proposal.proposal_id,
            circuits=circuits,
            file_fingerprint=policy_proposals.fingerprint_of(FILE),
            actor="ada",
            now=after(at_s),
            real_now=after(at_s),
        )


def apply(books: Books, proposal: Proposal, *, at_s: float) -> None:
    dry_run(books, proposal, at_s=at_s)
    approve(books, proposal, at_s=at_s + 1)
    with books.write() as connection:
        assert policy_takeovers.take_over(connection, proposal_id=proposal.proposal_id, now=after(at_s + 2))


def get(books: Books, proposal: Proposal) -> Proposal:
    with books.read() as connection:
        return policy_proposals.get(connection, proposal.proposal_id)


def actions(books: Books) -> list[tuple[str, str]]:
    with books.read() as connection:
        query = sa.select(audit_log.c.action, audit_log.c.actor).order_by(audit_log.c.audit_id)
        return [(row.action, row.actor) for row in connection.execute(query)]


def test_a_proposal_goes_from_proposed_to_applied_and_each_step_is_audited(books: Books):
    proposal = propose(books, limit_w=2000)
    assert proposal.state is State.PROPOSED
    apply(books, proposal, at_s=10)
    applied = get(books, proposal)
    assert (applied.state, applied.approved_by, applied.applied_at) == (State.APPLIED, "ada", after(12))
    with books.read() as connection:
        assert policy_proposals.contents(connection) == {"overload": {"limit_w": 2000}}
        assert policy_takeovers.waiting(connection) == []
    assert actions(books) == [
        ("policy.proposed", "mai"),
        ("policy.approved", "ada"),
        ("policy.applied", "ada"),
    ]


def test_what_an_approval_needs(books: Books):
    proposal = propose(books)
    with pytest.raises(UnableToChangeProposalError, match="no dry run yet"):
        approve(books, proposal, at_s=1)
    dry_run(books, proposal, at_s=10, circuits=3)
    with pytest.raises(UnableToChangeProposalError, match="said 3 would be cut, you confirm 2"):
        approve(books, proposal, at_s=11, circuits=2)
    with pytest.raises(UnableToChangeProposalError, match="older than 10 min"):
        approve(books, proposal, at_s=10 + DRY_RUN_VALID_S)
    assert approve(books, proposal, at_s=9 + DRY_RUN_VALID_S).state is State.APPROVED
    with pytest.raises(UnableToChangeProposalError, match="expected proposed, it is approved"):
        approve(books, proposal, at_s=9 + DRY_RUN_VALID_S)


def test_nothing_is_approved_while_a_restore_awaits_its_confirmation_nor_on_a_dry_run_of_that_time(
    books: Books,
):
    proposal = propose(books)
    with books.write() as connection:
        shadow.require_confirmation(connection)
    dry_run(books, proposal, at_s=1, circuits=0, basis={"in_shadow": True})
    with pytest.raises(UnableToChangeProposalError, match="awaits its confirmation; confirm it first"):
        approve(books, proposal, at_s=2, circuits=0)
    with books.write() as connection:
        assert shadow.confirm(connection, actor="ada", site_id="s", now=after(3))
    with pytest.raises(UnableToChangeProposalError, match="before the restore was confirmed"):
        approve(books, proposal, at_s=4, circuits=0)
    assert get(books, proposal).state is State.PROPOSED
    dry_run(books, proposal, at_s=5, circuits=3, basis={"in_shadow": False})
    assert approve(books, proposal, at_s=6).state is State.APPROVED


def test_a_dry_run_says_nothing_any_more_once_another_change_was_approved(books: Books):
    first, second = propose(books), propose(books, "shedding")
    dry_run(books, first, at_s=10)
    dry_run(books, second, at_s=11)
    approve(books, second, at_s=12)
    with pytest.raises(UnableToChangeProposalError, match="policies were changed after its dry run"):
        approve(books, first, at_s=13)


def test_a_dry_run_does_not_know_of_a_change_that_was_approved_before_and_is_not_in_force_yet(books: Books):
    first, second = propose(books), propose(books, "shedding")
    dry_run(books, second, at_s=10)
    approve(books, second, at_s=11)
    with books.write() as connection:
        asked = policy_proposals.ask_dry_run(connection, proposal_id=first.proposal_id, now=after(10))
        policy_takeovers.note_dry_run(
            connection, proposal=asked, result={"circuits": 3}, now=after(12), real_now=after(12)
        )
    with pytest.raises(UnableToChangeProposalError, match="policies were changed after its dry run"):
        approve(books, first, at_s=13)


def test_of_two_approvals_side_by_side_the_second_finds_the_first(books: Books):
    first, second = propose(books), propose(books, "shedding")
    dry_run(books, first, at_s=10)
    dry_run(books, second, at_s=11)
    under_way = threading.Event()

    def approve_second() -> Proposal:
        under_way.set()
        return approve(books, second, at_s=13)

    with ThreadPoolExecutor(1) as thread:
        with books.write() as connection:
            policy_proposals.approve(
                connection,
                proposal_id=first.proposal_id,
                circuits=3,
                file_fingerprint="",
                actor="ada",
                now=after(12),
                real_now=after(12),
            )
            pending = thread.submit(approve_second)
            assert under_way.wait(10)
            assert wait([pending], timeout=0.2).not_done
        with pytest.raises(UnableToChangeProposalError, match="policies were changed after its dry run"):
            pending.result()


@pytest.mark.parametrize("end", ["withdrawn", "applied"])
def test_what_ended_while_the_gateway_had_it_does_not_come_back(books: Books, end: str):
    proposal = propose(books)
    dry_run(books, proposal, at_s=1)
    taken = approve(books, proposal, at_s=2)
    late = after(3 + TAKE_OVER_S)
    with books.write() as connection:
        if end == "withdrawn":
            policy_proposals.withdraw(connection, proposal_id=proposal.proposal_id, actor="mai", now=after(3))
        else:
            policy_takeovers.take_over(connection, proposal_id=proposal.proposal_id, now=after(3))
        assert not policy_takeovers.lapse(connection, proposal=taken, actor="gateway", now=late, real_now=late)
        assert not policy_takeovers.refuse(
            connection, proposal=taken, faults=[("", "went wrong")], actor="gateway", now=late
        )
    ended = get(books, proposal)
    assert (ended.state, ended.refusal) == (State(end), None)


def test_an_answer_to_an_earlier_question_is_not_put_down(books: Books):
    proposal = propose(books)
    with books.write() as connection:
        first = policy_proposals.ask_dry_run(connection, proposal_id=proposal.proposal_id, now=after(1))
        policy_proposals.ask_dry_run(connection, proposal_id=proposal.proposal_id, now=after(2))
        policy_takeovers.note_dry_run(
            connection, proposal=first, result={"circuits": 0}, now=after(3), real_now=after(3)
        )
    assert get(books, proposal).dry_run is None


def test_the_newest_applied_one_of_a_section_is_in_force(books: Books):
    first = propose(books, limit_w=2000)
    apply(books, first, at_s=10)
    second = propose(books, limit_w=1800)
    apply(books, second, at_s=20)
    ended = get(books, first)
    assert (ended.state, ended.ended_by, ended.ended_at) == (State.SUPERSEDED, second.proposal_id, after(22))
    with books.read() as connection:
        assert policy_proposals.contents(connection) == {"overload": {"limit_w": 1800}}


def test_a_changed_section_of_the_file_wins_over_an_older_change(books: Books):
    overload, shedding = propose(books), propose(books, "shedding")
    apply(books, overload, at_s=10)
    apply(books, shedding, at_s=20)
    with books.write() as connection:
        same = policy_takeovers.supersede_changed(
            connection, {"overload": FILE, "shedding": dict(FILE)}, now=after(30)
        )
        assert same == []
        ended = policy_takeovers.supersede_changed(
            connection, {"overload": {"mode": "off"}, "shedding": FILE}, now=after(40)
        )
        assert [one.proposal_id for one in ended] == [overload.proposal_id]
        assert list(policy_proposals.contents(connection)) == ["shedding"]
    assert get(books, overload).ended_by == SITE_FILE
    assert actions(books)[-1] == ("policy.superseded", "gateway")


def test_a_section_that_the_file_does_not_have_is_a_content_too(books: Books):
    proposal = propose(books)
    dry_run(books, proposal, at_s=1)
    with books.write() as connection:
        policy_proposals.approve(
            connection,
            proposal_id=proposal.proposal_id,
            circuits=3,
            file_fingerprint=policy_proposals.fingerprint_of(None),
            actor="ada",
            now=after(2),
            real_now=after(2),
        )
        policy_takeovers.take_over(connection, proposal_id=proposal.proposal_id, now=after(3))
        assert policy_takeovers.supersede_changed(connection, {}, now=after(4)) == []
        assert policy_takeovers.supersede_changed(connection, {"overload": {}}, now=after(5)) != []


def test_what_is_not_in_force_yet_can_be_taken_back(books: Books):
    proposed, approved = propose(books), propose(books, "shedding")
    dry_run(books, approved, at_s=1)
    approve(books, approved, at_s=2)
    for proposal in (proposed, approved):
        with books.write() as connection:
            policy_proposals.withdraw(connection, proposal_id=proposal.proposal_id, actor="mai", now=after(3))
    with books.write() as connection:
        assert policy_takeovers.take_over(connection, proposal_id=approved.proposal_id, now=after(4)) is None
        assert policy_proposals.contents(connection) == {}
    third = propose(books, at_s=5)
    apply(books, third, at_s=6)
    with books.write() as connection, pytest.raises(UnableToChangeProposalError, match="it is applied"):
        policy_proposals.withdraw(connection, proposal_id=third.proposal_id, actor="mai", now=after(9))


def test_an_approval_that_nobody_takes_over_in_time_lapses(books: Books):
    proposal = propose(books)
    dry_run(books, proposal, at_s=1)
    approved = approve(books, proposal, at_s=2)
    with books.write() as connection:
        for real_s, expected in ((1 + TAKE_OVER_S, False), (2 + TAKE_OVER_S, True)):
            assert expected is policy_takeovers.lapse(
                connection, proposal=approved, actor="gateway", now=after(real_s), real_now=after(real_s)
            )
    assert get(books, proposal).state is State.PROPOSED
    with pytest.raises(UnableToChangeProposalError, match="older than"):
        approve(books, proposal, at_s=3 + TAKE_OVER_S)


def test_what_the_gateway_cannot_work_with_is_a_mere_proposal_again_and_says_why(books: Books):
    proposal = propose(books)
    dry_run(books, proposal, at_s=1)
    approved = approve(books, proposal, at_s=2)
    with books.write() as connection:
        policy_takeovers.refuse(
            connection,
            proposal=approved,
            faults=[("policies.overload.limit_w", "expected whole watts, got 0")],
            actor="gateway",
            now=after(3),
        )
        assert policy_takeovers.waiting(connection) == []
    with pytest.raises(UnableToChangeProposalError, match="expected whole watts, got 0"):
        approve(books, proposal, at_s=4)


def test_unknown_sections_and_empty_notes_are_refused(books: Books):
    with pytest.raises(UnableToProposeError, match="expected one of arrears, overload"):
        propose(books, "prices")
    with books.write() as connection, pytest.raises(UnableToProposeError, match="note"):
        policy_proposals.propose(connection, section="overload", content={}, note=" ", actor="mai", now=NOW)
    with books.read() as connection, pytest.raises(UnableToFindProposalError):
        policy_proposals.get(connection, "pol_none")


def test_proposals_are_listed_newest_first_in_pages(books: Books):
    made = [propose(books, at_s=at_s).proposal_id for at_s in range(3)]
    with books.read() as connection:
        page, cursor = policy_proposals.listing(connection, limit=2)
        rest, end = policy_proposals.listing(connection, limit=2, cursor=cursor)
        assert [one.proposal_id for one in (*page, *rest)] == made[::-1]
        assert end is None
        assert policy_proposals.listing(connection, state=State.APPLIED, limit=2) == ([], None)
