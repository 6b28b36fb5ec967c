"""From the site's scoped policies to the values of each circuit."""

from dataclasses import replace
from typing import Any

from config.settings import Settings
from dormpower.domain.arrears import ArrearsPolicy
from dormpower.domain.prohibited import ProhibitedPolicy
from dormpower.domain.protection import OverloadPolicy
from dormpower.domain.scopes import Scoped, places
from gateway.policies import Placed, described, plain

NOMINAL_VOLTAGE_V = 220


def placed_arrears(settings: Settings) -> Placed[ArrearsPolicy]:
    """Return each circuit's arrears values."""
    scoped = settings.policies.arrears
    by_circuit = {circuit.circuit_id: scoped.at(where) for _, circuit, where in places(settings.site)}
    return Placed(by_circuit=by_circuit, configured=configured(scoped))


def placed_overload(settings: Settings) -> Placed[OverloadPolicy]:
    """Return each circuit's overload values; with no limit given it is the rated current's at 220 V a phase."""
    scoped = settings.policies.overload
    profile_of = {module.module_id: module.profile for module in settings.site.modules}
    by_circuit = {}
    for room, circuit, where in places(settings.site):
        policy = scoped.at(where)
        if policy.limit_w is None:
            # A three-phase module reports the sum of its phases, each of which may carry the rated current.
            phases = settings.profiles[profile_of[circuit.module_id]].phases
            policy = replace(policy, limit_w=room.rated_current_a * NOMINAL_VOLTAGE_V * phases)
        by_circuit[circuit.circuit_id] = policy
    return Placed(by_circuit=by_circuit, configured=configured(scoped))


def placed_prohibited(settings: Settings, *, max_gap_s: float) -> Placed[ProhibitedPolicy]:
    """Return each circuit's prohibited-load values. `max_gap_s`: samples further apart say nothing together."""
    scoped = settings.policies.prohibited
    by_circuit = {
        circuit.circuit_id: replace(scoped.at(where), max_gap_s=max_gap_s)
        for _, circuit, where in places(settings.site)
    }
    return Placed(by_circuit=by_circuit, configured=configured(scoped))


def configured(scoped: Scoped[Any]) -> dict[str, Any]:
    """Return a policy and its overrides as JSON values: what its fingerprint is taken from."""
    overrides = [
        {
            "scope": {name: value for name, value in described(override.scope).items() if value is not None},
            "values": {name: plain(value) for name, value in override.values.items()},
        }
        for override in scoped.overrides
    ]
    return {**described(scoped.base), "overrides": overrides}
