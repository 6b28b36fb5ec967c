"""What each circuit's channel can plausibly do: from its room's rated current and its module's profile."""

from collections.abc import Mapping

from config.profiles import ModbusProfile, Profile
from dormpower.domain.meter_state import ChannelLimits
from dormpower.domain.site import Site

# Between a module's sample and its arrival on a polled line; the sample is stamped on arrival.
_STAMPING_SLACK_REAL_MS = 500


def channel_limits(site: Site, profiles: Mapping[str, Profile], *, speed: float) -> dict[str, ChannelLimits]:
    """Return the limits of each circuit's channel, by circuit; `speed` is the campus clock's."""
    profile_of = {module.module_id: profiles[module.profile] for module in site.modules}
    slack_ms = int(_STAMPING_SLACK_REAL_MS * speed)
    return {
        circuit.circuit_id: _limits(room.rated_current_a, profile_of[circuit.module_id], slack_ms)
        for room in site.rooms
        for circuit in room.circuits
    }


def _limits(rated_current_a: int, profile: Profile, slack_ms: int) -> ChannelLimits:
    return ChannelLimits(
        rated_current_a=rated_current_a,
        resolution_wh=profile.resolution_wh,
        modulus_wh=profile.modulus_wh,
        phases=profile.phases,
        slack_ms=slack_ms if isinstance(profile, ModbusProfile) else 0,
    )
