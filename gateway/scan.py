"""Finding out what sits on a line: which units answer, and which profiles fit what they say."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from config.profile_file import ModbusProfile
from dormpower.clock import Clock
from dormpower.domain.samples import ChannelSample
from gateway.drivers.modbus.frames import READ_HOLDING, READ_INPUT, read_request
from gateway.drivers.modbus.line import ModbusLine
from gateway.drivers.modbus.module import ModbusModule, PreparedPlans
from gateway.ports import FieldError, LineDownError, NoAnswerError, Rate, RefusedError, UnusableReplyError

LOWEST_MAINS_V, HIGHEST_MAINS_V = 80.0, 300.0
LOWEST_MAINS_HZ, HIGHEST_MAINS_HZ = 45.0, 65.0
_METER_NOISE_VA = 20.0


async def scan_line(
    *,
    line: ModbusLine,
    units: Iterable[int],
    profiles: Mapping[str, ModbusProfile],
    clock: Clock,
    progress: Callable[[int], None],
) -> list[dict[str, Any]]:
    """Return the units that answer: `{unit, answer, profiles: [{name, certain}]}`. Raises LineDownError."""
    plans = [PreparedPlans(profile) for profile in profiles.values()]
    found = []
    for unit in units:
        answer = await _first_answer(line, unit)
        if answer is not None:
            fits = await _fitting(line, unit, plans, clock)
            found.append({"unit": unit, "answer": answer, "profiles": fits})
        progress(unit)
    return found


async def _first_answer(line: ModbusLine, unit: int) -> str | None:
    """Ask for one register in both ways of reading: some meters are silent to the way they don't know."""
    for function in (READ_HOLDING, READ_INPUT):
        try:
            await line.execute(read_request(unit=unit, function=function, address=0, count=1))
        except NoAnswerError:
            continue
        except RefusedError as refusal:
            return f"exception {refusal.code}"
        except UnusableReplyError:
            return "unusable"
        return "registers"
    return None


async def _fitting(
    line: ModbusLine, unit: int, plans: Sequence[PreparedPlans], clock: Clock
) -> list[dict[str, Any]]:
    fits: list[dict[str, Any]] = []
    for plan in plans:
        module = ModbusModule(module_id=f"unit-{unit}", unit=unit, plans=plan, line=line, clock=clock)
        try:
            known = await module.identify()
            if known is False:
                continue
            samples = await module.read(Rate.FULL)
        except LineDownError:
            raise
        except FieldError:
            continue
        if known:
            return [{"name": plan.profile.name, "certain": True}]
        if all(plausible(sample) for sample in samples):
            fits.append({"name": plan.profile.name, "certain": False})
    return fits


def plausible(sample: ChannelSample) -> bool:
    """Return whether the values can be a meter's on the mains: what a wrong map hardly ever gives."""
    voltage_v, current_a, power_w = sample.voltage_v, sample.current_a, sample.power_w
    if voltage_v is None or current_a is None or power_w is None or sample.register_wh is None:
        return False
    frequency_ok = sample.frequency_hz is None or LOWEST_MAINS_HZ <= sample.frequency_hz <= HIGHEST_MAINS_HZ
    return (
        frequency_ok
        and LOWEST_MAINS_V <= voltage_v <= HIGHEST_MAINS_V
        and 0 <= current_a <= 1000
        and abs(power_w) <= voltage_v * current_a * 1.1 + _METER_NOISE_VA
        and (sample.power_factor is None or abs(sample.power_factor) <= 1.0)
        and sample.register_wh >= 0
    )
