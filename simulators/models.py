"""How each profile of a site is simulated: whose register map it has, and what its modules do by themselves.

A profile of the site with the map of a shipped one, and other words about flags and trips alone, is simulated
by the same make. Its modules do what the profile says of them: they open at the flags that are trips, and close
again by themselves where it has a `self_restore_s`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from config.profiles import Profile
from simulators.modules import MODULES
from simulators.supply import TRIP_FLAGS

_BESIDE_THE_MAP = {"name", "title", "source", "self_restore_s", "flag_meanings"}


class UnableToSimulateModuleError(Exception):
    """No simulated module speaks this profile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of module. `closes_after_ms` is its own delay after its own trip; None: it stays open."""

    make: str
    trip_flags: frozenset[str] = TRIP_FLAGS
    closes_after_ms: int | None = None


SHIPPED: Mapping[str, Model] = {make: Model(make=make) for make in MODULES}
"""The shipped profiles as they are."""


def model_of(models: Mapping[str, Model], profile: str, *, module_id: str) -> Model:
    """Return the model of a module's profile. Raises UnableToSimulateModuleError."""
    if profile not in models:
        raise UnableToSimulateModuleError(
            f"{module_id}: profile {profile}: expected one of {', '.join(sorted(MODULES))}, or one with its map"
        )
    return models[profile]


def simulated_models(profiles: Mapping[str, Profile]) -> dict[str, Model]:
    """Return the models that can be simulated, by profile."""
    make_of_map = [(_map(profile), name) for name, profile in profiles.items() if name in MODULES]
    found = {}
    for name, profile in profiles.items():
        make = (
            name if name in MODULES else next((one for seen, one in make_of_map if seen == _map(profile)), None)
        )
        if make is not None:
            delay_s = profile.self_restore_s
            found[name] = Model(
                make=make,
                trip_flags=frozenset(flag.value for flag in profile.meanings.trips),
                closes_after_ms=None if delay_s is None else round(delay_s * 1000),
            )
    return found


def _map(profile: Profile) -> dict[str, Any]:
    return profile.model_dump(exclude=_BESIDE_THE_MAP)
