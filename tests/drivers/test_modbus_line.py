"""The line's discipline against a scripted peer on real sockets: it says the bytes that a test gives."""

import asyncio
import os
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest

from config.profiles import ModbusProfile, load_profiles
from dormpower.clock import real_clock
from dormpower.domain.samples import Relay
from dormpower.domain.site import Framer, Line, Transport
from gateway.drivers.modbus.frames import Request, read_request, write_request
from gateway.drivers.modbus.line import ModbusLine
from gateway.drivers.modbus.module import ModbusModule, PreparedPlans
from gateway.drivers.modbus.switching import ModbusSwitch
from gateway.drivers.modbus.turns import Priority
from gateway.ports import (
    ConnectionLostError,
    LineDownError,
    NoAnswerError,
    RefusedError,
    SwitchOutcome,
    UnusableReplyError,
)


def crc(data: bytes) -> bytes:
    value = 0xFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ 0xA001 if value & 1 else value >> 1
    return value.to_bytes(2, "little")


class Peer:
    """A Modbus peer whose answers are a test's own: a script gets (unit, pdu, reply) for each request."""

    def __init__(self, *, rtu: bool, script: Callable[["Peer", int, bytes], None]) -> None:
        self.rtu = rtu
        self.script = script
        self.seen: list[tuple[int, bytes]] = []
        self.transaction = 0
        self.connections = 0
        self.write: Callable[[bytes], None] = lambda data: None
        self.hang_up: Callable[[], None] = lambda: None
        self.arrived = asyncio.Event()
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                if self.rtu:
                    head = await reader.readexactly(7)
                    more = head[6] + 2 if head[1] == 16 else 1
                    frame = head + await reader.readexactly(more)
                    unit, pdu = frame[0], frame[1:-2]
                    assert crc(frame[:-2]) == frame[-2:]
                else:
                    head = await reader.readexactly(7)
                    self.transaction, _, length, unit = struct.unpack(">HHHB", head)
                    pdu = await reader.readexactly(length - 1)
                self.write = writer.write
                self.hang_up = writer.close
                self.seen.append((unit, pdu))
                self.arrived.set()
                self.script(self, unit, pdu)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def frame(self, unit: int, pdu: bytes, transaction: int | None = None) -> bytes:
        if self.rtu:
            return bytes((unit,)) + pdu + crc(bytes((unit,)) + pdu)
        tid = self.transaction if transaction is None else transaction
        return struct.pack(">HHHB", tid, 0, len(pdu) + 1, unit) + pdu

    def say(self, unit: int, pdu: bytes, transaction: int | None = None) -> None:
        self.write(self.frame(unit, pdu, transaction))


@asynccontextmanager
async def peer_and_line(
    *, rtu: bool, script: Callable[[Peer, int, bytes], None], timeout_ms: int = 150
) -> AsyncIterator[tuple[Peer, ModbusLine]]:
    peer = Peer(rtu=rtu, script=script)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0)
    peer.port = server.sockets[0].getsockname()[1]
    line = ModbusLine(
        Line(
            line_id="l1",
            transport=Transport.TCP,
            host="127.0.0.1",
            port=peer.port,
            framer=Framer.RTU if rtu else Framer.SOCKET,
            timeout_ms=timeout_ms,
        ),
        jitter=lambda: 0.0,
    )
    try:
        yield peer, line
    finally:
        line.close()
        server.close()


def value_answer(value: int) -> bytes:
    return struct.pack(">BBH", 3, 2, value)


def ask(address: int, unit: int = 1) -> Request:
    return read_request(unit=unit, function=3, address=address, count=1)


def echo_address(peer: Peer, unit: int, pdu: bytes) -> None:
    """Answer each read of one register with its address."""
    peer.say(unit, value_answer(int.from_bytes(pdu[1:3], "big")))


def both_framings(test: Callable[..., object]) -> object:
    return pytest.mark.parametrize("rtu", [False, True], ids=["socket", "rtu"])(test)


@both_framings
async def test_an_answer_is_the_pdu_that_was_asked_for(rtu: bool) -> None:
    async with peer_and_line(rtu=rtu, script=echo_address) as (_, line):
        assert [await line.execute(ask(address)) for address in (5, 300)] == [
            value_answer(5),
            value_answer(300),
        ]
        assert line.counters.connections == 1


@both_framings
async def test_a_late_answer_is_never_taken_for_the_next_one(rtu: bool) -> None:
    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        address = int.from_bytes(pdu[1:3], "big")
        late = peer.frame(unit, value_answer(address))
        if address == 0:
            asyncio.get_running_loop().call_later(0.2, peer.write, late)
        else:
            peer.write(late)

    async with peer_and_line(rtu=rtu, script=script) as (_, line):
        with pytest.raises(NoAnswerError):
            await line.execute(ask(0))
        assert await line.execute(ask(100)) == value_answer(100)


async def test_an_rtu_answer_that_is_still_owed_can_not_arrive_on_the_new_connection() -> None:
    held: list[Callable[[], None]] = []

    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        address = int.from_bytes(pdu[1:3], "big")
        if address == 0:
            write, late = peer.write, peer.frame(unit, value_answer(0))
            held.append(lambda: write(late))
            return
        held[0]()  # the very late answer to the first request goes out, on the connection it was asked on
        echo_address(peer, unit, pdu)

    async with peer_and_line(rtu=True, script=script) as (peer, line):
        with pytest.raises(NoAnswerError):
            await line.execute(ask(0))
        assert await line.execute(ask(100)) == value_answer(100)
        assert peer.connections == 2


async def test_a_late_answer_of_another_transaction_in_the_same_segment_is_dropped() -> None:
    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        stray = peer.frame(unit, value_answer(7), transaction=peer.transaction - 1 or 9)
        peer.write(stray + peer.frame(unit, value_answer(8)))

    async with peer_and_line(rtu=False, script=script) as (_, line):
        assert await line.execute(ask(8)) == value_answer(8)
        assert line.counters.strays == 1


async def test_an_rtu_answer_of_another_unit_is_waited_past() -> None:
    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        peer.write(peer.frame(unit + 1, value_answer(7)) + peer.frame(unit, value_answer(8)))

    async with peer_and_line(rtu=True, script=script) as (_, line):
        assert await line.execute(ask(8)) == value_answer(8)


@both_framings
@pytest.mark.parametrize(
    ("unit", "pdu"),
    [(2, value_answer(1)), (1, b"\x04\x02\x00\x01"), (1, b"\x03\x04\x00\x01\x00\x02")],
    ids=["wrong unit", "wrong function", "wrong length"],
)
async def test_an_answer_that_was_not_asked_for_is_unusable(rtu: bool, unit: int, pdu: bytes) -> None:
    async with peer_and_line(rtu=rtu, script=lambda peer, *_: peer.say(unit, pdu)) as (_, line):
        with pytest.raises(UnusableReplyError, match=f"an answer of unit {unit}"):
            await line.execute(ask(1))


async def test_a_bad_check_sum_is_unusable_and_the_next_answer_is_good() -> None:
    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        good = peer.frame(unit, value_answer(1))
        peer.write(good[:-1] + bytes((good[-1] ^ 0xFF,)) if len(peer.seen) == 1 else good)

    async with peer_and_line(rtu=True, script=script) as (_, line):
        with pytest.raises(UnusableReplyError, match="bad check sum"):
            await line.execute(ask(1))
        assert await line.execute(ask(1)) == value_answer(1)
        assert line.counters.unusable == 1


@both_framings
async def test_half_a_frame_is_unusable_and_does_not_swallow_the_next_answer(rtu: bool) -> None:
    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        good = peer.frame(unit, value_answer(1))
        peer.write(good[: len(good) // 2 + 1] if len(peer.seen) == 1 else good)

    async with peer_and_line(rtu=rtu, script=script) as (_, line):
        with pytest.raises(UnusableReplyError, match="bytes of an answer"):
            await line.execute(ask(1))
        assert await line.execute(ask(1)) == value_answer(1)


@both_framings
async def test_an_answer_in_single_bytes_is_put_together(rtu: bool) -> None:
    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        loop = asyncio.get_running_loop()
        for index, byte in enumerate(peer.frame(unit, value_answer(9))):
            loop.call_later(index * 0.002, peer.write, bytes((byte,)))

    async with peer_and_line(rtu=rtu, script=script, timeout_ms=1000) as (_, line):
        assert await line.execute(ask(9)) == value_answer(9)


async def test_an_exception_is_a_refusal_with_its_code_and_its_meaning() -> None:
    async with peer_and_line(rtu=False, script=lambda peer, unit, _: peer.say(unit, b"\x83\x02")) as (_, line):
        with pytest.raises(RefusedError, match=r"exception 2 .no such register.") as refusal:
            await line.execute(ask(1))
        assert refusal.value.code == 2


async def test_a_gateway_that_says_its_device_is_silent_means_no_answer() -> None:
    async with peer_and_line(rtu=False, script=lambda peer, unit, _: peer.say(unit, b"\x83\x0b")) as (_, line):
        with pytest.raises(NoAnswerError):
            await line.execute(ask(1))


async def test_a_line_that_drops_in_the_middle_of_a_frame_is_down_and_comes_back() -> None:
    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        if len(peer.seen) == 1:
            peer.write(peer.frame(unit, value_answer(1))[:4])
            peer.hang_up()
        else:
            echo_address(peer, unit, pdu)

    async with peer_and_line(rtu=False, script=script) as (_, line):
        with pytest.raises(ConnectionLostError, match="connection lost while unit 1 was asked"):
            await line.execute(ask(1))
        with pytest.raises(LineDownError, match="next try in") as not_asked:
            await line.execute(ask(1))
        assert not isinstance(not_asked.value, ConnectionLostError)  # nobody was asked: nobody is to blame
        assert 0 < line.retry_in_s <= 0.5
        await asyncio.sleep(line.retry_in_s)  # the delay that the line itself asked for
        assert await line.execute(ask(1)) == value_answer(1)


async def test_a_refused_connection_is_tried_again_later_and_later_within_a_bound() -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    line = ModbusLine(
        Line(line_id="l1", transport=Transport.TCP, host="127.0.0.1", port=port), jitter=lambda: 0.5
    )
    delays = []
    for _ in range(9):
        with pytest.raises(LineDownError):
            await line.execute(ask(1))
        delays.append(round(line.retry_in_s))
        line._retry_at_s = 0.0
    assert delays == [0, 1, 2, 4, 8, 16, 30, 30, 30]


async def test_a_peer_that_vanished_without_a_word_is_connected_anew() -> None:
    async with peer_and_line(rtu=False, script=lambda *_: None, timeout_ms=20) as (peer, line):
        for _ in range(6):
            with pytest.raises(NoAnswerError):
                await line.execute(ask(1))
        assert peer.connections == 2


async def test_a_command_goes_ahead_of_the_polls_that_wait() -> None:
    started, go = asyncio.Event(), asyncio.Event()

    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        async def later() -> None:
            await go.wait()
            echo_address(peer, unit, pdu)

        started.set()
        tasks.append(asyncio.ensure_future(later()))

    tasks: list[asyncio.Future[None]] = []
    async with peer_and_line(rtu=False, script=script, timeout_ms=5000) as (peer, line):
        polls = [asyncio.ensure_future(line.execute(ask(address))) for address in (1, 2, 3)]
        await started.wait()
        command = asyncio.ensure_future(line.execute(ask(99), priority=Priority.COMMAND))
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(command, *polls)
        assert [int.from_bytes(pdu[1:3], "big") for _, pdu in peer.seen] == [1, 99, 2, 3]


async def test_a_cancelled_waiter_does_not_stop_the_line() -> None:
    async with peer_and_line(rtu=False, script=echo_address) as (_, line):
        waiting = [asyncio.ensure_future(line.execute(ask(address))) for address in range(4)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        waiting[2].cancel()
        assert await waiting[3] == value_answer(3)
        assert await line.execute(ask(4)) == value_answer(4)


async def test_closing_a_line_ends_everything_that_waits() -> None:
    async with peer_and_line(rtu=False, script=lambda *_: None, timeout_ms=5000) as (peer, line):
        waiting = [asyncio.ensure_future(line.execute(ask(address))) for address in range(3)]
        await peer.arrived.wait()
        line.close()
        ends = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(end, LineDownError) for end in ends)
        with pytest.raises(LineDownError):
            await line.execute(ask(1))


# --- switching ---------------------------------------------------------------------------------------------


class Contactor:
    """A scripted module with one relay register that follows a command after some read-backs."""

    def __init__(self, *, follows_after: int = 0, answers_write: bool = True) -> None:
        self.state = 0
        self.pending: int | None = None
        self.left = follows_after
        self.answers_write = answers_write
        self.writes = 0

    def __call__(self, peer: Peer, unit: int, pdu: bytes) -> None:
        if pdu[0] == 16:
            self.writes += 1
            self.pending = pdu[-1]
            if self.answers_write:
                peer.say(unit, pdu[:5])
            return
        if self.pending is not None and self.left == 0:
            self.state, self.pending = self.pending, None
        self.left = max(0, self.left - 1)
        peer.say(unit, value_answer(self.state))


def profile_of(name: str) -> ModbusProfile:
    profile = load_profiles()[name]
    assert isinstance(profile, ModbusProfile)
    return profile


def switch_on(line: ModbusLine, name: str, *, follow_s: float | None = None) -> ModbusSwitch:
    profile = profile_of(name)
    if follow_s is not None and profile.relay is not None:
        relay = profile.relay.model_copy(update={"follow_s": follow_s})
        profile = profile.model_copy(update={"relay": relay})
    module = ModbusModule(module_id="m1", unit=1, plans=PreparedPlans(profile), line=line, clock=real_clock())
    return ModbusSwitch({"m1": module})


def soon() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=30)


async def close_relay(switch: ModbusSwitch, *, command_id: str = "c1", expires_at: datetime | None = None):
    return await switch.switch(
        module_id="m1",
        channel=0,
        relay=Relay.CLOSED,
        command_id=command_id,
        expires_at=expires_at or soon(),
    )


@both_framings
async def test_the_modules_own_power_limit_is_written_and_read_back_by_its_documented_bytes(rtu: bool) -> None:
    kept = {"limit": 0}

    def script(peer: Peer, unit: int, pdu: bytes) -> None:
        if pdu[0] == 6:
            kept["limit"] = int.from_bytes(pdu[3:5], "big")
            peer.say(unit, pdu)
        else:
            peer.say(unit, value_answer(kept["limit"]))

    async with peer_and_line(rtu=rtu, script=script) as (peer, line):
        module = ModbusModule(
            module_id="m1",
            unit=1,
            plans=PreparedPlans(profile_of("dormpower-dual")),
            line=line,
            clock=real_clock(),
        )
        assert module.has_power_limit
        assert module.limit_for(100_000) == 65_535
        assert await module.read_power_limit(1) == 0
        assert await module.write_power_limit(1, 800) == 800
        # channel 1: 0x001A + 0x20; 800 W is 0x0320
        assert [pdu.hex() for _, pdu in peer.seen] == ["03003a0001", "06003a0320", "03003a0001"]


@both_framings
async def test_a_command_is_confirmed_only_by_reading_back_even_if_contacts_take_time(rtu: bool) -> None:
    contactor = Contactor(follows_after=2)
    async with peer_and_line(rtu=rtu, script=contactor) as (_, line):
        result = await close_relay(switch_on(line, "hiking-dds238-zn-sr"))
        assert (result.outcome, result.relay) == (SwitchOutcome.CONFIRMED, Relay.CLOSED)
        assert contactor.writes == 1


async def test_a_write_whose_answer_was_lost_is_read_back_and_not_written_again() -> None:
    contactor = Contactor(answers_write=False)
    async with peer_and_line(rtu=False, script=contactor) as (_, line):
        result = await close_relay(switch_on(line, "hiking-dds238-zn-sr"))
        assert result.outcome is SwitchOutcome.CONFIRMED
        assert contactor.writes == 1


async def test_a_relay_that_does_not_follow_is_told() -> None:
    async with peer_and_line(rtu=False, script=Contactor(follows_after=1000)) as (_, line):
        result = await close_relay(switch_on(line, "hiking-dds238-zn-sr", follow_s=0.3))
        assert (result.outcome, result.relay) == (SwitchOutcome.NOT_FOLLOWED, Relay.OPEN)


async def test_an_expired_command_never_acts() -> None:
    contactor = Contactor()
    async with peer_and_line(rtu=False, script=contactor) as (_, line):
        result = await close_relay(switch_on(line, "hiking-dds238-zn-sr"), expires_at=datetime.now(UTC))
        assert result.outcome is SwitchOutcome.EXPIRED
        assert contactor.writes == 0


async def test_a_command_that_expires_while_it_waits_for_the_line_never_acts() -> None:
    class SilentThenRelay(Contactor):
        def __call__(self, peer: Peer, unit: int, pdu: bytes) -> None:
            if pdu[0] != 4:
                super().__call__(peer, unit, pdu)

    contactor = SilentThenRelay()
    async with peer_and_line(rtu=False, script=contactor, timeout_ms=300) as (peer, line):
        silent = asyncio.ensure_future(line.execute(read_request(unit=1, function=4, address=0, count=1)))
        await peer.arrived.wait()
        expires_at = datetime.now(UTC) + timedelta(milliseconds=50)
        result = await close_relay(switch_on(line, "hiking-dds238-zn-sr"), expires_at=expires_at)
        assert result.outcome is SwitchOutcome.EXPIRED
        assert contactor.writes == 0
        with pytest.raises(NoAnswerError):
            await silent


async def test_a_repeated_command_gets_the_first_result_and_sends_nothing() -> None:
    contactor = Contactor()
    async with peer_and_line(rtu=False, script=contactor) as (_, line):
        switch = switch_on(line, "hiking-dds238-zn-sr")
        first, second = await asyncio.gather(close_relay(switch), close_relay(switch))
        third = await close_relay(switch)
        assert first == second == third
        assert contactor.writes == 1


async def test_a_model_without_a_read_back_ends_unconfirmed() -> None:
    async with peer_and_line(rtu=False, script=lambda peer, unit, pdu: peer.say(unit, pdu[:5])) as (_, line):
        result = await close_relay(switch_on(line, "acrel-ddsy1352"))
        assert (result.outcome, result.relay) == (SwitchOutcome.UNCONFIRMED, None)


async def test_each_trouble_has_its_own_outcome() -> None:
    async with peer_and_line(rtu=False, script=lambda peer, unit, _: peer.say(unit, b"\x90\x03")) as (_, line):
        refused = await close_relay(switch_on(line, "hiking-dds238-zn-sr"))
    async with peer_and_line(rtu=False, script=lambda *_: None, timeout_ms=50) as (_, line):
        silent = await close_relay(switch_on(line, "hiking-dds238-zn-sr", follow_s=0.1))
        no_relay = await close_relay(switch_on(line, "eastron-sdm230"))
    down = await close_relay(switch_on(line, "hiking-dds238-zn-sr"))
    assert [end.outcome for end in (refused, silent, no_relay, down)] == [
        SwitchOutcome.REFUSED,
        SwitchOutcome.TIMED_OUT,
        SwitchOutcome.NO_RELAY,
        SwitchOutcome.LINE_DOWN,
    ]


def test_a_write_must_be_echoed() -> None:
    request = write_request(unit=1, function=6, address=0x1B, words=(0xAA55,))
    assert request.echo == request.pdu


# --- a serial port -----------------------------------------------------------------------------------------


async def test_a_serial_line_speaks_rtu_on_a_pseudo_terminal() -> None:
    ours, theirs = os.openpty()
    loop = asyncio.get_running_loop()
    heard = bytearray()

    def on_bytes() -> None:
        heard.extend(os.read(ours, 64))
        if len(heard) == 8:
            body = bytes((heard[0],)) + value_answer(int.from_bytes(heard[2:4], "big"))
            heard.clear()
            os.write(ours, body + crc(body))

    loop.add_reader(ours, on_bytes)
    line = ModbusLine(
        Line(line_id="s1", transport=Transport.SERIAL, device=os.ttyname(theirs), baud=115200, timeout_ms=2000)
    )
    try:
        started = time.monotonic()
        assert await line.execute(ask(3)) == value_answer(3)
        assert await line.execute(ask(4)) == value_answer(4)
        assert time.monotonic() - started >= 0.00175  # the silence between frames
        line.close()
        with pytest.raises(LineDownError):
            await line.execute(ask(5))
    finally:
        line.close()
        loop.remove_reader(ours)
        os.close(ours)
        os.close(theirs)
