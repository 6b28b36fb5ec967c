"""The wake-up hint between the API and the gateway: an empty datagram to a Unix socket in the data folder.

A hint only: the intent is in the books, and the gateway looks once a second anyway. Losing a datagram costs at
most that second, so sending never fails and never waits.
"""

import asyncio
import socket
from pathlib import Path

WAKE_SOCKET = "gateway.wake"
# A Unix socket's path holds about 100 bytes; a deeper data folder does without hints.
_MAX_PATH_BYTES = 100


def send_wake(folder: Path) -> None:
    """Hint to the gateway of this data folder that there is an intent. Never raises, never waits."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(b"", str(folder / WAKE_SOCKET))
    except OSError:
        return  # nobody listens: the once-a-second look finds the intent


class WakeListener:
    """The gateway's end: `wait` returns once a hint has come, or after the time-out."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / WAKE_SOCKET
        self._socket: socket.socket | None = None
        self._woken = asyncio.Event()

    def open(self) -> bool:
        """Start to listen in the running loop; False where the machine has no room for the socket."""
        if len(bytes(self._path)) > _MAX_PATH_BYTES:
            return False
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._path.unlink(missing_ok=True)  # left behind by a gateway that was killed
            listener.bind(str(self._path))
        except OSError:
            listener.close()
            return False
        self._path.chmod(0o600)
        listener.setblocking(False)
        self._socket = listener
        asyncio.get_running_loop().add_reader(listener.fileno(), self._drain)
        return True

    def wake(self) -> None:
        """Wake the waiter from inside the process."""
        self._woken.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a hint; True when one came, False after the time-out."""
        try:
            await asyncio.wait_for(self._woken.wait(), timeout_s)
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    def close(self) -> None:
        """Stop listening and take the socket away."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
            self._path.unlink(missing_ok=True)

    def _drain(self) -> None:
        if self._socket is None:
            return
        try:
            while True:
                self._socket.recv(64)
        except BlockingIOError:
            pass
        self._woken.set()
