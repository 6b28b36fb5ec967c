"""Being the only one: a relay has one writer at a time (invariant 18).

On one machine a lock on the data folder decides; the kernel gives it back when the process ends in any way.
Where machines share the books, the lease `gateway:ID` decides: another machine takes over only when it has run
out.
"""

import fcntl
import os
import socket
from pathlib import Path
from typing import IO

from dormpower.books import leases
from dormpower.books.database import Books
from dormpower.clock import Clock

LOCK_FILE = "gateway.lock"
LEASE_S = 15.0


class UnableToRunGatewayError(Exception):
    """The gateway must not run as things are; the message says why and what to do."""


def holder_name(gateway_id: str) -> str:
    """Return who we are in a lease: the same after a restart on the same machine."""
    return f"{gateway_id}@{socket.gethostname()}"


def lock_folder(folder: Path) -> IO[str]:
    """Hold the data folder's gateway lock until the file is closed or the process ends in any way.

    Raises UnableToRunGatewayError where another gateway holds it.
    """
    file = (folder / LOCK_FILE).open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        file.seek(0)
        other = file.read().strip() or "unknown"
        file.close()
        raise UnableToRunGatewayError(
            f"{folder / LOCK_FILE}: a gateway already runs on this folder (process {other}); stop it first"
        ) from fault
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def take_lease(*, gateway_id: str, books: Books, clock: Clock) -> None:
    """Take or renew the lease `gateway:ID`; raises UnableToRunGatewayError where another machine holds it."""
    real_now = clock.real_now()
    name, holder = f"gateway:{gateway_id}", holder_name(gateway_id)
    if not leases.acquire(books=books, name=name, holder=holder, real_now=real_now, for_s=LEASE_S):
        other = leases.holder_of(books=books, name=name, real_now=real_now)
        raise UnableToRunGatewayError(
            f"gateway {gateway_id} already runs as {other}; stop it, or wait {LEASE_S:g} s after its end"
        )


def give_lease_back(*, gateway_id: str, books: Books) -> None:
    """Let another machine take over at once."""
    leases.release(books=books, name=f"gateway:{gateway_id}", holder=holder_name(gateway_id))
