"""Whose turn it is on a line: one at a time, commands ahead of polls."""

import asyncio
from collections import deque
from enum import Enum

from gateway.ports import FieldError, LineDownError

MAX_WAITING = 256


class LineBusyError(FieldError):
    """Too many wait for this line; nothing was sent."""


class Priority(Enum):
    """Which lane a request waits in."""

    COMMAND = "command"
    POLL = "poll"


class Turns:
    """A line's two lanes. Who has taken a turn passes it on, whatever came of it."""

    def __init__(self, line_id: str) -> None:
        self._line_id = line_id
        self._busy = False
        self._commands: deque[asyncio.Future[None]] = deque()
        self._polls: deque[asyncio.Future[None]] = deque()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for the line."""
        return bool(self._commands or self._polls)

    async def take(self, priority: Priority) -> None:
        """Wait for the line. Raises LineBusyError where too many wait, LineDownError when it is closed."""
        if not self._busy:
            self._busy = True
            return
        if len(self._commands) + len(self._polls) >= MAX_WAITING:
            raise LineBusyError(f"line {self._line_id}: {MAX_WAITING} requests wait already")
        waiter = asyncio.get_running_loop().create_future()
        (self._commands if priority is Priority.COMMAND else self._polls).append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.pass_on()  # the turn came together with the cancellation
            raise

    def pass_on(self) -> None:
        """Give the line to who waits for it; it stays busy while it is handed over."""
        for lane in (self._commands, self._polls):
            while lane:
                waiter = lane.popleft()
                if not waiter.done():
                    waiter.set_result(None)
                    return
        self._busy = False

    def close(self) -> None:
        """Tell who waits that the line is closed."""
        for waiter in (*self._commands, *self._polls):
            if not waiter.done():
                waiter.set_exception(LineDownError(f"line {self._line_id}: closed"))
        self._commands.clear()
        self._polls.clear()
