"""Schedules as a policy of the gateway: curfews of the site file, planned outages of the books."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Connection

from dormpower.books import outages as books_outages
from dormpower.domain import curfew
from dormpower.domain.calendars import DayKinds, Hours, TimeSpan, merge
from dormpower.domain.curfew import CurfewPolicy, CurfewRule, NightLimit, Outage, ScheduleFacts, SpanMemo
from dormpower.domain.holds import Enforcement, Hold, Reason
from dormpower.domain.policy import LetGo, LookAgain, Place
from dormpower.domain.scopes import Where
from gateway.policies import CircuitFacts, Decision, WatchesNothing, in_shadow_only, mode_of_hold, strictest


class ScheduleRule(WatchesNothing):
    """Curfews and planned outages: one hold for both, so that people are told one end.

    `where_of` says where each circuit is.
    """

    __slots__ = ("_outages", "_policy", "_rules_of", "_spans", "_where_of")

    rule = curfew.RULE
    reason = Reason.CURFEW
    counts_when_changed = True
    quiet_above_wh = None  # a balance says nothing here

    def __init__(self, policy: CurfewPolicy, where_of: Mapping[str, Where]) -> None:
        self._policy = policy
        self._where_of = where_of
        self._outages: tuple[Outage, ...] = ()
        self._rules_of: dict[tuple[str, Enforcement], tuple[tuple[str, Hours], ...]] = {}
        self._spans = SpanMemo(policy)

    def described(self) -> Mapping[str, Any]:
        """Return rules, modes and the own days."""
        return {
            "rules": [described_rule(rule) for rule in self._policy.curfews],
            **described_days(self._policy.days),
        }

    def mode_of(self, circuit_id: str) -> Enforcement:
        """Return the strictest mode of the curfews that cover a circuit."""
        return strictest(self._modes(circuit_id))

    def keeps(self, circuit_id: str, hold: Hold, *, shadow_only: bool, now: datetime) -> bool:
        """Whether curfews or a planned outage have such holds; an outage is enforced whatever the mode is.

        One hold serves both, and its evidence names the outage only where that has moved its end.
        """
        modes = self._modes(circuit_id)
        where = self._where_of.get(circuit_id)
        if where is not None and any(
            one.from_at <= now < one.to_at and one.scope.covers(where) for one in self._outages
        ):
            modes.add(Enforcement.ENFORCE)
        return mode_of_hold(hold) in {in_shadow_only(mode, shadow_only=shadow_only) for mode in modes}

    def refresh(self, connection: Connection, *, now: datetime) -> None:
        """Take over the outages that are to come or running."""
        self._outages = tuple(one.outage for one in books_outages.coming(connection, now=now))

    def decide(self, facts: CircuitFacts, *, now: datetime) -> Iterable[Decision]:
        """Return what to do with the circuit's hold, and when to look again."""
        return self._decide(
            facts.circuit_id,
            holds=facts.holds,
            keep_supply=facts.keep_supply,
            shadow_only=facts.shadow_only,
            now=now,
        )

    def next_look_at(
        self, circuit_id: str, *, holds: tuple[Hold, ...], keep_supply: bool, shadow_only: bool, now: datetime
    ) -> datetime | None:
        """Return the next boundary, `now` where one was missed."""
        decisions = self._decide(
            circuit_id, holds=holds, keep_supply=keep_supply, shadow_only=shadow_only, now=now
        )
        if any(not isinstance(one, LookAgain) for one in decisions):
            return now
        return min((one.at for one in decisions if isinstance(one, LookAgain)), default=None)

    def _decide(
        self, circuit_id: str, *, holds: tuple[Hold, ...], keep_supply: bool, shadow_only: bool, now: datetime
    ) -> tuple[Place | LetGo | LookAgain, ...]:
        where = self._where_of.get(circuit_id)
        if where is None:
            return ()
        return curfew.decide(
            ScheduleFacts(
                curfews=self._curfews(circuit_id, where, Enforcement.ENFORCE, now),
                shadow_curfews=self._curfews(circuit_id, where, Enforcement.SHADOW, now),
                outages=merge(one.span for one in self._outages if one.scope.covers(where)),
                holds=holds,
                keep_supply=keep_supply,
                shadow_only=shadow_only,
            ),
            now=now,
        )

    def _modes(self, circuit_id: str) -> set[Enforcement]:
        where = self._where_of.get(circuit_id)
        if where is None:
            return set()
        return {
            mode for mode in (Enforcement.ENFORCE, Enforcement.SHADOW) if self._rules(circuit_id, where, mode)
        }

    def _rules(self, circuit_id: str, where: Where, mode: Enforcement) -> tuple[tuple[str, Hours], ...]:
        rules = self._rules_of.get((circuit_id, mode))
        if rules is None:
            rules = self._rules_of[circuit_id, mode] = curfew.rules_at(self._policy, where, mode)
        return rules

    def _curfews(self, circuit_id: str, where: Where, mode: Enforcement, now: datetime) -> tuple[TimeSpan, ...]:
        return self._spans.spans(self._rules(circuit_id, where, mode), now=now)


def described_days(days: DayKinds) -> Mapping[str, Any]:
    """Return the site's own days as JSON values; a library that learns a new year changes no rule."""
    return {
        "exams": [[exam.from_on.isoformat(), exam.to_on.isoformat()] for exam in days.exams],
        "exceptions": {on.isoformat(): kind.value for on, kind in sorted(days.exceptions.items())},
    }


def described_rule(rule: CurfewRule | NightLimit) -> dict[str, Any]:
    """Return a rule's hours, days and place as JSON values."""
    hours, scope = rule.hours, rule.scope
    return {
        "hours": [hours.from_minute, hours.to_minute],
        "days": [f"{'before_' if test.before else ''}{test.label.value}" for test in hours.days],
        "not_days": [f"{'before_' if test.before else ''}{test.label.value}" for test in hours.not_days],
        "scope": [scope.campus, scope.building, scope.floor, scope.room_id, scope.kind],
        "mode": rule.mode.value,
    }
