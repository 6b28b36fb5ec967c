"""Changes of policies in the running gateway: tries proposals against the present, takes over approved ones.

Theory of operation. Once a second the desk asks the books for work. A *dry run* composes the rules as they
would be and asks those that differ about every circuit, a chunk at a time between control's own looks
(`gateway/dry_run.py`). A *takeover* happens while nothing else decides: one transaction puts the proposal in
force, records the rules' new versions in the name of who approved it, and releases the holds that nothing
stands behind any more; then the parts of the gateway go by the new rules, and a sweep looks at everything. No
line is closed, no sample lost, and what memory knows of relays and loads stays.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from config.changed_policies import policy_sections, with_policies
from config.faults import UnableToLoadSiteError
from config.settings import Settings
from dormpower.books import policies as books_policies
from dormpower.books import policy_proposals, policy_takeovers
from dormpower.books.database import Books
from dormpower.books.policy_proposals import Proposal, State
from dormpower.clock import Clock
from dormpower.domain.shedding import RULE as SHEDDING
from gateway import policy_changes
from gateway.control import Control
from gateway.dry_run import DryRun, effects_of_shedding, effects_on
from gateway.feeders import FeederControl
from gateway.policies import Policy, Timed
from gateway.power_limits import PowerLimits
from gateway.rule_set import RuleSet, rule_set

log = structlog.get_logger()

LOOK_EVERY_S = 1.0  # real
CHUNK = 50  # circuits tried at once: some 10 ms of the writer

Result = TypeVar("Result")


def settings_in_force(settings: Settings, books: Books, clock: Clock) -> Settings:
    """Return the site as its file describes it, with the sections that applied proposals stand in for.

    A section that the file has another content for since is the file's again, and so is one that does not fit
    the site any more (a room of an override that is gone): with the file's own rules the gateway can start.
    """
    with books.write() as connection:
        policy_takeovers.supersede_changed(connection, policy_sections(settings), now=clock.now())
        contents: dict[str, Mapping[str, Any]] = {}
        for section, proposal in policy_proposals.applied(connection).items():
            try:
                with_policies(settings, {section: proposal.content})
            except UnableToLoadSiteError as refusal:
                log.warning(
                    "policy.unusable", section=section, proposal=proposal.proposal_id, faults=str(refusal)
                )
                faults = [(fault.key, fault.message) for fault in refusal.faults]
                policy_takeovers.supersede(connection, proposal, faults=faults, now=clock.now())
            else:
                contents[section] = proposal.content
    return with_policies(settings, contents) if contents else settings


class PolicyDesk:
    """See the module's text. `settings` are those in force; all methods belong to the event loop's thread."""

    def __init__(
        self,
        *,
        books: Books,
        clock: Clock,
        settings: Settings,
        in_shadow: bool,
        rules: RuleSet,
        control: Control,
        feeders: FeederControl,
        limits: PowerLimits,
    ) -> None:
        self._books = books
        self._clock = clock
        self._settings = settings
        self._in_shadow = in_shadow
        self._rules = rules
        self._control = control
        self._feeders = feeders
        self._limits = limits

    async def run(self) -> None:
        """Look for work until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                # Supervised: the books may be away for a moment; the proposal waits and is looked at again.
                log.exception("policy.look_failed")
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> int:
        """Do what waits to be done; return how many proposals were looked at."""
        waiting = await self._control.run_on_writer(self._waiting)
        for proposal in waiting:
            try:
                await (self._take_over if proposal.state is State.APPROVED else self._dry_run)(proposal)
            except UnableToLoadSiteError as refusal:
                await self._refuse(proposal, [(fault.key, fault.message) for fault in refusal.faults])
            except sa.exc.DBAPIError:
                raise  # the books are away: the proposal waits
            except Exception:
                # Supervised: what one proposal brings to light must not keep the others waiting.
                log.exception("policy.failed", proposal=proposal.proposal_id)
                await self._refuse(
                    proposal, [("", "something unexpected went wrong; the gateway's log has it")]
                )
        return len(waiting)

    def _waiting(self) -> list[Proposal]:
        with self._books.read() as connection:
            return policy_takeovers.waiting(connection)

    async def _candidate(self, proposal: Proposal) -> tuple[Settings, RuleSet]:
        """Return the site and its rules with the proposal in force. Raises UnableToLoadSiteError."""

        def compose() -> tuple[Settings, RuleSet]:
            with self._books.read() as connection:
                contents = policy_proposals.contents(connection)
            settings = with_policies(self._settings, {**contents, proposal.section: proposal.content})
            return settings, rule_set(settings, in_shadow=self._in_shadow, speed=self._clock.speed)

        return await asyncio.to_thread(compose)

    async def _refuse(self, proposal: Proposal, faults: Sequence[tuple[str, str]]) -> None:
        refused = await self._write(
            lambda connection: policy_takeovers.refuse(
                connection, proposal=proposal, faults=faults, actor=books_policies.ACTOR, now=self._clock.now()
            )
        )
        if refused:
            log.info("policy.refused", proposal=proposal.proposal_id, section=proposal.section)

    def _write(self, change: Callable[[Connection], Result]) -> Awaitable[Result]:
        def run() -> Result:
            with self._books.write() as connection:
                return change(connection)

        return self._control.run_on_writer(run)

    # --- trying --------------------------------------------------------------------------------------------

    async def _dry_run(self, proposal: Proposal) -> None:
        _, rules = await self._candidate(proposal)
        now = self._clock.now()
        changed = [policy for policy in rules.policies if self._differs(policy)]
        names = [policy.rule for policy in changed]
        shedding = rules.shedding_configured != self._rules.shedding_configured
        names += [SHEDDING] * shedding
        names += [rule for rule, one in rules.plain.items() if one != self._rules.plain.get(rule)]
        result = DryRun(
            at=now,
            rules=tuple(names),
            stale_after_s=self._settings.stale_after_s * self._clock.speed,
            in_shadow=self._in_shadow,
        )
        ids = sorted(circuit.circuit_id for room in self._settings.site.rooms for circuit in room.circuits)
        for start in range(0, len(ids), CHUNK):
            await self._try(changed, ids[start : start + CHUNK], result)
        if shedding:
            preview = await self._feeders.preview(rules.shedding)
            result.add_effects(effects_of_shedding(preview, now=now))
        await self._write(
            lambda connection: policy_takeovers.note_dry_run(
                connection,
                proposal=proposal,
                result=result.as_json(),
                now=self._clock.now(),
                real_now=self._clock.real_now(),
            )
        )
        log.info("policy.dry_run", proposal=proposal.proposal_id, section=proposal.section, rules=names)

    def _differs(self, policy: Policy) -> bool:
        present = {one.rule: one.described() for one in self._rules.policies}
        return present.get(policy.rule) != policy.described()

    async def _try(self, policies: Sequence[Policy], circuit_ids: Sequence[str], result: DryRun) -> None:
        """Ask policies about some circuits, between two of control's own looks."""
        pace_s = self._settings.gateway.fast_poll_s * self._clock.speed

        def ask() -> None:
            with self._books.read() as connection:
                for policy in policies:
                    if isinstance(policy, Timed):
                        policy.refresh(connection, now=result.at)
                for circuit_id in circuit_ids:
                    memory = self._control.memory(circuit_id)
                    effects = []
                    for policy in policies if memory.circuit.has_relay else ():
                        facts = self._control.facts_now(connection, circuit_id, policy)
                        effects += effects_on(policy, facts, pace_s=pace_s, now=result.at)
                    result.add_circuit(effects, fresh=self._control.is_fresh(memory))

        async with self._control.turn:
            await self._control.run_on_writer(ask)

    # --- taking over ---------------------------------------------------------------------------------------

    async def _take_over(self, proposal: Proposal) -> None:
        lapsed = await self._write(
            lambda connection: policy_takeovers.lapse(
                connection,
                proposal=proposal,
                actor=books_policies.ACTOR,
                now=self._clock.now(),
                real_now=self._clock.real_now(),
            )
        )
        if lapsed:
            return
        settings, rules = await self._candidate(proposal)
        async with self._control.turn:
            if not await self._control.run_on_writer(lambda: self._record(proposal, rules)):
                return
            self._settings, self._rules = settings, rules
            self._control.adopt(
                rules.policies,
                spread=rules.closings,
                warning_channels=rules.warning_channels,
                circuits=rules.circuits,
            )
            self._limits.adopt(rules.overload, rules.night)
        log.info("policy.applied", proposal=proposal.proposal_id, section=proposal.section)
        while await self._control.handle_intents():
            pass
        await self._control.sweep()

    def _record(self, proposal: Proposal, rules: RuleSet) -> bool:
        """Put a proposal in force with all that follows; False where it was withdrawn at the last moment."""
        now = self._clock.now()
        with self._books.write() as connection:
            applied = policy_takeovers.take_over(connection, proposal_id=proposal.proposal_id, now=now)
            if applied is None:
                return False
            actor = applied.approved_by or books_policies.ACTOR
            policy_changes.record_plain(connection, rules.plain, actor=actor, now=now)
            policy_changes.take_over(
                connection, rules.policies, shadow_only=self._in_shadow, actor=actor, now=now
            )
            self._feeders.take_over(connection, rules.shedding, rules.shedding_configured, actor=actor, now=now)
        self._feeders.adopt(rules.shedding, rules.shedding_configured)  # here, where its decisions are made
        return True
