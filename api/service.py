"""The composition root of the API process: from a site file to a listening server."""

import argparse
import gc
import signal
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI

from api import pages
from api.app import Extension, create_app
from api.context import ApiContext
from api.journal_counter import journal_counter
from api.protocol import ProblemProtocol
from api.rules_in_force import SiteRules
from config.limits import channel_limits
from config.settings import EmbeddedReadingsSettings, Settings, UnableToLoadSiteError, load
from dormpower.books import migration
from dormpower.books.database import Books, UnableToOpenBooksError, open_books, wait_until_reachable
from dormpower.clock import Clock, UnableToReadClockError
from dormpower.clock_keeping import keep_clock
from dormpower.domain.tariff import Price
from dormpower.event_log import log_to
from dormpower.messages.catalogue import LANGUAGES
from dormpower.readings.factory import open_embedded, open_influx
from dormpower.readings.port import ReadingsStore, UnableToReachReadingsError

_DATABASE_TIMEOUT_S = 30.0
_DRAIN_S = 5
_BACKLOG = 512

log = structlog.get_logger()


class _Server(uvicorn.Server):
    """Ends event streams when told to stop, so that nobody's open stream delays the end."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._api = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop taking requests and end the streams."""
        self._api.state.event_feed.shut()
        super().handle_exit(sig, frame)


def main(arguments: Sequence[str]) -> int:
    """Serve until SIGTERM; returns the exit code. A refusal is one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="python -m api")
    parser.add_argument("--config", type=Path, default=None)
    wanted = parser.parse_args(arguments)
    log_to(sys.stderr)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn raises the signal again after it has stopped; being asked to stop is no failure.
        signal.signal(number, lambda *_arguments: None)
    try:
        run(load(wanted.config))
    except (
        UnableToLoadSiteError,
        UnableToOpenBooksError,
        UnableToReadClockError,
        UnableToReachReadingsError,
        migration.UnableToUseBooksError,
    ) as refusal:
        sys.stderr.write(f"{refusal}\n")
        return 1
    return 0


def run(settings: Settings) -> None:
    """Open the stores, serve, and give them back."""
    books = open_books(settings.database, base=settings.folder)
    try:
        wait_until_reachable(books, timeout_s=_DATABASE_TIMEOUT_S)
        migration.require_current(books)
        with closing(open_readings(settings)) as readings, keep_clock(settings.folder) as clock:
            context = context_of(settings, books=books, readings=readings, clock=clock)
            app = create_app(context, extensions=_extensions())
            gc.collect()
            gc.freeze()  # what is loaded stays; to walk it again would stop every request meanwhile
            log.info("api.started", host=settings.api.host, port=settings.api.port)
            _Server(server_config(settings, app), app).run()
            log.info("api.stopped")
    finally:
        books.close()


def open_readings(settings: Settings) -> ReadingsStore:
    """Open the readings for reading only; the gateway is the one that writes."""
    chosen = settings.readings
    if isinstance(chosen, EmbeddedReadingsSettings):
        return open_embedded(chosen.path, read_only=True)
    return open_influx(
        url=chosen.url,
        org=chosen.org,
        bucket=chosen.bucket,
        token=chosen.token.get_secret_value() if chosen.token else "",
        site=settings.site.site_id,
        tags={},
        outbox_path=None,
    )


def context_of(settings: Settings, *, books: Books, readings: ReadingsStore, clock: Clock) -> ApiContext:
    """Return what the application stands on, from a site's settings."""
    return ApiContext(
        books=books,
        readings=readings,
        clock=clock,
        zone=settings.zone,
        site=settings,
        rules=SiteRules(settings, clock),
        counter=journal_counter(books=books, prices=prices_of(settings), zone=settings.zone),
        limits=channel_limits(settings.site, settings.profiles, speed=clock.speed),
        prices=prices_of(settings),
        wake_folder=settings.folder,
        site_name=settings.site.name,
        languages=tuple(known for name in settings.languages for known in LANGUAGES if known == name),
    )


def prices_of(settings: Settings) -> tuple[Price, ...]:
    """Return the site's prices as the tariff takes them."""
    return tuple(
        Price(from_on=row.from_on, kind=row.kind, price_millifen_per_kwh=row.price_millifen_per_kwh)
        for row in settings.policies.prices
    )


def server_config(settings: Settings, app: FastAPI) -> uvicorn.Config:
    """Return how uvicorn listens; forwarded addresses count only from proxies that the site trusts."""
    api = settings.api
    return uvicorn.Config(
        app,
        host=api.host,
        port=api.port,
        loop="uvloop",
        http=ProblemProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(api.trusted_proxies),
        forwarded_allow_ips=list(api.trusted_proxies),
        ssl_certfile=api.tls_certificate_file,
        ssl_keyfile=api.tls_key_file,
        backlog=_BACKLOG,
        timeout_graceful_shutdown=_DRAIN_S,
    )


def _extensions() -> list[Extension]:
    """Return what `api.pages` adds: its function `install`, where there are pages."""
    install = getattr(pages, "install", None)
    return [] if install is None else [install]
