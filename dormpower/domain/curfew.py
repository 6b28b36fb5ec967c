"""Schedules: curfews, planned outages and night limits.

Theory of operation. A *curfew* is a rule of clock hours for a kind of circuit somewhere on the site; a *planned
outage* is a dated span for a part of the site, made by a person and announced ahead. Both are spans of time, so
both become one hold `curfew` with the end of the joined span as its release: where a planned outage reaches
into a curfew, the circuit stays off until the later end and people are told that one. A curfew may run in
shadow while outages are in force; then the two holds stand apart.

A curfew spares rooms on the keep-supply list; a planned outage is work on the installation and spares nobody.
A *night limit* moves no relay by itself: `lowest_limit` hands the overload rule a number.

What is wanted is a function of the instant alone. A gateway that starts at a boundary, or an hour after one,
therefore decides the same as one that ran all the time.

The breaker never counts what a person announced, nor a hold that stands for as long as people were told. Where
a span goes on beyond that (a curfew that follows an outage, a schedule changed under the hold), the hold says
until when it is exempt; then it is placed anew as any other curfew is, and may have to wait for an approval.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from dormpower.domain.calendars import WEEKDAYS_ONLY, DayKinds, Hours, TimeSpan, merge, next_change_at, span_at
from dormpower.domain.days import ONE_DAY
from dormpower.domain.holds import Enforcement, Hold, Reason
from dormpower.domain.policy import LetGo, LookAgain, Place
from dormpower.domain.scopes import Scope, Where

RULE = "rule:curfew"

# How many days ahead spans are joined. A curfew without an end in sight is looked at again by then.
HORIZON_DAYS = 8
_FURTHEST_DAYS = HORIZON_DAYS - 2

_MAX_REMEMBERED = 1024

OUTAGE_CAUSE = "outage:"
_EXEMPT_UNTIL = "exempt_until_at"  # of a hold's evidence
EVERYWHERE = Scope()


@dataclass(frozen=True, slots=True, kw_only=True)
class CurfewRule:
    """Off in these hours; `name` says which rule it is, where it is explained."""

    name: str
    hours: Hours
    scope: Scope = EVERYWHERE
    mode: Enforcement = Enforcement.SHADOW


@dataclass(frozen=True, slots=True, kw_only=True)
class NightLimit:
    """At most this power in these hours, instead of off."""

    name: str
    hours: Hours
    limit_w: int
    scope: Scope = EVERYWHERE
    mode: Enforcement = Enforcement.SHADOW


@dataclass(frozen=True, slots=True, kw_only=True)
class CurfewPolicy:
    """The site's curfews and night limits, each with its mode, and the calendar that they go by."""

    zone: tzinfo
    days: DayKinds = WEEKDAYS_ONLY
    curfews: tuple[CurfewRule, ...] = ()
    night_limits: tuple[NightLimit, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A planned outage: a part of the site is off in [from_at, to_at)."""

    outage_id: str
    scope: Scope
    from_at: datetime
    to_at: datetime
    note: str = ""

    @property
    def span(self) -> TimeSpan:
        """Its time, with itself as the cause."""
        return TimeSpan(from_at=self.from_at, to_at=self.to_at, causes=(f"{OUTAGE_CAUSE}{self.outage_id}",))


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentLimit:
    """The night limit in force now, and until when it is."""

    limit_w: int
    until_at: datetime
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFacts:
    """What the schedule looks at for one circuit: merged spans around now, and the own standing holds.

    `curfews` are those that are enforced, `shadow_curfews` those that only watch. `shadow_only`: restored books
    that nobody has confirmed; nothing opens a relay.
    """

    curfews: Sequence[TimeSpan]
    outages: Sequence[TimeSpan]
    holds: Sequence[Hold]
    shadow_curfews: Sequence[TimeSpan] = ()
    keep_supply: bool = False
    shadow_only: bool = False


def spans_of(
    hours: Iterable[tuple[str, Hours]], *, days: DayKinds, zone: tzinfo, now: datetime
) -> tuple[TimeSpan, ...]:
    """Return the merged spans of named hours from yesterday's on, up to the horizon."""
    today = now.astimezone(zone).date()
    found = []
    for name, rule in hours:
        for offset in range(-1, HORIZON_DAYS):
            on = today + offset * ONE_DAY
            if rule.begin_on(on, days):
                span = rule.span_on(on, zone)
                found.append(TimeSpan(from_at=span.from_at, to_at=span.to_at, causes=(name,)))
    return merge(found)


class SpanMemo:
    """Spans of named hours, worked out once a campus day for each set of hours: circuits share them."""

    __slots__ = ("_days", "_found", "_zone")

    def __init__(self, policy: CurfewPolicy) -> None:
        self._days = policy.days
        self._zone = policy.zone
        self._found: dict[tuple[tuple[tuple[str, Hours], ...], date], tuple[TimeSpan, ...]] = {}

    def spans(self, hours: tuple[tuple[str, Hours], ...], *, now: datetime) -> tuple[TimeSpan, ...]:
        """Return what `spans_of` does."""
        if not hours:
            return ()
        key = (hours, now.astimezone(self._zone).date())
        spans = self._found.get(key)
        if spans is None:
            if len(self._found) >= _MAX_REMEMBERED:
                self._found.clear()
            spans = self._found[key] = spans_of(hours, days=self._days, zone=self._zone, now=now)
        return spans


def rules_at(policy: CurfewPolicy, where: Where, mode: Enforcement) -> tuple[tuple[str, Hours], ...]:
    """Return the named hours of the curfews of a mode that cover a circuit."""
    return tuple(
        (rule.name, rule.hours) for rule in policy.curfews if rule.mode is mode and rule.scope.covers(where)
    )


def is_endless(span: TimeSpan, now: datetime) -> bool:
    """Whether curfews follow each other without a gap: no end is in sight, and none is told."""
    return span.to_at - now > timedelta(days=_FURTHEST_DAYS)


def limits_at(policy: CurfewPolicy, where: Where) -> tuple[NightLimit, ...]:
    """Return the night limits that cover a circuit and are not off."""
    return tuple(
        limit
        for limit in policy.night_limits
        if limit.mode is not Enforcement.OFF and limit.scope.covers(where)
    )


def lowest_limit(limits: Iterable[NightLimit], spans: SpanMemo, *, now: datetime) -> CurrentLimit | None:
    """Return the lowest of these limits that is in force now; None where none is."""
    found = []
    for limit in limits:
        span = span_at(spans.spans(((limit.name, limit.hours),), now=now), now)
        if span is not None:
            found.append(CurrentLimit(limit_w=limit.limit_w, until_at=span.to_at, name=limit.name))
    return min(found, key=lambda one: (one.limit_w, one.until_at), default=None)


def decide(facts: ScheduleFacts, *, now: datetime) -> tuple[Place | LetGo | LookAgain, ...]:
    """Return what to do with the circuit's `curfew` holds, and when to look again.

    The breaker counts a curfew that was changed within a day (invariant 24); a planned outage, which a person
    announced, never.
    """
    enforced = merge((*facts.outages, *(() if facts.keep_supply else facts.curfews)))
    shadow = () if facts.keep_supply else merge(facts.shadow_curfews)
    if facts.shadow_only:
        enforced, shadow = (), merge((*enforced, *shadow))
    decisions: list[Place | LetGo | LookAgain] = []
    boundaries = [now + timedelta(days=_FURTHEST_DAYS)] if enforced or shadow else []
    for spans, is_shadow in ((enforced, False), (shadow, True)):
        standing = next(
            (hold for hold in facts.holds if hold.placed_by == RULE and hold.shadow is is_shadow), None
        )
        towards = _towards(span_at(spans, now), standing, outages=facts.outages, shadow=is_shadow, now=now)
        decisions += towards
        evidences = [one.evidence for one in towards if isinstance(one, Place)]
        if standing is not None and not towards:
            evidences.append(standing.evidence)
        boundaries += [at for one in evidences if (at := _exempt_until(one)) is not None]
    ahead = next_change_at(merge((*enforced, *shadow)), now)
    if ahead is not None:
        boundaries.append(ahead)
    if boundaries:
        decisions.append(LookAgain(at=min(boundaries)))
    return tuple(decisions)


def _towards(
    span: TimeSpan | None, standing: Hold | None, *, outages: Sequence[TimeSpan], shadow: bool, now: datetime
) -> list[Place | LetGo]:
    if span is None:
        return (
            [] if standing is None else [LetGo(reason=Reason.CURFEW, shadow=shadow, evidence={"why": "over"})]
        )
    announced = any(cause.startswith(OUTAGE_CAUSE) for cause in span.causes)
    until_at = None if not announced and is_endless(span, now) else span.to_at
    exempt_over = False
    if standing is not None:
        exempt_until_at = _exempt_until(standing.evidence)
        exempt_over = exempt_until_at is not None and exempt_until_at <= now
        if standing.expected_release_at == until_at and not exempt_over:
            return []
    known_until_at = None if shadow else _known_until(standing, outages, now=now)
    evidence: dict[str, Any] = {"causes": list(span.causes), "from_at": span.from_at.isoformat()}
    if known_until_at is not None and known_until_at < span.to_at:
        evidence[_EXEMPT_UNTIL] = known_until_at.isoformat()
    place = Place(
        reason=Reason.CURFEW,
        shadow=shadow,
        expected_release_at=until_at,
        evidence=evidence,
        exempt=known_until_at is not None,
    )
    if standing is None:
        return [place]
    # What was announced is over, or the schedule was changed under the hold. Where the new hold is exempt or
    # the breaker lets it pass, people are told the new end and the relay stays where it is.
    why = "over" if exempt_over else "schedule_changed"
    return [LetGo(reason=Reason.CURFEW, shadow=shadow, evidence={"why": why}), place]


def _known_until(standing: Hold | None, outages: Sequence[TimeSpan], *, now: datetime) -> datetime | None:
    """Return until when a circuit is off by what was announced or told already; None where it is not."""
    told = []
    if standing is not None:
        without_end = now + timedelta(days=_FURTHEST_DAYS)
        told_until_at = _exempt_until(standing.evidence) or standing.expected_release_at or without_end
        told.append(TimeSpan(from_at=now, to_at=told_until_at))
    span = span_at(merge((*outages, *told)), now)
    return None if span is None else span.to_at


def _exempt_until(evidence: Mapping[str, Any]) -> datetime | None:
    """Return when a hold's exemption ends; None where it has none, or has it to its end."""
    written = evidence.get(_EXEMPT_UNTIL)
    return None if written is None else datetime.fromisoformat(written)
