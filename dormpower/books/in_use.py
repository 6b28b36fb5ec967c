"""Who works on a site: every process that opens its books holds a shared lock in the data folder.

A restore needs the folder for itself. A process that has the books open would go on with the file that was
moved aside, and with what the old site file said; leases tell of gateways only. The kernel gives a lock back
when its process ends in any way. It is a file of its own: closing any descriptor of a database's file would
take SQLite's own locks from the whole process.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK_FILE = "books.lock"


class UnableToLockBooksError(Exception):
    """The folder is another's just now; the message says whose and what to do."""


class Share:
    """One process's part in the use of a data folder, until `end`."""

    def __init__(self, folder: Path) -> None:
        """Begin to use a folder. Raises UnableToLockBooksError while a restore has it for itself."""
        try:
            self._descriptor: int | None = _lock(folder, fcntl.LOCK_SH)
        except BlockingIOError as fault:
            raise UnableToLockBooksError(
                f"{folder}: a restore is under way here; try again when it has ended"
            ) from fault
        except OSError as fault:
            raise UnableToLockBooksError(f"{folder / LOCK_FILE}: {fault.strerror}") from fault

    def end(self) -> None:
        """Use the folder no longer."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Have a folder for the body alone. Raises UnableToLockBooksError while a process uses it.

    A body that fails leaves no lock file where there was none.
    """
    path = folder / LOCK_FILE
    was_there = path.exists()
    try:
        descriptor = _lock(folder, fcntl.LOCK_EX)
    except BlockingIOError as fault:
        raise UnableToLockBooksError(
            f"{folder}: in use: a gateway, an API or a command of this site runs; "
            "stop `dormpower serve` and whatever else works here first"
        ) from fault
    try:
        yield
    except BaseException:
        if not was_there:
            path.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)


def _lock(folder: Path, kind: int) -> int:
    """Return the descriptor of the folder's lock file, locked; raises BlockingIOError where it can't be had."""
    path = folder / LOCK_FILE
    while True:
        # For reading: an administrator's command may have made it, and the site's own user only reads it then.
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            if _is_at(path, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # `alone` took this file away just before it was locked


def _is_at(path: Path, descriptor: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False
