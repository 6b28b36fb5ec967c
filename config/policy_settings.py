"""The site's rules as the domain takes them, from a parsed site file, and all the checks that they pass."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

from config.cross_checks import check_site
from config.faults import Findings
from config.policy_objects import (
    arrears_of,
    check_policies,
    min_off_of,
    overload_of,
    prohibited_of,
    trips_of,
)
from config.profiles import Profile
from config.rooms_file import SourcedRoom
from config.schedule_objects import check_schedules, curfew_of
from config.shedding_section import check_shedding, shedding_of
from config.site_file import PriceRow, SiteFile
from dormpower.domain.arrears import ArrearsPolicy
from dormpower.domain.curfew import CurfewPolicy
from dormpower.domain.feeder_facts import SheddingPolicy
from dormpower.domain.ledger import LotOrder
from dormpower.domain.prohibited import ProhibitedPolicy
from dormpower.domain.protection import OverloadPolicy
from dormpower.domain.scopes import Scoped
from dormpower.domain.spread import SpreadPolicy
from dormpower.domain.switching import MinimumOff, TripsPolicy
from dormpower.domain.tariff import Price


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    """The site's rules, as the domain takes them."""

    prices: tuple[Price, ...]
    arrears: Scoped[ArrearsPolicy]
    overload: Scoped[OverloadPolicy]
    prohibited: Scoped[ProhibitedPolicy]
    shedding: SheddingPolicy
    curfew: CurfewPolicy
    min_off: Scoped[MinimumOff]
    trips: Scoped[TripsPolicy]
    closings: SpreadPolicy
    lot_order: LotOrder = "fifo"
    warning_channels: tuple[str, ...] = ()  # where warnings are queued besides the room's status


def policies_of(file: SiteFile) -> PolicySettings:
    """Return the rules of a file in which `check_rules` found no fault."""
    zone = ZoneInfo(file.site.zone)
    return PolicySettings(
        prices=_prices(file.policies.prices),
        arrears=arrears_of(file.policies.arrears, zone),
        warning_channels=file.policies.arrears.channels if file.policies.arrears else (),
        overload=overload_of(file.policies.overload, zone),
        prohibited=prohibited_of(file.policies.prohibited, zone),
        shedding=shedding_of(file.policies.shedding),
        curfew=curfew_of(file.policies.curfew, file.policies.night_mode, file.calendar, zone),
        min_off=min_off_of(file.policies.min_off),
        trips=trips_of(file.policies.trips),
        closings=SpreadPolicy(circuits=file.policies.closings.at_once, every_s=file.policies.closings.every_s),
        lot_order=file.policies.lots.order,
    )


def check_rules(
    file: SiteFile, rooms: Sequence[SourcedRoom], profiles: Mapping[str, Profile], findings: Findings
) -> None:
    """Note what takes two values to see."""
    check_site(file, rooms, profiles, findings)
    check_policies(file.policies, rooms, ZoneInfo(file.site.zone), findings)
    parents = {feeder.id: feeder.parent for feeder in file.feeders}
    check_shedding(file.policies.shedding, parents=parents, findings=findings)
    check_schedules(
        file.policies.curfew,
        file.policies.night_mode,
        file.calendar,
        today=datetime.now(ZoneInfo(file.site.zone)).date(),
        findings=findings,
    )


def _prices(rows: Iterable[PriceRow]) -> tuple[Price, ...]:
    prices = (
        Price(from_on=row.from_on, kind=row.kind, price_millifen_per_kwh=row.price_millifen_per_kwh)
        for row in rows
    )
    return tuple(sorted(prices, key=lambda price: (price.from_on, price.kind)))
