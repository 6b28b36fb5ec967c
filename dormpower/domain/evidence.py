"""What a decision rested on, as the people of the room may read it.

The evidence on record serves whoever has to answer for a rule and may hold anything. What is shown of it is
picked here by name, so that nothing of another room gets out with it: the figures of a sentence, and samples of
the circuit itself.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from dormpower.domain.curfew import OUTAGE_CAUSE
from dormpower.domain.feeder_facts import Why
from dormpower.domain.holds import AnyReason, Reason, UnknownReason
from dormpower.domain.units import format_kwh

MAX_SAMPLES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSample:
    """The circuit's power at one instant; `apparent_va` None where it is not on record."""

    at: datetime
    power_w: float
    apparent_va: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A sentence of the catalogue with its figures (None: not on record), and the samples behind it."""

    code: str
    params: Mapping[str, Any]
    samples: tuple[ShownSample, ...] = ()


def shown_evidence(reason: AnyReason, evidence: Mapping[str, Any]) -> Evidence | None:
    """Return what is shown of a decision's evidence; None where a person's word is all there is.

    What an unknown reason's evidence means, and of whom, nobody here can tell: nothing of it is shown.
    """
    show = None if isinstance(reason, UnknownReason) else _SHOWN[reason]
    return None if show is None else show(evidence)


def prohibited_evidence(evidence: Mapping[str, Any]) -> Evidence:
    """Return what is shown of a step of load that looked prohibited, be it a trip's or an alarm's."""
    names = ("delta_w", "duration_s", "ratio", "resistive_from", "power_factor", "sampling_period_s")
    return Evidence(
        code="evidence.prohibited",
        params=_figures(evidence, names),
        samples=_samples([*evidence.get("before", ()), *evidence.get("after", ())]),
    )


def _overload(evidence: Mapping[str, Any]) -> Evidence:
    samples = _samples(evidence.get("samples", ()))
    params = _figures(evidence, ("limit_w", "over_s", "sample_count", "sampling_period_s"))
    params["peak_w"] = round(max(one.power_w for one in samples)) if samples else None
    return Evidence(code="evidence.overload", params=params, samples=samples)


def _arrears(evidence: Mapping[str, Any]) -> Evidence:
    params = _figures(evidence, ("first_warning_at", "second_warning_at", "sampled_at"))
    for name, written in (("balance_kwh", "available_wh"), ("floor_kwh", "floor_wh")):
        energy_wh = evidence.get(written)
        params[name] = None if energy_wh is None else format_kwh(int(energy_wh))
    return Evidence(code="evidence.arrears", params=params)


def _module_trip(evidence: Mapping[str, Any]) -> Evidence:
    params = _figures(evidence, ("flags", "power_w"))
    params["flags"] = evidence.get("trip_flags", params["flags"])  # of all that stood, those it tripped by
    return Evidence(code="evidence.module_trip", params=params)


def _opened_locally(evidence: Mapping[str, Any]) -> Evidence:
    return Evidence(code="evidence.opened_locally", params=_figures(evidence, ("power_w",)))


def _shed(evidence: Mapping[str, Any]) -> Evidence:
    # `swapped_for` names another room's circuit: never shown.
    code = "evidence.shed_swap" if evidence.get("why") == Why.SWAP else "evidence.shed"
    return Evidence(
        code=code, params=_figures(evidence, ("feeder_id", "demand_w", "limit_w", "power_w", "turn"))
    )


def _curfew(evidence: Mapping[str, Any]) -> Evidence:
    planned = any(str(cause).startswith(OUTAGE_CAUSE) for cause in evidence.get("causes", ()))
    code = "evidence.outage" if planned else "evidence.curfew"
    return Evidence(code=code, params=_figures(evidence, ("from_at",)))


_SHOWN: Mapping[Reason, Callable[[Mapping[str, Any]], Evidence] | None] = MappingProxyType(
    {
        Reason.LOCKOUT: None,
        Reason.EMERGENCY: None,
        Reason.VACANT: None,
        Reason.OVERLOAD: _overload,
        Reason.PROHIBITED: prohibited_evidence,
        Reason.MODULE_TRIP: _module_trip,
        Reason.OPENED_LOCALLY: _opened_locally,
        Reason.SHED: _shed,
        Reason.ARREARS: _arrears,
        Reason.CURFEW: _curfew,
    }
)


def _figures(evidence: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return figures as people read them: whole watts and seconds, shares of one to three places."""
    found: dict[str, Any] = {}
    for name in names:
        value = evidence.get(name)
        if isinstance(value, float):
            value = round(value) if name.endswith(("_w", "_s")) and abs(value) >= 10 else round(value, 3)
        found[name] = value
    return found


def _samples(written: Sequence[Sequence[Any]]) -> tuple[ShownSample, ...]:
    return tuple(
        ShownSample(
            at=datetime.fromisoformat(one[0]),
            power_w=float(one[1]),
            apparent_va=None if len(one) < 3 or one[2] is None else float(one[2]),
        )
        for one in written[-MAX_SAMPLES:]
    )
