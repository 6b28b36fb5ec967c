"""Reading modules of one line side by side, as a series of requests where line and models bear that."""

from collections.abc import Callable, Sequence

from dormpower.domain.samples import ChannelSample
from gateway.drivers.modbus.line import ModbusLine
from gateway.drivers.modbus.module import ModbusModule
from gateway.ports import FieldModule, Rate


class SeriesReader:
    """Reads a line's modules in order. Implements `ReadInTurn`."""

    def __init__(self, line: ModbusLine) -> None:
        self._line = line

    async def __call__(
        self, modules: Sequence[FieldModule], rate: Rate, take: Callable[[Sequence[ChannelSample]], None]
    ) -> None:
        """Read the first module at least, and those after it as far as nobody waits for the line."""
        requests, decoders = [], []
        if self._line.takes_series:
            for module in modules:
                poll = module.one_request(rate) if isinstance(module, ModbusModule) else None
                if poll is None:
                    break
                requests.append(poll[0])
                decoders.append(poll[1])
        if len(requests) < 2:
            take(await modules[0].read(rate))
            return
        following = iter(decoders)
        await self._line.series(requests, lambda pdu: take(next(following).decode((pdu,))))
