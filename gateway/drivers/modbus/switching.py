"""The switch of all Modbus modules: finds the module, and lets a command act once (invariant 17)."""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime

from dormpower.domain.samples import Relay
from gateway.drivers.modbus.module import ModbusModule
from gateway.ports import SwitchOutcome, SwitchResult

MAX_REMEMBERED = 4096


class ModbusSwitch:
    """Implements `Switch` for the modules it is given.

    A command id that was seen gets the first one's result and sends nothing; ids are remembered for the latest
    4096 commands, far more than expire together.
    """

    def __init__(self, modules: Mapping[str, ModbusModule]) -> None:
        self._modules = modules
        self._seen: OrderedDict[str, asyncio.Future[SwitchResult]] = OrderedDict()

    async def switch(
        self, *, module_id: str, channel: int, relay: Relay, command_id: str, expires_at: datetime
    ) -> SwitchResult:
        """Carry out a command once; `expires_at` is real time, after it the command must not act."""
        module = self._modules.get(module_id)
        if module is None:
            return SwitchResult(outcome=SwitchOutcome.NO_RELAY, detail=f"no Modbus module {module_id}")
        first = self._seen.get(command_id)
        if first is not None:
            return await asyncio.shield(first)
        done: asyncio.Future[SwitchResult] = asyncio.get_running_loop().create_future()
        self._seen[command_id] = done
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        try:
            result = await module.switch(channel=channel, relay=relay, expires_at=expires_at)
        except BaseException:
            done.set_result(
                SwitchResult(outcome=SwitchOutcome.TIMED_OUT, detail="the command was given up half-way")
            )
            raise
        done.set_result(result)
        return result
