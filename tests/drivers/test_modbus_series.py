"""A series of polls on real sockets: one request after the other, and every fault about the right one."""

import asyncio
from collections.abc import Sequence

import pytest

from config.profiles import ModbusProfile, load_profiles
from dormpower.clock import real_clock
from dormpower.domain.samples import ChannelSample
from gateway.drivers.modbus.line import ModbusLine
from gateway.drivers.modbus.module import ModbusModule, PreparedPlans
from gateway.drivers.modbus.series import SeriesReader
from gateway.drivers.modbus.turns import Priority
from gateway.ports import (
    ConnectionLostError,
    FieldModule,
    NoAnswerError,
    Rate,
    RefusedError,
    UnusableReplyError,
)
from tests.drivers.test_modbus_line import Peer, ask, echo_address, peer_and_line, value_answer


class Taken:
    """What a series handed on; at a certain one it raises."""

    def __init__(self, *, raises: Exception | None = None, at: int = 0) -> None:
        self.pdus: list[bytes] = []
        self._raises = raises
        self._at = at

    def __call__(self, pdu: bytes) -> None:
        if self._raises is not None and len(self.pdus) == self._at:
            raise self._raises
        self.pdus.append(pdu)


def answers(*addresses: int) -> list[bytes]:
    return [value_answer(address) for address in addresses]


async def test_each_request_is_sent_when_the_one_before_is_answered() -> None:
    taken = Taken()
    waiting: list[int] = []

    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        waiting.append(len(peer.seen) - len(taken.pdus))
        echo_address(peer, unit, pdu)

    async with peer_and_line(rtu=False, script=script) as (peer, line):
        await line.series([ask(address, unit=address) for address in range(1, 6)], taken)
        assert taken.pdus == answers(1, 2, 3, 4, 5)
        assert [unit for unit, _ in peer.seen] == [1, 2, 3, 4, 5]
        assert waiting == [1] * 5  # never two on the line
        assert (line.counters.requests, line.counters.strays) == (5, 0)


async def test_a_command_does_not_wait_for_the_end_of_a_series() -> None:
    taken = Taken()
    async with asyncio.TaskGroup() as commands:

        def script(peer: Peer, unit: int, pdu: bytes) -> None:
            if unit == 2:
                commands.create_task(line.execute(ask(77, unit=9), priority=Priority.COMMAND))
                asyncio.get_running_loop().call_soon(echo_address, peer, unit, pdu)
            else:
                echo_address(peer, unit, pdu)

        async with peer_and_line(rtu=False, script=script) as (peer, line):
            requests = [ask(address, unit=address) for address in range(1, 6)]
            await line.series(requests, taken)
            assert taken.pdus == answers(1, 2)
            await line.series(requests[len(taken.pdus) :], taken)
            assert taken.pdus == answers(1, 2, 3, 4, 5)
            assert [unit for unit, _ in peer.seen] == [1, 2, 9, 3, 4, 5]


async def test_a_silent_module_ends_a_series_after_the_answers_before_it() -> None:
    taken = Taken()

    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        if unit != 3:
            echo_address(peer, unit, pdu)

    async with peer_and_line(rtu=False, script=script) as (_, line):
        with pytest.raises(NoAnswerError, match="unit 3: no answer"):
            await line.series([ask(address, unit=address) for address in range(1, 6)], taken)
        assert taken.pdus == answers(1, 2)
        await line.series([ask(4, unit=4), ask(5, unit=5)], taken)
        assert taken.pdus == answers(1, 2, 4, 5)
        assert line.counters.timeouts == 1


async def test_an_exception_ends_a_series_at_the_module_that_sent_it() -> None:
    taken = Taken()

    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        if unit == 2:
            peer.say(unit, bytes((0x83, 2)))
        else:
            echo_address(peer, unit, pdu)

    async with peer_and_line(rtu=False, script=script) as (_, line):
        with pytest.raises(RefusedError, match="unit 2: refused with exception 2"):
            await line.series([ask(1, unit=1), ask(2, unit=2), ask(3, unit=3)], taken)
        assert taken.pdus == answers(1)


async def test_an_answer_of_another_unit_is_nobody_s_in_a_series_too() -> None:
    taken = Taken()

    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        peer.say(7 if unit == 2 else unit, value_answer(int.from_bytes(pdu[1:3], "big")))

    async with peer_and_line(rtu=False, script=script) as (_, line):
        with pytest.raises(UnusableReplyError, match="an answer of unit 7"):
            await line.series([ask(1, unit=1), ask(2, unit=2)], taken)
        assert taken.pdus == answers(1)


async def test_a_connection_lost_in_a_series_is_lost_with_the_module_that_was_asked() -> None:
    taken = Taken()

    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        if unit == 2:
            peer.hang_up()
        else:
            echo_address(peer, unit, pdu)

    async with peer_and_line(rtu=False, script=script) as (_, line):
        with pytest.raises(ConnectionLostError, match="while unit 2 was asked"):
            await line.series([ask(1, unit=1), ask(2, unit=2), ask(3, unit=3)], taken)
        assert taken.pdus == answers(1)


@pytest.mark.parametrize("fault", [UnusableReplyError("no number"), ValueError("a fault of ours")])
async def test_what_taking_an_answer_raises_is_raised_by_the_series_and_the_line_goes_on(
    fault: Exception,
) -> None:
    taken = Taken(raises=fault, at=1)
    async with peer_and_line(rtu=False, script=echo_address) as (peer, line):
        with pytest.raises(type(fault), match=str(fault)):
            await line.series([ask(1), ask(2), ask(3)], taken)
        assert taken.pdus == answers(1)
        assert len(peer.seen) == 2
        assert await line.execute(ask(9)) == value_answer(9)


async def test_the_late_answer_of_a_series_that_was_given_up_is_not_the_next_one_s() -> None:
    held: list[tuple[int, int, bytes]] = []

    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        if unit == 2:
            held.append((peer.transaction, unit, value_answer(2)))
        else:
            for transaction, of_unit, late in held:
                peer.say(of_unit, late, transaction)
            held.clear()
            echo_address(peer, unit, pdu)

    async with peer_and_line(rtu=False, script=script) as (peer, line):
        series = asyncio.create_task(line.series([ask(1, unit=1), ask(2, unit=2)], Taken()))
        while len(peer.seen) < 2:
            peer.arrived.clear()
            await peer.arrived.wait()
        series.cancel()
        await asyncio.gather(series, return_exceptions=True)
        assert await line.execute(ask(3, unit=3)) == value_answer(3)
        assert line.counters.strays == 1


async def test_a_bus_without_transactions_takes_no_series() -> None:
    async with peer_and_line(rtu=True, script=echo_address) as (_, line):
        assert not line.takes_series
    async with peer_and_line(rtu=False, script=echo_address) as (_, line):
        assert line.takes_series


# --- modules ------------------------------------------------------------------------------------------------


def modules_on(line: ModbusLine, *profiles: str) -> list[FieldModule]:
    known = load_profiles()
    found: list[FieldModule] = []
    for unit, name in enumerate(profiles, start=1):
        profile = known[name]
        assert isinstance(profile, ModbusProfile)
        plans = PreparedPlans(profile)
        found.append(ModbusModule(module_id=f"m-{unit}", unit=unit, plans=plans, line=line, clock=real_clock()))
    return found


def zeros(peer: Peer, unit: int, pdu: bytes) -> None:
    count = int.from_bytes(pdu[3:5], "big")
    peer.say(unit, bytes((pdu[0], 2 * count)) + bytes(2 * count))


async def test_modules_that_take_one_request_are_read_in_one_go_and_others_alone() -> None:
    taken: list[Sequence[ChannelSample]] = []
    async with peer_and_line(rtu=False, script=zeros) as (peer, line):
        modules = modules_on(
            line, "dormpower-dual", "dormpower-dual", "eastron-sdm120", "dormpower-dual", "dormpower-dual"
        )
        read = SeriesReader(line)
        taken_after = []
        while len(taken) < len(modules):
            await read(modules[len(taken) :], Rate.FULL, taken.append)
            taken_after.append(len(taken))
        assert taken_after == [2, 3, 5]
        assert [len(channels) for channels in taken] == [2, 2, 1, 2, 2]
        assert [unit for unit, _ in peer.seen if unit != 3] == [1, 2, 4, 5]
