"""Leases: one holder at a time of a job, a line or a process's role, in real time.

A lease is a row that says who holds a name until when. A holder renews it well before it ends; one that dies
stops renewing, and another takes over when the time is up. A holder that could not renew in time must stop what
the lease covers: it may already be another's.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa

from dormpower.books.database import Books, lock_rows
from dormpower.books.tables import leases


def acquire(*, books: Books, name: str, holder: str, real_now: datetime, for_s: float) -> bool:
    """Take a lease that is free, run out or already ours until `real_now + for_s`; tell whether we hold it."""
    with books.write() as connection:
        lock_rows(connection, "leases")
        row = connection.execute(sa.select(leases).where(leases.c.name == name)).one_or_none()
        until_at = real_now + timedelta(seconds=for_s)
        if row is None:
            connection.execute(sa.insert(leases).values(name=name, holder=holder, until_at=until_at))
            return True
        if row.holder != holder and row.until_at > real_now:
            return False
        connection.execute(
            sa.update(leases).where(leases.c.name == name).values(holder=holder, until_at=until_at)
        )
        return True


def renew(*, books: Books, name: str, holder: str, real_now: datetime, for_s: float) -> bool:
    """Hold a lease longer; False where it ran out or is another's, and what it covers must stop."""
    with books.write() as connection:
        done = connection.execute(
            sa.update(leases)
            .where(leases.c.name == name, leases.c.holder == holder, leases.c.until_at > real_now)
            .values(until_at=real_now + timedelta(seconds=for_s))
        )
        return done.rowcount == 1


def release(*, books: Books, name: str, holder: str) -> None:
    """Give a lease back; another's is left alone."""
    with books.write() as connection:
        connection.execute(sa.delete(leases).where(leases.c.name == name, leases.c.holder == holder))


def holder_of(*, books: Books, name: str, real_now: datetime) -> str | None:
    """Return who holds a lease now; None where nobody does."""
    with books.read() as connection:
        return connection.execute(
            sa.select(leases.c.holder).where(leases.c.name == name, leases.c.until_at > real_now)
        ).scalar_one_or_none()
