"""Reading modules of one line side by side, as a series of requests where line and models bear that."""

from collections.abc import Callable, Sequence

from dormpower.domain.samples import ChannelSample
from gateway.drivers.modbus.decoding import Decoder
from gateway.drivers.modbus.frames import Request
from gateway.drivers.modbus.line import ModbusLine
from gateway.drivers.modbus.module import ModbusModule
from gateway.ports import FieldModule, Rate

MOST_PREPARED = 64

_Series = tuple[list[Request], list[Decoder]]


class SeriesReader:
    """Reads a line's modules in order. Implements `ReadInTurn`."""

    def __init__(self, line: ModbusLine) -> None:
        self._line = line
        self._prepared: dict[tuple[Rate | FieldModule, ...], _Series] = {}

    async def __call__(
        self, modules: Sequence[FieldModule], rate: Rate, take: Callable[[Sequence[ChannelSample]], None]
    ) -> None:
        """Read the first module at least, and those after it as far as nobody waits for the line."""
        key: tuple[Rate | FieldModule, ...] = (rate, *modules)  # the same ones, cycle after cycle
        series = self._prepared.get(key)
        if series is None:
            if len(self._prepared) >= MOST_PREPARED:
                self._prepared.clear()
            series = self._prepared[key] = self._prepare(modules, rate)
        requests, decoders = series
        if len(requests) < 2:
            take(await modules[0].read(rate))
            return
        following = iter(decoders)
        await self._line.series(requests, lambda pdu: take(next(following).channels((pdu,))))

    def _prepare(self, modules: Sequence[FieldModule], rate: Rate) -> _Series:
        """Return the requests of those modules, from the first on, that take one each, and their decoders."""
        requests: list[Request] = []
        decoders: list[Decoder] = []
        if not self._line.takes_series:
            return requests, decoders
        for module in modules:
            poll = module.one_request(rate) if isinstance(module, ModbusModule) else None
            if poll is None:
                break
            requests.append(poll[0])
            decoders.append(poll[1])
        return requests, decoders
