"""What takes two values of the site to see: references, doubles, circles, gaps, and what a profile lacks."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from config.faults import Findings, did_you_mean
from config.profiles import Profile
from config.rooms_file import SourcedRoom
from config.site_file import ModuleRow, PoliciesSection, SiteFile
from config.site_objects import served_by, to_line
from dormpower.domain.site import CircuitKind


def check_site(
    file: SiteFile, rooms: Sequence[SourcedRoom], profiles: Mapping[str, Profile], findings: Findings
) -> None:
    """Note every contradiction between the parts of a site."""
    _check_unique(findings, "lines", "id", [line.id for line in file.lines])
    _check_unique(findings, "modules", "id", [module.id for module in file.modules])
    _check_unique(findings, "feeders", "id", [feeder.id for feeder in file.feeders])
    _check_endpoints(file, findings)
    _check_modules(file, findings)
    _check_feeders(file, findings)
    _check_rooms(file, rooms, findings)
    _check_profiles(file, profiles, findings)
    _check_channels_of_profiles(file, rooms, profiles, findings)
    _check_prices(file.policies, findings)
    _check_arrears(file.policies, findings)


def _check_unique(findings: Findings, section: str, key: str, ids: Iterable[str]) -> None:
    first: dict[str, int] = {}
    for index, name in enumerate(ids):
        if name in first:
            findings.refuse(f"{section}[{index}].{key}", f"{name!r} is already {section}[{first[name]}]")
        first.setdefault(name, index)


def _check_endpoints(file: SiteFile, findings: Findings) -> None:
    first: dict[str, int] = {}
    for index, line in enumerate(file.lines):
        endpoint = to_line(line).endpoint
        if endpoint in first:
            findings.refuse(
                f"lines[{index}]", f"endpoint {endpoint} is already that of lines[{first[endpoint]}]"
            )
        first.setdefault(endpoint, index)


def _check_modules(file: SiteFile, findings: Findings) -> None:
    lines = {line.id for line in file.lines}
    units: dict[tuple[str, int], int] = {}
    for index, module in enumerate(file.modules):
        place = f"modules[{index}]"
        if module.line is None:
            if module.unit is not None:
                findings.refuse(f"{place}.line", f"expected the line of unit {module.unit}, got nothing")
            continue
        if module.line not in lines:
            findings.refuse(
                f"{place}.line", f"unknown line {module.line!r}{did_you_mean(module.line, [*lines])}"
            )
        if module.unit is None:
            findings.refuse(f"{place}.unit", "expected 1–247, got nothing")
            continue
        taken = units.setdefault((module.line, module.unit), index)
        if taken != index:
            findings.refuse(
                f"{place}.unit", f"unit {module.unit} of line {module.line} is already modules[{taken}]"
            )


def _check_feeders(file: SiteFile, findings: Findings) -> None:
    parents = {feeder.id: feeder.parent for feeder in file.feeders}
    modules = {module.id for module in file.modules}
    for index, feeder in enumerate(file.feeders):
        place = f"feeders[{index}]"
        if feeder.meter and feeder.meter.module not in modules:
            # No fault: the feeder's demand is summed from its circuits, as when its meter is silent.
            near = did_you_mean(feeder.meter.module, [*modules])
            findings.warn(
                f"{place}.meter.module",
                f"no module {feeder.meter.module!r} is described{near}: demand is summed from the circuits",
            )
        seen = [feeder.id]
        above = feeder.parent
        if above is not None and above not in parents:
            findings.warn(
                f"{place}.parent", f"no feeder {above!r} is described: taken as a supply without a limit"
            )
        while above is not None and above in parents and above not in seen:
            seen.append(above)
            above = parents[above]
        if above == feeder.id:
            findings.refuse(f"{place}.parent", f"feeders in a circle: {' → '.join([*seen, feeder.id])}")


def _check_rooms(file: SiteFile, rooms: Sequence[SourcedRoom], findings: Findings) -> None:
    modules = {module.id for module in file.modules}
    feeders = {feeder.id for feeder in file.feeders}
    feeder_meters = {
        (feeder.meter.module, feeder.meter.channel): f"the meter of feeder {feeder.id}"
        for feeder in file.feeders
        if feeder.meter
    }
    owners: dict[tuple[str, int], str] = dict(feeder_meters)
    seen: dict[str, str] = {}
    for room in rooms:
        row = room.row
        if row.room_id in seen:
            findings.refuse(
                room.key("room_id"), f"{row.room_id!r} is already {seen[row.room_id]}", file=room.file
            )
            continue
        seen[row.room_id] = room.place
        if row.feeder is not None and row.feeder not in feeders:
            findings.refuse(
                room.key("feeder"),
                f"unknown feeder {row.feeder!r}{did_you_mean(row.feeder, [*feeders])}",
                file=room.file,
            )
        _check_channels(room, modules, owners, findings)


def _check_channels(
    room: SourcedRoom, modules: set[str], owners: dict[tuple[str, int], str], findings: Findings
) -> None:
    if room.row.lighting_module is None and room.row.ac_module is None:
        findings.refuse(
            room.key("lighting_module"),
            "expected a module for lighting, AC or both, got neither",
            file=room.file,
        )
    for kind in CircuitKind:
        module, channel = served_by(room.row, kind)
        if (module is None) != (channel is None):
            missing = f"{kind}_channel" if channel is None else f"{kind}_module"
            findings.refuse(
                room.key(missing), "expected both module and channel, got one of them", file=room.file
            )
        if module is None or channel is None:
            continue
        if module not in modules:
            findings.refuse(
                room.key(f"{kind}_module"),
                f"unknown module {module!r}{did_you_mean(module, [*modules])}",
                file=room.file,
            )
        owner = owners.setdefault((module, channel), f"{room.row.room_id}-{kind}")
        if owner != f"{room.row.room_id}-{kind}":
            findings.refuse(
                room.key(f"{kind}_channel"),
                f"channel {channel} of {module} already serves {owner}",
                file=room.file,
            )


def _check_prices(policies: PoliciesSection, findings: Findings) -> None:
    taken: dict[tuple[str, object], int] = {}
    for index, price in enumerate(policies.prices):
        first = taken.setdefault((price.kind, price.from_on), index)
        if first != index:
            findings.refuse(
                f"policies.prices[{index}]",
                f"a price for {price.kind} from {price.from_on} is already policies.prices[{first}]",
            )
    kinds = {price.kind for price in policies.prices}
    if not kinds:
        findings.warn("policies.prices", "no price is given: recharges are refused")
        return
    for kind in CircuitKind:
        if not kinds & {"all", str(kind)}:
            findings.refuse("policies.prices", f"expected a price for {kind} (or all), got none")
    earliest = {
        str(kind): min(price.from_on for price in policies.prices if price.kind in ("all", str(kind)))
        for kind in CircuitKind
        if kinds & {"all", str(kind)}
    }
    if len(set(earliest.values())) > 1:
        text = " and ".join(f"{kind} from {on}" for kind, on in sorted(earliest.items()))
        findings.refuse(
            "policies.prices", f"expected both kinds to have a price from the same day on, got {text}"
        )


def _check_arrears(policies: PoliciesSection, findings: Findings) -> None:
    if policies.arrears is None:
        findings.warn("policies.arrears", "not given: arrears are watched in shadow, nobody is cut")
    elif policies.arrears.critical_wh > policies.arrears.low_wh:
        findings.refuse(
            "policies.arrears.critical_wh",
            f"expected at most low_wh ({policies.arrears.low_wh}), got {policies.arrears.critical_wh}",
        )


def _check_profiles(file: SiteFile, profiles: Mapping[str, Profile], findings: Findings) -> None:
    on_broker = 0
    for index, module in enumerate(file.modules):
        profile = profiles.get(module.profile)
        place = f"modules[{index}]"
        if profile is None:
            if profiles:
                meant = did_you_mean(module.profile, [*profiles])
                findings.refuse(f"{place}.profile", f"unknown profile {module.profile!r}{meant}")
        elif profile.kind == "modbus" and module.line is None:
            findings.refuse(f"{place}.line", f"expected a line, as {module.profile} speaks Modbus, got nothing")
        elif profile.kind == "mqtt":
            on_broker += 1
            if module.line is not None:
                findings.refuse(
                    f"{place}.line", f"expected none, as {module.profile} speaks MQTT, got {module.line!r}"
                )
    if on_broker and file.mqtt is None:
        findings.refuse("mqtt", f"expected a broker for {on_broker} MQTT modules, got nothing")


def _check_channels_of_profiles(
    file: SiteFile, rooms: Sequence[SourcedRoom], profiles: Mapping[str, Profile], findings: Findings
) -> None:
    modules = {module.id: module for module in file.modules}
    circuits: Counter[str] = Counter()
    for room in rooms:
        for kind in CircuitKind:
            name, channel = served_by(room.row, kind)
            module = modules.get(name or "")
            if module is None or channel is None:
                continue
            circuits[module.profile] += 1
            lacking = _lacking(module, channel, profiles)
            if lacking:
                findings.refuse(room.key(f"{kind}_channel"), lacking, file=room.file)
    for index, feeder in enumerate(file.feeders):
        meter = modules.get(feeder.meter.module) if feeder.meter else None
        if feeder.meter and meter:
            lacking = _lacking(meter, feeder.meter.channel, profiles)
            if lacking:
                findings.refuse(f"feeders[{index}].meter.channel", lacking)
    for name, count in sorted(circuits.items()):
        profile = profiles.get(name)
        if profile is None:
            continue
        if not profile.has_relay:
            findings.warn("modules", f"profile {name} has no relay: {count} circuits are metered, never cut")
        elif not profile.confirms:
            findings.warn(
                "modules",
                f"profile {name} documents no read-back: commands to {count} circuits end unconfirmed",
            )


def _lacking(module: ModuleRow, channel: int, profiles: Mapping[str, Profile]) -> str:
    profile = profiles.get(module.profile)
    if profile is None or channel < profile.channel_count:
        return ""
    last = profile.channel_count - 1
    return f"expected {f'0–{last}' if last else '0'}, as {module.profile} has, got {channel}"
