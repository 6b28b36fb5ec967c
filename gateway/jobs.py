"""Scheduled jobs: settlement, sealing the audit log, letting old rows age out.

APScheduler wakes them in real time; each asks the campus clock what is due, so that a campus running at many
times real time settles each of its days, and a missed midnight is caught up. Jobs are kept in memory and
rebuilt at each start; a lease in the books lets one gateway of a site run them, and each is idempotent by
period, so that two holders in a row do no harm.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
import structlog
from apscheduler.executors.pool import ThreadPoolExecutor as SchedulerThreads
from apscheduler.schedulers.background import BackgroundScheduler

from dormpower.books import leases
from dormpower.books.database import Books
from dormpower.clock import Clock

log = structlog.get_logger()

LEASE = "jobs"
LEASE_S = 30.0
RENEW_EVERY_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Work that is done again and again while this gateway holds the lease; `run` does what is due now."""

    name: str
    every_s: float  # real seconds
    run: Callable[[], None]


class Jobs:
    """Runs the jobs in a thread of their own under the lease. A job that fails is logged and tried again."""

    def __init__(self, *, books: Books, clock: Clock, holder: str, jobs: Sequence[Job]) -> None:
        self._books = books
        self._clock = clock
        self._holder = holder
        self._jobs = jobs
        self._held = False
        self._failing: set[str] = set()
        self._scheduler = BackgroundScheduler(
            timezone="UTC",
            executors={"default": SchedulerThreads(1)},  # one at a time: SQLite has one writer anyway
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    @property
    def held(self) -> bool:
        """Whether this gateway ran the jobs when it last asked."""
        return self._held

    def start(self) -> None:
        """Take the lease if it is free, and begin."""
        # The lease has a thread of its own: a long settlement must not let it run out.
        self._scheduler.add_executor(SchedulerThreads(1), "lease")
        self._renew()
        self._scheduler.add_job(self._renew, "interval", seconds=RENEW_EVERY_S, executor="lease", id=LEASE)
        for job in self._jobs:
            self._scheduler.add_job(self._run, "interval", seconds=job.every_s, args=[job], id=job.name)
        self._scheduler.start()

    def stop(self) -> None:
        """Wait for the running job's end and give the lease back."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)
        if self._held:
            leases.release(books=self._books, name=LEASE, holder=self._holder)
            self._held = False

    def run_once(self) -> None:
        """Run every job now, in order, if the lease is ours."""
        self._renew()
        for job in self._jobs:
            self._run(job)

    def _renew(self) -> None:
        try:
            held = leases.acquire(
                books=self._books,
                name=LEASE,
                holder=self._holder,
                real_now=self._clock.real_now(),
                for_s=LEASE_S,
            )
        except sa.exc.DBAPIError as fault:
            log.warning("jobs.lease_unreachable", fault=str(fault.orig))
            held = False
        if held != self._held:
            log.info("jobs.lease_taken" if held else "jobs.lease_lost", holder=self._holder)
        self._held = held

    def _run(self, job: Job) -> None:
        if not self._held:
            return
        try:
            job.run()
        except Exception:  # supervised: a job that fails is logged once and tried again at its next turn
            if job.name not in self._failing:
                self._failing.add(job.name)
                log.exception("job.failed", job=job.name)
            return
        if job.name in self._failing:
            self._failing.discard(job.name)
            log.info("job.recovered", job=job.name)
