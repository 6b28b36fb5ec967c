"""From a site to what the gateway works with: lines, modules, points, controlled circuits, stores.

Nothing is opened here but the readings store that the site file names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from config.limits import channel_limits
from config.profiles import ModbusProfile, MqttProfile, Profile
from config.settings import EmbeddedReadingsSettings, Settings
from dormpower.clock import Clock
from dormpower.domain.feeder_facts import SheddingPolicy
from dormpower.domain.meter_state import PLAUSIBLE_VOLTAGE_V
from dormpower.domain.openings import OpeningsPolicy
from dormpower.domain.samples import Relay
from dormpower.domain.scopes import Where, places
from dormpower.domain.site import Circuit, Module, Room, Site
from dormpower.readings.factory import open_embedded, open_influx
from dormpower.readings.port import ReadingsStore, ReadingTags
from gateway.control_memory import ControlledCircuit
from gateway.drivers.modbus.line import ModbusLine
from gateway.drivers.modbus.module import ModbusModule, PreparedPlans
from gateway.drivers.mqtt.profile_messages import ProfileMessages
from gateway.point_memory import PointConfig
from gateway.policies import in_shadow_only
from gateway.ports import Switch, SwitchOutcome, SwitchResult

MQTT_LINE = "mqtt"


class UnableToComposeError(Exception):
    """The site asks for something this gateway can't do; the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldLine:
    """One Modbus line with its modules, ready to be polled."""

    line: ModbusLine
    modules: Sequence[ModbusModule]


class Switches:
    """One `Switch` for all modules, whatever they speak."""

    def __init__(self, switch_of: Mapping[str, Switch]) -> None:
        self._switch_of = switch_of

    async def switch(
        self, *, module_id: str, channel: int, relay: Relay, command_id: str, expires_at: datetime
    ) -> SwitchResult:
        """Hand the command to the driver that serves the module."""
        switch = self._switch_of.get(module_id)
        if switch is None:
            return SwitchResult(outcome=SwitchOutcome.NO_RELAY, detail=f"{module_id}: no driver serves it")
        return await switch.switch(
            module_id=module_id, channel=channel, relay=relay, command_id=command_id, expires_at=expires_at
        )


def field_lines(site: Site, profiles: Mapping[str, Profile], clock: Clock) -> list[FieldLine]:
    """Return the site's Modbus lines with the modules on each, by unit."""
    plans: dict[str, PreparedPlans] = {}
    on_line: dict[str, list[Module]] = {}
    for module in site.modules:
        if module.line_id is not None:
            on_line.setdefault(module.line_id, []).append(module)
    found = []
    for description in site.lines:
        line = ModbusLine(description)
        modules = []
        for module in sorted(on_line.get(description.line_id, []), key=lambda one: one.unit or 0):
            profile = profiles[module.profile]
            if not isinstance(profile, ModbusProfile) or module.unit is None:
                raise UnableToComposeError(f"{module.module_id}: profile {module.profile} is not for a line")
            prepared = plans.setdefault(module.profile, PreparedPlans(profile))
            modules.append(
                ModbusModule(
                    module_id=module.module_id, unit=module.unit, plans=prepared, line=line, clock=clock
                )
            )
        found.append(FieldLine(line=line, modules=modules))
    return found


def mqtt_modules(site: Site, profiles: Mapping[str, Profile]) -> dict[str, MqttProfile]:
    """Return the profiles of the modules that speak MQTT, by module."""
    found = {}
    for module in site.modules:
        profile = profiles[module.profile]
        if isinstance(profile, MqttProfile):
            found[module.module_id] = profile
    return found


def mqtt_messages(modules: Mapping[str, MqttProfile]) -> dict[str, ProfileMessages]:
    """Return each module's wording, one for all modules of a profile."""
    wording = {profile.name: ProfileMessages(profile) for profile in modules.values()}
    return {module_id: wording[profile.name] for module_id, profile in modules.items()}


def meter_points(
    site: Site, profiles: Mapping[str, Profile], *, speed: float
) -> dict[tuple[str, int], PointConfig]:
    """Return the circuit behind each (module, channel) and what that channel can plausibly do."""
    limits = channel_limits(site, profiles, speed=speed)
    return {
        (circuit.module_id, circuit.channel): PointConfig(
            circuit_id=circuit.circuit_id, limits=limits[circuit.circuit_id]
        )
        for circuit in site.circuits()
    }


def controlled_circuits(settings: Settings) -> dict[str, ControlledCircuit]:
    """Return what control needs to know of each circuit."""
    module_of = {module.module_id: module for module in settings.site.modules}
    return {
        circuit.circuit_id: _controlled(room, circuit, module_of[circuit.module_id], where, settings)
        for room, circuit, where in places(settings.site)
    }


def _controlled(
    room: Room, circuit: Circuit, module: Module, where: Where, settings: Settings
) -> ControlledCircuit:
    profile = settings.profiles[module.profile]
    return ControlledCircuit(
        circuit_id=circuit.circuit_id,
        room_id=room.room_id,
        building=room.building,
        campus=room.campus,
        module_id=module.module_id,
        channel=circuit.channel,
        kind=circuit.kind.value,
        line_id=module.line_id or MQTT_LINE,
        has_relay=profile.has_relay,
        has_readback=profile.confirms,
        flag_meanings=profile.meanings,
        min_off_s=settings.policies.min_off.at(where).of(circuit.kind.value),
        self_restore_s=profile.self_restore_s,
        carries_w=room.rated_current_a * PLAUSIBLE_VOLTAGE_V * profile.phases,
        restores_a_day=settings.policies.trips.at(where).restores_a_day,
    )


def shedding_policy(settings: Settings, *, shadow: bool, speed: float) -> SheddingPolicy:
    """Return the site's shedding policy in campus seconds; a restored site sheds in shadow until confirmed.

    What follows the field's real pace (cycle, silence, a relay that follows) is scaled with a clock that runs
    fast. A feeder meter may miss one poll before it counts as silent.
    """
    policy = settings.policies.shedding
    return replace(
        policy,
        mode=in_shadow_only(policy.mode, shadow_only=shadow),
        modes=tuple(replace(one, mode=in_shadow_only(one.mode, shadow_only=shadow)) for one in policy.modes),
        cycle_s=policy.cycle_s * speed,
        silent_s=max(policy.silent_s, 2 * settings.gateway.poll_s) * speed,
        power_stale_s=settings.stale_after_s * speed,
        follow_s=policy.follow_s * speed,
    )


def openings_policy(settings: Settings, *, speed: float) -> OpeningsPolicy:
    """Return when openings are one condition of a building, in campus seconds.

    When a relay was found open is known to a batch: the window is so much longer than its poll cycles.
    """
    policy = settings.openings
    return replace(
        policy,
        window_s=(policy.window_s + policy.lag_s) * speed,
        poll_s=policy.poll_s * speed,
        lag_s=policy.lag_s * speed,
    )


def reading_tags(site: Site) -> dict[str, ReadingTags]:
    """Return where each circuit belongs, by circuit."""
    return {
        circuit.circuit_id: ReadingTags(
            campus=room.campus,
            building=room.building,
            room=room.room_id,
            kind=circuit.kind.value,
            module=circuit.module_id,
        )
        for room in site.rooms
        for circuit in room.circuits
    }


def open_readings(settings: Settings) -> ReadingsStore:
    """Open the readings store that the site file names, for writing."""
    chosen = settings.readings
    if isinstance(chosen, EmbeddedReadingsSettings):
        return open_embedded(chosen.path)
    return open_influx(
        url=chosen.url,
        org=chosen.org,
        bucket=chosen.bucket,
        token=chosen.token.get_secret_value() if chosen.token else "",
        site=settings.site.site_id,
        tags=reading_tags(settings.site),
        outbox_path=chosen.outbox_path,
    )
