"""The wake-up hint: heard when somebody listens, harmless when nobody does."""

import asyncio
from pathlib import Path

from dormpower.wake import WAKE_SOCKET, WakeListener, send_wake


def test_a_hint_wakes_the_listener(tmp_path: Path) -> None:
    async def go() -> None:
        listener = WakeListener(tmp_path)
        assert listener.open()
        assert not await listener.wait(0.01)
        send_wake(tmp_path)
        send_wake(tmp_path)
        assert await listener.wait(5)
        listener.close()
        assert not (tmp_path / WAKE_SOCKET).exists()

    asyncio.run(go())


def test_a_socket_left_behind_by_a_killed_gateway_is_taken_over(tmp_path: Path) -> None:
    async def go() -> None:
        (tmp_path / WAKE_SOCKET).write_bytes(b"")
        listener = WakeListener(tmp_path)
        assert listener.open()
        send_wake(tmp_path)
        assert await listener.wait(5)
        listener.close()

    asyncio.run(go())


def test_sending_without_a_listener_or_into_a_path_too_long_does_nothing(tmp_path: Path) -> None:
    send_wake(tmp_path)
    deep = tmp_path / ("x" * 200)
    deep.mkdir()
    send_wake(deep)

    async def go() -> None:
        assert not WakeListener(deep).open()

    asyncio.run(go())
