"""One Modbus module: its reads prepared once, its relay switched by the profile's documented form alone."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from config.profile_file import ModbusProfile
from dormpower.clock import Clock
from dormpower.domain.samples import ChannelSample, Relay
from gateway.drivers.modbus.decoding import Decoder, PhaseSample
from gateway.drivers.modbus.frames import Request, read_request, write_request
from gateway.drivers.modbus.line import ModbusLine, RequestWithdrawnError
from gateway.drivers.modbus.planning import Plan, plan_poll, plan_relay
from gateway.drivers.modbus.turns import LineBusyError, Priority
from gateway.ports import (
    FieldError,
    LineDownError,
    NoAnswerError,
    Rate,
    RefusedError,
    SwitchOutcome,
    SwitchResult,
    UnusableReplyError,
)

READ_BACK_EVERY_S = 0.1


class PreparedPlans:
    """A profile's plans and decoders, shared by all its modules."""

    def __init__(self, profile: ModbusProfile) -> None:
        self.profile = profile
        self.polls = {rate: _prepare(profile, plan_poll(profile, rate)) for rate in Rate}
        self.relays = [
            _prepare(profile, plan_relay(profile, number)) for number in range(profile.channel_count)
        ]


def _prepare(profile: ModbusProfile, plan: Plan) -> tuple[Plan, Decoder]:
    return plan, Decoder(profile, plan)


class ModbusModule:
    """A module on a line. Implements `FieldModule`."""

    def __init__(
        self, *, module_id: str, unit: int, plans: PreparedPlans, line: ModbusLine, clock: Clock
    ) -> None:
        self.module_id = module_id
        self.unit = unit
        self.profile = plans.profile
        self._line = line
        self._clock = clock
        self._gap_s = plans.profile.read.gap_ms / 1000
        self._polls = {rate: (_requests(unit, plan), decoder) for rate, (plan, decoder) in plans.polls.items()}
        self._relays = [(_requests(unit, plan), decoder) for plan, decoder in plans.relays]

    async def read(self, rate: Rate, *, priority: Priority = Priority.POLL) -> Sequence[ChannelSample]:
        """Read all channels in as few transactions as the profile allows. Raises FieldError."""
        requests, decoder = self._polls[rate]
        if len(requests) == 1:  # as most profiles are read: one step less in each poll
            return decoder.channels(
                (await self._line.execute(requests[0], priority=priority, gap_s=self._gap_s),)
            )
        return decoder.decode(await self._ask(requests, priority))

    def one_request(self, rate: Rate) -> tuple[Request, Decoder] | None:
        """Return the one request that a poll takes, with who decodes its answer; None where it takes more.

        None too for a model that wants a rest before each request.
        """
        requests, decoder = self._polls[rate]
        return (requests[0], decoder) if len(requests) == 1 and not self._gap_s else None

    async def read_with_phases(self) -> tuple[Sequence[ChannelSample], list[list[PhaseSample]]]:
        """Read everything; besides the channels return the phases of each. Raises FieldError."""
        requests, decoder = self._polls[Rate.FULL]
        answers = await self._ask(requests, Priority.POLL)
        samples = decoder.decode(answers)
        return samples, [decoder.phases(answers, sample.channel) for sample in samples]

    async def identify(self) -> bool | None:
        """Return whether the model's identity register says this profile; None where it has none."""
        identity = self.profile.identity
        if identity is None:
            return None
        function = identity.function or self.profile.read.function
        request = read_request(unit=self.unit, function=function, address=identity.address, count=1)
        answer = await self._line.execute(request, gap_s=self._gap_s)
        return answer[2:4] == identity.equals.to_bytes(2, "big")

    async def _ask(self, requests: Sequence[Request], priority: Priority) -> list[bytes]:
        execute, gap_s = self._line.execute, self._gap_s
        return [await execute(request, priority=priority, gap_s=gap_s) for request in requests]

    # --- the module's own power limit ---------------------------------------------------------------------

    @property
    def has_power_limit(self) -> bool:
        """Whether the model has a power limit of its own that may be written."""
        limit = self.profile.power_limit
        return limit is not None and not any(
            self._limit_address(channel) in self.profile.never_write
            for channel in range(self.profile.channel_count)
        )

    def limit_for(self, limit_w: int) -> int:
        """Return the nearest limit that the register can hold: its highest for what is above."""
        limit = self.profile.power_limit
        return limit_w if limit is None else min(limit_w, limit.max_w)

    async def read_power_limit(self, channel: int) -> int:
        """Return a channel's limit in W, 0 for none. Raises FieldError."""
        request = read_request(
            unit=self.unit, function=self.profile.read.function, address=self._limit_address(channel), count=1
        )
        answer = await self._line.execute(request, gap_s=self._gap_s)
        return int.from_bytes(answer[2:4], "big")

    async def write_power_limit(self, channel: int, limit_w: int) -> int:
        """Write a channel's limit once and return what was read back. Raises FieldError.

        A write whose answer was lost is read back all the same: the module's own state is what counts.
        """
        request = write_request(
            unit=self.unit, function=6, address=self._limit_address(channel), words=(self.limit_for(limit_w),)
        )
        with suppress(NoAnswerError, UnusableReplyError):  # what it holds now is read next
            await self._line.execute(request, priority=Priority.COMMAND, gap_s=self._gap_s)
        return await self.read_power_limit(channel)

    def _limit_address(self, channel: int) -> int:
        limit = self.profile.power_limit
        if limit is None:
            raise TypeError(f"{self.profile.name}: a power limit that the profile lacks")
        return limit.address + channel * self.profile.channels.stride

    # --- switching ---------------------------------------------------------------------------------------

    async def switch(self, *, channel: int, relay: Relay, expires_at: datetime) -> SwitchResult:
        """Write the command once and read back until the relay follows or the profile's time for it is over.

        Never raises for field trouble; never writes at or after `expires_at` (real time). A write whose answer
        was lost is read back all the same: the module's own state is what counts (invariant 16).
        """
        section = self.profile.relay
        if section is None or not 0 <= channel < self.profile.channel_count:
            return SwitchResult(
                outcome=SwitchOutcome.NO_RELAY, detail=f"{self.profile.name} has no relay on channel {channel}"
            )
        request = write_request(
            unit=self.unit,
            function=section.write.function,
            address=section.write.address + channel * self.profile.channels.stride,
            words=section.write.open if relay is Relay.OPEN else section.write.close,
        )
        try:
            await self._line.execute(
                request, priority=Priority.COMMAND, wanted=self._still(expires_at), gap_s=self._gap_s
            )
        except RequestWithdrawnError:
            return SwitchResult(
                outcome=SwitchOutcome.EXPIRED, detail=f"expired at {expires_at.isoformat()}; nothing was sent"
            )
        except (LineDownError, LineBusyError, RefusedError) as fault:
            return _failed(fault)
        except (NoAnswerError, UnusableReplyError) as fault:
            if section.state is None:
                return _failed(fault)
        if section.state is None:
            return SwitchResult(
                outcome=SwitchOutcome.UNCONFIRMED, detail=f"{self.profile.name} documents no read-back"
            )
        return await self._read_back(channel, relay, section.follow_s)

    def _still(self, expires_at: datetime) -> Callable[[], bool]:
        return lambda: self._clock.real_now() < expires_at

    async def _read_back(self, channel: int, relay: Relay, follow_s: float) -> SwitchResult:
        loop = asyncio.get_running_loop()
        limit_s = loop.time() + follow_s
        requests, decoder = self._relays[channel]
        fault: FieldError | None = None
        found: Relay | None = None
        while True:
            try:
                found = decoder.decode(await self._ask(requests, Priority.COMMAND))[0].relay
                fault = None
            except FieldError as trouble:
                fault = trouble
            if found is relay and fault is None:
                return SwitchResult(outcome=SwitchOutcome.CONFIRMED, relay=relay)
            if loop.time() + READ_BACK_EVERY_S > limit_s:
                break
            await asyncio.sleep(READ_BACK_EVERY_S)
        if fault is not None:
            return _failed(fault)
        said = f"reports {found}" if found is not None else "reports neither open nor closed"
        return SwitchResult(
            outcome=SwitchOutcome.NOT_FOLLOWED, relay=found, detail=f"told {relay}, {said} after {follow_s:g} s"
        )


def _failed(fault: FieldError) -> SwitchResult:
    if isinstance(fault, LineDownError):
        outcome = SwitchOutcome.LINE_DOWN
    elif isinstance(fault, RefusedError):
        outcome = SwitchOutcome.REFUSED
    else:
        outcome = SwitchOutcome.TIMED_OUT
    return SwitchResult(outcome=outcome, detail=str(fault))


def _requests(unit: int, plan: Plan) -> tuple[Request, ...]:
    return tuple(
        read_request(unit=unit, function=block.function, address=block.address, count=block.count)
        for block in plan.blocks
    )
