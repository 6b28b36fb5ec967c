"""Which cuts the breaker counts, and whether it lets one pass (invariant 24).

Arrears always count. A rule that has changed within a day is on probation: its cuts count too, unless it is
protection, which never waits for an approval.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection

from dormpower.books import accounts as books_accounts
from dormpower.books import control as books_control
from dormpower.books import holds
from dormpower.books import policies as books_policies
from dormpower.domain import breaker
from dormpower.domain.holds import Reason
from dormpower.domain.policy import Place
from gateway.control_memory import CircuitMemory
from gateway.looking import Outcome
from gateway.policies import Policy


class Admission:
    """The breaker with what it has to know of rules and of what was cut lately."""

    def __init__(self, *, policies: Sequence[Policy], rooms: int) -> None:
        self._policies = policies
        self._rooms = rooms

    def counts(self, connection: Connection, decision: Place, policy: Policy | None, *, now: datetime) -> bool:
        """Whether the breaker counts this cut."""
        if policy is None or decision.exempt:
            return False
        return decision.counts or policy.reason in self._on_probation(connection, now=now)

    def admits(
        self,
        connection: Connection,
        circuit_id: str,
        decision: Place,
        outcome: Outcome,
        *,
        now: datetime,
    ) -> bool:
        """Ask the breaker; a cut that has to wait for a person is put on the list."""
        if decision.reason in outcome.pending_cuts:
            return outcome.pending_cuts[decision.reason]
        judgement = breaker.judge(
            cuts_at=holds.counted_times(connection, since=now - timedelta(seconds=breaker.WINDOW_S)),
            rooms=self._rooms,
            waiting=sum(cut.waits for cut in books_control.pending(connection)),
            deferred=decision.deferred,
            now=now,
        )
        if judgement.verdict is breaker.Verdict.PENDING_APPROVAL:
            books_control.pend_cut(
                connection,
                circuit_id=circuit_id,
                reason=decision.reason,
                evidence=decision.evidence,
                now=now,
            )
            outcome.pending_cuts = {**outcome.pending_cuts, decision.reason.value: False}
            outcome.changed = True
        return judgement.verdict is breaker.Verdict.ADMITTED

    def _on_probation(self, connection: Connection, *, now: datetime) -> set[Reason]:
        since = now - timedelta(seconds=breaker.POLICY_ON_PROBATION_S)
        changed = {
            version.rule
            for version in books_policies.versions(connection).values()
            if version.changed_at > since
        }
        return {
            policy.reason for policy in self._policies if policy.counts_when_changed and policy.rule in changed
        }


def base_moved(connection: Connection, memory: CircuitMemory, outcome: Outcome) -> bool:
    """Whether the books know of a payment that memory does not; the outcome then knows of it."""
    account = memory.account
    if account is None:
        return False
    base_wh = books_accounts.base_wh(connection, [account.account_id])[account.account_id]
    known_wh = account.base_wh if outcome.base_wh is None else outcome.base_wh
    outcome.base_wh = base_wh
    return bool(base_wh != known_wh)
