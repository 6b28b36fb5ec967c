"""What residents do with their appliances in a day: a profile of power, minute by minute.

Each day of each room is drawn from a random stream of its own, seeded from (seed, room, day): a room's days are
the same whatever is asked of it, and in whatever order.
"""

import random
from dataclasses import dataclass
from itertools import accumulate
from math import sqrt

STEP_MS = 60_000
STEPS_PER_DAY = 1440


@dataclass(frozen=True, slots=True)
class Appliance:
    """Rated power, power factor, and the extra power of its first minute (start transient)."""

    name: str
    power_w: int
    power_factor: float
    start_extra_w: int = 0

    @property
    def active_mw(self) -> int:
        """Active power in mW."""
        return self.power_w * 1000

    @property
    def reactive_mvar(self) -> int:
        """Reactive power in mvar."""
        return round(self.active_mw * sqrt(1 / self.power_factor**2 - 1))


FRIDGE = Appliance("fridge", 75, 0.62, 25)
LAPTOP = Appliance("laptop", 45, 0.93)
LAMP = Appliance("lamp", 9, 0.9)
CEILING = Appliance("ceiling light", 36, 0.95)
CHARGER = Appliance("charger", 12, 0.58)
ROUTER = Appliance("router", 8, 0.55)
KETTLE = Appliance("kettle", 650, 1.0)
HAIR_DRYER = Appliance("hair dryer", 750, 0.99, 40)
HEATER = Appliance("heater", 1200, 1.0)
IRON = Appliance("iron", 1000, 1.0)
WATER_DISPENSER = Appliance("water dispenser", 420, 0.99)
MICROWAVE = Appliance("microwave", 700, 0.91, 60)
FAN = Appliance("fan", 38, 0.88)


@dataclass(frozen=True, slots=True, kw_only=True)
class Household:
    """Who lives in a room, and what they own; drawn once for a room. `thrift` scales how much is used."""

    residents: int
    wake_minute: int
    sleep_minute: int
    has_fridge: bool
    has_dispenser: bool
    has_microwave: bool
    has_heater: bool
    inverter_ac: bool
    ac_setpoint_c: float
    thrift: float


def draw_household(*, seed: int, room_id: str) -> Household:
    """Draw a room's household."""
    draw = random.Random(f"{seed}/{room_id}/household")  # noqa: S311 - a simulation, not a secret
    return Household(
        residents=draw.choice((2, 4, 4, 4, 6)),
        wake_minute=draw.randint(375, 460),
        sleep_minute=draw.randint(1360, 1500),
        has_fridge=draw.random() < 0.35,
        has_dispenser=draw.random() < 0.4,
        has_microwave=draw.random() < 0.1,
        has_heater=draw.random() < 0.06,
        inverter_ac=draw.random() < 0.6,
        ac_setpoint_c=draw.choice((24.0, 25.0, 26.0, 26.0, 27.0)),
        thrift=draw.uniform(0.7, 1.3),
    )


class _Day:
    """A day in the making: two difference arrays, summed up at the end."""

    def __init__(self) -> None:
        self.active = [0] * (STEPS_PER_DAY + 1)
        self.reactive = [0] * (STEPS_PER_DAY + 1)
        self.presence = [0] * (STEPS_PER_DAY + 1)

    def use(self, appliance: Appliance, start: float, minutes: float) -> None:
        """Switch an appliance on for some minutes; what runs past midnight is cut there."""
        first = min(max(int(start), 0), STEPS_PER_DAY)
        last = min(max(int(start + minutes), first), STEPS_PER_DAY)
        if first == last:
            return
        self.active[first] += appliance.active_mw
        self.active[last] -= appliance.active_mw
        self.reactive[first] += appliance.reactive_mvar
        self.reactive[last] -= appliance.reactive_mvar
        if appliance.start_extra_w and first + 1 < STEPS_PER_DAY:
            self.active[first] += appliance.start_extra_w * 1000
            self.active[first + 1] -= appliance.start_extra_w * 1000

    def be_there(self, start: float, end: float) -> None:
        """Note that somebody is in, and would want it cool or warm."""
        first = min(max(int(start), 0), STEPS_PER_DAY)
        last = min(max(int(end), first), STEPS_PER_DAY)
        self.presence[first] += 1
        self.presence[last] -= 1


@dataclass(frozen=True, slots=True)
class DayProfile:
    """A room's day: for each minute the lighting circuit's mW and mvar, and whether somebody is in."""

    active_mw: list[int]
    reactive_mvar: list[int]
    presence: list[int]


def plan_day(*, seed: int, room_id: str, household: Household, day: int, outdoor_c: float) -> DayProfile:
    """Draw one campus day (days since 1970) of a room."""
    draw = random.Random(f"{seed}/{room_id}/{day}")  # noqa: S311 - a simulation, not a secret
    weekend = (day + 3) % 7 >= 5  # 1970-01-01 was a Thursday
    plan = _Day()
    plan.use(ROUTER, 0, STEPS_PER_DAY)
    if household.has_fridge:
        minute = draw.uniform(-20, 20)
        while minute < STEPS_PER_DAY:
            plan.use(FRIDGE, minute, 14)
            minute += draw.uniform(38, 50)
    wake = household.wake_minute + (draw.randint(40, 120) if weekend else draw.randint(-10, 15))
    sleep = household.sleep_minute + draw.randint(-25, 30)
    plan.be_there(0, wake + 35)
    if sleep > STEPS_PER_DAY:
        plan.use(CEILING, 0, sleep - STEPS_PER_DAY)
    plan.use(CEILING, wake, draw.randint(15, 35))
    for _ in range(household.residents):
        _plan_resident(plan, draw, weekend=weekend, wake=wake, sleep=sleep, hot=outdoor_c > 24)
    evening = draw.randint(1060, 1110)
    plan.be_there(evening, STEPS_PER_DAY)
    plan.use(CEILING, evening, sleep - evening)
    _plan_shared(plan, draw, household, outdoor_c=outdoor_c, wake=wake, evening=evening)
    scale = household.thrift
    return DayProfile(
        [round(value * scale) for value in accumulate(plan.active[:-1])],
        [round(value * scale) for value in accumulate(plan.reactive[:-1])],
        list(accumulate(plan.presence[:-1])),
    )


def _plan_resident(plan: _Day, draw: random.Random, *, weekend: bool, wake: int, sleep: int, hot: bool) -> None:
    plan.use(CHARGER, draw.randint(1290, 1400), draw.randint(70, 160))
    if draw.random() < (0.7 if weekend else 0.25):  # in during the day
        start = draw.randint(wake + 60, 840)
        length = draw.randint(90, 300)
        plan.be_there(start, start + length)
        plan.use(LAPTOP, start, length)
    start = draw.randint(1080, 1230)
    plan.use(LAPTOP, start, min(draw.randint(60, 210), max(sleep - start, 0)))
    if draw.random() < 0.6:
        plan.use(LAMP, draw.randint(1140, 1290), draw.randint(30, 120))
    if draw.random() < 0.45:
        plan.use(HAIR_DRYER, draw.randint(1260, 1370), draw.randint(3, 8))
    if hot:
        plan.use(FAN, draw.randint(720, 1100), draw.randint(120, 300))


def _plan_shared(
    plan: _Day, draw: random.Random, household: Household, *, outdoor_c: float, wake: int, evening: int
) -> None:
    if draw.random() < 0.5:
        plan.use(KETTLE, wake + draw.randint(2, 20), draw.randint(4, 8))
    if draw.random() < 0.4:
        plan.use(KETTLE, evening + draw.randint(20, 200), draw.randint(4, 8))
    if household.has_dispenser:
        for _ in range(draw.randint(5, 9)):
            plan.use(WATER_DISPENSER, draw.randint(wake, 1400), draw.randint(4, 9))
    if household.has_microwave and draw.random() < 0.5:
        plan.use(MICROWAVE, draw.randint(evening, evening + 240), draw.randint(3, 8))
    if household.has_heater and outdoor_c < 8 and draw.random() < 0.5:
        plan.use(HEATER, evening + draw.randint(0, 120), draw.randint(20, 60))
    if draw.random() < 0.03:
        plan.use(IRON, draw.randint(evening, 1350), draw.randint(6, 15))
