"""Turning the site file's sections of control's rules into the domain's policies, checked."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from config.faults import Findings, did_you_mean
from config.policy_sections import (
    ArrearsSection,
    MinimumOffSection,
    OverloadSection,
    PartOfSite,
    ProhibitedSection,
    TripsSection,
    WhitelistRow,
)
from config.rooms_file import SourcedRoom
from config.site_file import PoliciesSection
from dormpower.domain.arrears import ArrearsPolicy
from dormpower.domain.holds import Enforcement
from dormpower.domain.prohibited import Action, Allowance, Band, ProhibitedPolicy
from dormpower.domain.protection import OverloadPolicy
from dormpower.domain.scopes import Override, Scope, Scoped, Where
from dormpower.domain.switching import MinimumOff, TripsPolicy

_PLACES = frozenset(PartOfSite.model_fields)


SHORTEST_AC_OFF_S = 180.0
ABSENT_ARREARS = ArrearsSection(mode="shadow")  # arrears that the site file says nothing of are watched


def arrears_of(section: ArrearsSection | None, zone: ZoneInfo) -> Scoped[ArrearsPolicy]:
    """Return the site's arrears policy. Raises ValueError for base values that don't go together."""
    given = section or ABSENT_ARREARS
    values = _values(given, set(ArrearsSection.model_fields) - {"overrides", "channels"})
    return Scoped(base=ArrearsPolicy(zone=zone, **values), overrides=_overrides(given.overrides))


def overload_of(section: OverloadSection, zone: ZoneInfo) -> Scoped[OverloadPolicy]:
    """Return the site's overload policy. Raises ValueError for base values that don't go together."""
    values = _values(section, set(OverloadSection.model_fields) - {"overrides"})
    return Scoped(base=OverloadPolicy(zone=zone, **values), overrides=_overrides(section.overrides))


def prohibited_of(section: ProhibitedSection, zone: ZoneInfo) -> Scoped[ProhibitedPolicy]:
    """Return the site's prohibited-load policy. Raises ValueError for base values that don't go together."""
    values = _values(section, set(ProhibitedSection.model_fields) - {"overrides"})
    return Scoped(base=ProhibitedPolicy(zone=zone, **values), overrides=_overrides(section.overrides))


def min_off_of(section: MinimumOffSection) -> Scoped[MinimumOff]:
    """Return for how long relays stay open."""
    return Scoped(
        base=MinimumOff(ac_s=section.ac_s, lighting_s=section.lighting_s),
        overrides=_overrides(section.overrides),
    )


def trips_of(section: TripsSection) -> Scoped[TripsPolicy]:
    """Return how modules' own trips end."""
    return Scoped(
        base=TripsPolicy(restores_a_day=section.restores_a_day), overrides=_overrides(section.overrides)
    )


def check_policies(
    policies: PoliciesSection, rooms: Sequence[SourcedRoom], zone: ZoneInfo, findings: Findings
) -> None:
    """Note overrides and rules of places that are not there, and values that don't go together."""
    arrears = policies.arrears or ABSENT_ARREARS
    sections: tuple[tuple[str, Iterable[PartOfSite], Callable[[], Scoped[Any]]], ...] = (
        ("arrears", arrears.overrides, lambda: arrears_of(arrears, zone)),
        ("overload", policies.overload.overrides, lambda: overload_of(policies.overload, zone)),
        ("prohibited", policies.prohibited.overrides, lambda: prohibited_of(policies.prohibited, zone)),
        ("min_off", policies.min_off.overrides, lambda: min_off_of(policies.min_off)),
        ("trips", policies.trips.overrides, lambda: trips_of(policies.trips)),
    )
    wheres = sorted({_where(room, kind) for room in rooms for kind in ("lighting", "ac")}, key=str)
    for name, rules in (("curfew", policies.curfew.rules), ("night_mode", policies.night_mode.rules)):
        for index, rule in enumerate(rules):
            _check_place(f"policies.{name}.rules[{index}]", rule, rooms, findings)
    for index, row in enumerate(policies.shedding.overrides):
        _check_place(f"policies.shedding.overrides[{index}]", row, rooms, findings)
    for name, overrides, make in sections:
        for index, override in enumerate(overrides):
            _check_place(f"policies.{name}.overrides[{index}]", override, rooms, findings)
        try:
            scoped = make()
        except ValueError as fault:
            if not any(told.key.startswith(f"policies.{name}.") for told in findings):
                findings.refuse(f"policies.{name}", str(fault))
            continue
        for where in wheres:
            try:
                scoped.at(where)
            except ValueError as fault:
                findings.refuse(f"policies.{name}", f"{where.room_id}-{where.kind}: {fault}")
                break
    if policies.min_off.ac_s < SHORTEST_AC_OFF_S:
        findings.warn(
            "policies.min_off.ac_s",
            f"below {SHORTEST_AC_OFF_S:g} s a compressor may restart against pressure and stall",
        )
    if len(set(arrears.channels)) != len(arrears.channels):
        findings.refuse("policies.arrears.channels", "expected each channel once")


def _where(room: SourcedRoom, kind: str) -> Where:
    row = room.row
    return Where(campus=row.campus, building=row.building, room_id=row.room_id, kind=kind)


def _check_place(key: str, place: PartOfSite, rooms: Sequence[SourcedRoom], findings: Findings) -> None:
    """Refuse what names no room: it would do nothing. Each part is looked for within the parts before it."""
    left = list(rooms)
    for part in ("campus", "building", "floor", "room"):
        name = getattr(place, part, None)  # rules of hours alone may name a floor
        field = "room_id" if part == "room" else part
        known = sorted({str(getattr(room.row, field)) for room in left})
        if name is None or not known:
            continue
        if name in known:
            left = [room for room in left if getattr(room.row, field) == name]
        else:
            findings.refuse(f"{key}.{part}", f"unknown {part} {name!r}{did_you_mean(name, known)}")


def _overrides(rows: Iterable[PartOfSite]) -> tuple[Override, ...]:
    return tuple(
        Override(
            scope=Scope(campus=row.campus, building=row.building, room_id=row.room, kind=row.kind),
            values=_values(row, row.model_fields_set - _PLACES),
        )
        for row in rows
    )


def _values(section: Any, names: Iterable[str]) -> Mapping[str, Any]:
    return {name: _to_domain(name, getattr(section, name)) for name in names}


def _to_domain(name: str, value: Any) -> Any:
    if name == "mode":
        return Enforcement(value)
    if name == "bands":
        return tuple(Band(from_w=row.from_w, to_w=row.to_w, action=Action(row.action)) for row in value)
    if name == "whitelist":
        return tuple(_allowance(row) for row in value)
    return value


def _allowance(row: WhitelistRow) -> Allowance:
    return Allowance(appliance=row.appliance, from_w=row.from_w, to_w=row.to_w)
