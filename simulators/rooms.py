"""A room that behaves: residents, weather, walls, and an air conditioner with its thermostat."""

import math
from typing import Any

from simulators.habits import STEP_MS, DayProfile, draw_household, plan_day
from simulators.supply import Circuit
from simulators.weather import DAY_MS, Weather

_ZONE_MS = 8 * 3_600_000
_NOON_MS = 12 * 3_600_000
# Walls: a tenth of the difference to outside is gone in about 25 minutes; residents and sun warm a little.
_LOSS_PER_STEP = 0.004
_GAIN_C = 2.0
_AC_STEP_C = 0.11
_FIXED_MW, _FIXED_MVAR = 980_000, 430_000
_FAN_MW, _FAN_MVAR = 25_000, 12_000
_STANDBY_MW, _STANDBY_MVAR = 2_000, 3_000
_INVERTER_MAX_MW = 1_100_000
_HEATING_BELOW_C = 9.0
_COOLING_ABOVE_C = 27.0


class SimulatedRoom:
    """One room with its circuits; either may be missing.

    A step's demand is fixed at its start; what the thermostat sees at its end follows from how long the air
    conditioner really had power.
    """

    def __init__(
        self,
        *,
        seed: int,
        room_id: str,
        weather: Weather,
        lighting: Circuit | None,
        ac: Circuit | None,
        now_ms: int,
        load_factor: float = 1.0,
    ) -> None:
        self.room_id = room_id
        self.lighting = lighting
        self.ac = ac
        self.household = draw_household(seed=seed, room_id=room_id)
        self.load_factor = load_factor
        self.extra_mw: dict[str, int] = {}
        self.fixed_mw: dict[str, int] = {}
        self._seed = seed
        self._weather = weather
        self._indoor_c = weather.outdoor_c(now_ms) * 0.5 + 11.0
        self._compressor = False
        self._heating = False
        self._cooled_ms = 0
        self._profiles: dict[int, DayProfile] = {}
        self.at_ms = now_ms
        for circuit in (lighting, ac):
            if circuit is not None:
                circuit.timeline = self
        self._start_step()

    # --- time ----------------------------------------------------------------------------------------------

    def advance(self, now_ms: int) -> None:
        """Integrate up to a campus instant; an earlier one changes nothing."""
        while self.at_ms < now_ms:
            step_end_ms = self.at_ms - self.at_ms % STEP_MS + STEP_MS
            until_ms = min(step_end_ms, now_ms)
            elapsed_ms = until_ms - self.at_ms
            if self.lighting is not None:
                self.lighting.integrate(elapsed_ms)
            if self.ac is not None:
                self._cooled_ms += self.ac.integrate(elapsed_ms)
            self.at_ms = until_ms
            if until_ms == step_end_ms:
                self._end_step()
                self._start_step()

    def hold(self, now_ms: int) -> None:
        """Go to an instant with nothing flowing meanwhile: the simulation was not running."""
        if now_ms > self.at_ms:
            self.at_ms = now_ms
            self._start_step()

    def _end_step(self) -> None:
        outdoor_c = self._weather.outdoor_c(self.at_ms)
        self._indoor_c += (outdoor_c + _GAIN_C - self._indoor_c) * _LOSS_PER_STEP
        if self._compressor and self.ac is not None:
            share = self._cooled_ms / STEP_MS
            strength = min(self.ac.demand_mw / _FIXED_MW, 1.0) if self.household.inverter_ac else 1.0
            self._indoor_c += _AC_STEP_C * strength * share * (1 if self._heating else -1)
        self._cooled_ms = 0

    def _start_step(self) -> None:
        day, within_ms = divmod(self.at_ms + _ZONE_MS, DAY_MS)
        profile = self._profile_of(day)
        minute = within_ms // STEP_MS
        if self.lighting is not None:
            self._demand(
                self.lighting,
                "lighting",
                profile.active_mw[minute],
                profile.reactive_mvar[minute],
            )
        if self.ac is not None:
            self._demand(self.ac, "ac", *self._thermostat(occupied=profile.presence[minute] > 0))

    def _profile_of(self, day: int) -> DayProfile:
        """Return a campus day's profile; the last two are kept."""
        profile = self._profiles.get(day)
        if profile is None:
            profile = plan_day(
                seed=self._seed,
                room_id=self.room_id,
                household=self.household,
                day=day,
                outdoor_c=self._weather.outdoor_c(day * DAY_MS - _ZONE_MS + _NOON_MS),
            )
            self._profiles = {known: kept for known, kept in self._profiles.items() if abs(known - day) == 1}
            self._profiles[day] = profile
        return profile

    def _demand(self, circuit: Circuit, kind: str, active_mw: int, reactive_mvar: int) -> None:
        if kind in self.fixed_mw:
            circuit.demand_mw, circuit.demand_mvar = self.fixed_mw[kind], 0
            return
        factor = self.load_factor
        circuit.demand_mw = round(active_mw * factor) + self.extra_mw.get(kind, 0)
        circuit.demand_mvar = round(reactive_mvar * factor)

    def _thermostat(self, *, occupied: bool) -> tuple[int, int]:
        """Return the air conditioner's mW and mvar for the coming minute."""
        outdoor_c = self._weather.outdoor_c(self.at_ms)
        setpoint_c = self.household.ac_setpoint_c
        cooling = outdoor_c > _COOLING_ABOVE_C - 3 and self._indoor_c > _COOLING_ABOVE_C - 8
        heating = outdoor_c < _HEATING_BELOW_C
        if not occupied or not (cooling or heating):
            self._compressor = False
            return _STANDBY_MW, _STANDBY_MVAR
        self._heating = heating
        target_c = 20.0 if heating else setpoint_c
        error_c = target_c - self._indoor_c if heating else self._indoor_c - target_c
        if self.household.inverter_ac:
            self._compressor = error_c > -0.5
            share = min(max(0.25 + 0.5 * error_c, 0.0), 1.0) if self._compressor else 0.0
            active_mw = _FAN_MW + round(share * _INVERTER_MAX_MW)
            return active_mw, active_mw // 4
        if error_c > 1.0:
            self._compressor = True
        elif error_c < -0.5:
            self._compressor = False
        if self._compressor:
            return _FAN_MW + _FIXED_MW, _FAN_MVAR + _FIXED_MVAR
        return _FAN_MW, _FAN_MVAR

    # --- what tests and the demo ask for ----------------------------------------------------------------------

    def add_power(self, kind: str, power_w: float, *, now_ms: int) -> None:
        """Plug something in for good: so many W (resistive) on top of what the residents do; 0 unplugs it."""
        self._change(now_ms, self.extra_mw, kind, power_w)

    def set_power(self, kind: str, power_w: float | None, *, now_ms: int) -> None:
        """Let a circuit draw exactly so many W, whatever the residents do; None gives it back to them."""
        self._change(now_ms, self.fixed_mw, kind, power_w)

    def _change(self, now_ms: int, powers: dict[str, int], kind: str, power_w: float | None) -> None:
        self.advance(now_ms)
        if power_w is None:
            powers.pop(kind, None)
        else:
            powers[kind] = round(power_w * 1000)
        self._start_step()

    def coming_uj(self, kind: str, window_ms: int) -> int:
        """Return the most that a circuit can draw in the coming `window_ms` with its relay closed, in µJ."""
        if kind in self.fixed_mw:
            return self.fixed_mw[kind] * window_ms
        total_uj = self.extra_mw.get(kind, 0) * window_ms
        if kind == "ac":
            most_mw = math.ceil((_FAN_MW + max(_FIXED_MW, _INVERTER_MAX_MW)) * self.load_factor)
            return most_mw * window_ms + total_uj
        at_ms, end_ms = self.at_ms, self.at_ms + window_ms
        while at_ms < end_ms:
            day, within_ms = divmod(at_ms + _ZONE_MS, DAY_MS)
            next_ms = min(at_ms - at_ms % STEP_MS + STEP_MS, end_ms)
            active_mw = self._profile_of(day).active_mw[within_ms // STEP_MS]
            total_uj += round(active_mw * self.load_factor) * (next_ms - at_ms)
            at_ms = next_ms
        return total_uj

    def state(self) -> dict[str, Any]:
        """Return what has to be kept besides the circuits' own state."""
        return {
            "indoor_c": self._indoor_c,
            "compressor": self._compressor,
            "load_factor": self.load_factor,
            "extra_mw": self.extra_mw,
            "fixed_mw": self.fixed_mw,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` returned."""
        self._indoor_c = float(state["indoor_c"])
        self._compressor = bool(state["compressor"])
        self.load_factor = float(state["load_factor"])
        self.extra_mw = {kind: int(value) for kind, value in state["extra_mw"].items()}
        self.fixed_mw = {kind: int(value) for kind, value in state["fixed_mw"].items()}
        self._start_step()
