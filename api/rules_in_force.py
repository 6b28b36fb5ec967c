"""The rules that the API tells people of, as they are in force: the site file's, and what was applied since."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import structlog
from sqlalchemy.engine import Connection

from config.changed_policies import with_policies
from config.faults import UnableToLoadSiteError
from config.settings import Settings
from dormpower.books import policy_proposals, shadow
from dormpower.clock import Clock
from dormpower.domain.announcing import Schedules
from dormpower.domain.arrears import ArrearsPolicy
from dormpower.domain.curfew import CurfewPolicy
from dormpower.domain.scopes import Scoped

log = structlog.get_logger()

LOOK_EVERY_S = 1.0  # real; the gateway takes a change over about as soon


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownRules:
    """What levels, warnings and announcements are worked out from."""

    arrears: Scoped[ArrearsPolicy]
    schedules: Schedules


class RulesInForce(Protocol):
    """Where the rules in force come from."""

    def __call__(self, connection: Connection) -> ShownRules:
        """Return them as of now."""


def fixed_rules(arrears: Scoped[ArrearsPolicy], curfew: CurfewPolicy) -> RulesInForce:
    """Return rules that never change."""
    rules = ShownRules(arrears=arrears, schedules=Schedules(curfew))
    return lambda connection: rules  # noqa: ARG005 - the protocol's


class SiteRules:
    """The rules of a site file, with the sections that applied proposals stand in for.

    Looked up at most once a second, and composed anew only where something has changed. Restored books that
    nobody has confirmed enforce no schedule, so none is announced.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._key: tuple[bool, tuple[str, ...]] | None = None
        self._rules = _shown(settings, in_shadow=False)
        self._looked_at_s: float | None = None

    def __call__(self, connection: Connection) -> ShownRules:
        """Return the rules in force."""
        now_s = self._clock.monotonic()
        if self._looked_at_s is not None and now_s - self._looked_at_s < LOOK_EVERY_S:
            return self._rules
        applied = policy_proposals.applied(connection)
        in_shadow = shadow.awaits_confirmation(connection)
        key = (in_shadow, tuple(sorted(one.proposal_id for one in applied.values())))
        if key != self._key:
            settings = self._with({section: one.content for section, one in applied.items()})
            self._rules, self._key = _shown(settings, in_shadow=in_shadow), key
        self._looked_at_s = now_s
        return self._rules

    def _with(self, contents: Mapping[str, Mapping[str, Any]]) -> Settings:
        try:
            return with_policies(self._settings, contents) if contents else self._settings
        except UnableToLoadSiteError as refusal:
            # The gateway supersedes a section that does not fit its file; ours may be an older one.
            log.warning("policy.unusable", sections=sorted(contents), faults=str(refusal))
            return self._settings


def _shown(settings: Settings, *, in_shadow: bool) -> ShownRules:
    curfew = settings.policies.curfew
    if in_shadow:
        curfew = replace(curfew, curfews=(), night_limits=())
    return ShownRules(arrears=settings.policies.arrears, schedules=Schedules(curfew))
