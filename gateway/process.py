"""The gateway process: one of a site, on books of this version that know the site, until it is told to stop.

Order of start: the books (of this version, ours alone, brought to the site as described), the stores, control's
memory, and only then the field: a gateway that comes back reads first and acts then (invariant 25).
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog
import uvloop

from config.settings import Settings, UnableToLoadSiteError, load
from dormpower.books import migration
from dormpower.books.database import Books, UnableToOpenBooksError, open_books, wait_until_reachable
from dormpower.books.sites import UnableToSyncSiteError, sync_site
from dormpower.clock import Clock, UnableToReadClockError
from dormpower.clock_keeping import keep_clock
from dormpower.domain.days import CampusDays
from dormpower.event_log import log_to
from dormpower.readings.port import UnableToReachReadingsError
from gateway.collection import collect_seldom, collecting_by_the_clock, leave_what_is_loaded
from gateway.composition import UnableToComposeError, open_readings
from gateway.drivers.mqtt.topics import UnableToUseTopicsError
from gateway.exclusive import UnableToRunGatewayError, give_lease_back, lock_folder, take_lease
from gateway.policy_desk import settings_in_force
from gateway.service import Gateway

log = structlog.get_logger()

DATABASE_TIMEOUT_S = 60.0


async def _serve(settings: Settings, books: Books, clock: Clock) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    gateway_id = settings.gateway.gateway_id
    take_lease(gateway_id=gateway_id, books=books, clock=clock)
    try:
        _sync_site(settings, books, clock)
        readings = open_readings(settings)
        try:
            async with collecting_by_the_clock():
                while not stopped.is_set():  # once more after a restored site was confirmed
                    in_force = settings_in_force(settings, books, clock)
                    gateway = Gateway(settings=in_force, books=books, readings=readings, clock=clock)
                    take_lease(gateway_id=gateway_id, books=books, clock=clock)
                    await gateway.run(stopped, loaded=leave_what_is_loaded)
        finally:
            await asyncio.to_thread(readings.close)
    finally:
        give_lease_back(gateway_id=gateway_id, books=books)


def _sync_site(settings: Settings, books: Books, clock: Clock) -> None:
    """Bring the books to the site that is about to be polled: samples of an unknown circuit would be lost.

    Under the lease, so that a gateway which must not run doesn't change what another one stands on.
    """
    now = clock.now()
    today = CampusDays(settings.zone).day_of(now)
    report = sync_site(books=books, site=settings.site, now=now, today=today)
    if report.changed:
        log.info("site.synced", **report.counts())


def run(settings: Settings) -> None:
    """Run the gateway of a site until SIGTERM or SIGINT."""
    with lock_folder(settings.folder):
        books = open_books(settings.database, base=settings.folder)
        try:
            wait_until_reachable(books, timeout_s=DATABASE_TIMEOUT_S)
            migration.require_current(books)
            collect_seldom()
            with keep_clock(settings.folder) as clock:
                uvloop.run(_serve(settings, books, clock))
        finally:
            books.close()


def main(arguments: Sequence[str]) -> int:
    """Run the process; returns the exit code. A refusal is one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="python -m gateway")
    parser.add_argument("--config", type=Path, default=None)
    wanted = parser.parse_args(arguments)
    log_to(sys.stderr)
    try:
        run(load(wanted.config))
    except (
        UnableToLoadSiteError,
        UnableToComposeError,
        UnableToUseTopicsError,
        UnableToOpenBooksError,
        UnableToReadClockError,
        UnableToReachReadingsError,
        UnableToRunGatewayError,
        UnableToSyncSiteError,
        migration.UnableToUseBooksError,
    ) as refusal:
        sys.stderr.write(f"{refusal}\n")
        return 1
    return 0
