"""`dormpower doctor`: looks at everything a site stands on, and says what is wrong and what to do."""

import importlib.util
import json
import os
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
import typer
from rich.console import Console
from rich.table import Table

from config.faults import UnableToLoadSiteError
from config.settings import InfluxReadingsSettings, Settings, load
from dormpower.books import migration
from dormpower.books.database import UnableToOpenBooksError, open_books
from dormpower.books.shadow import awaits_confirmation
from dormpower.clock import UnableToReadClockError, load_clock
from dormpower.commands.broker_probe import BrokerAnswer, ask_anonymously
from dormpower.commands.opening import ConfigOption, JsonOption
from dormpower.domain.site import Line, Transport

_FREE_BYTES_WANTED = 1 << 30
_WAL_BYTES_BOUND = 256 << 20
_REACH_TIMEOUT_S = 2.0
_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at: ok, warning or wrong; only the last makes the exit code 1."""

    subject: str
    verdict: str
    detail: str


def doctor(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check Python, disk, clock, books, broker, lines, readings store and permissions."""
    findings = [*_machine()]
    try:
        settings = load(config)
    except UnableToLoadSiteError as fault:
        findings += [Finding("site", "wrong", str(one)) for one in fault.faults]
    else:
        findings += [Finding("site", "warning", str(one)) for one in settings.warnings]
        findings.append(Finding("site", "ok", f"{len(settings.site.rooms)} rooms"))
        for check in _CHECKS:
            findings += check(settings)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in findings], ensure_ascii=False))
    else:
        _show(findings)
    if any(one.verdict == "wrong" for one in findings):
        raise typer.Exit(1)


def _machine() -> Iterator[Finding]:
    text = ".".join(str(part) for part in sys.version_info[:3])
    yield Finding("python", "ok" if sys.version_info >= (3, 11) else "wrong", text)
    fast = importlib.util.find_spec("uvloop") is not None
    yield Finding(
        "uvloop",
        "ok" if fast else "warning",
        "there" if fast else "missing: polling costs more; pip install uvloop",
    )


def _disk(settings: Settings) -> Iterator[Finding]:
    free = shutil.disk_usage(settings.folder).free
    verdict = "ok" if free >= _FREE_BYTES_WANTED else "wrong"
    advice = "" if verdict == "ok" else "; free some space, readings and books need 1 GiB"
    yield Finding("disk", verdict, f"{free >> 20} MiB free at {settings.folder}{advice}")


def _clock(settings: Settings) -> Iterator[Finding]:
    try:
        clock = load_clock(settings.folder)
    except UnableToReadClockError as fault:
        yield Finding("clock", "wrong", str(fault))
        return
    if clock.real_now() < _EARLIEST:
        yield Finding("clock", "wrong", f"the machine says {clock.real_now():%Y-%m-%d}; set its clock (NTP)")
    elif clock.stands:
        now = clock.now().astimezone(settings.zone)
        yield Finding(
            "clock", "warning", f"campus time stands at {now:%Y-%m-%d %H:%M}: the demo is not running"
        )
    elif clock.speed != 1.0:
        yield Finding(
            "clock", "warning", f"campus time runs {clock.speed:g} times as fast: a demo's data folder"
        )
    else:
        yield Finding("clock", "ok", f"{clock.now().astimezone(settings.zone):%Y-%m-%d %H:%M:%S %Z}")


def _books(settings: Settings) -> Iterator[Finding]:
    try:
        books = open_books(settings.database, base=settings.folder)
    except UnableToOpenBooksError as fault:
        yield Finding("books", "wrong", str(fault))
        return
    try:
        if books.is_sqlite and not Path(books.engine.url.database or "").is_file():
            yield Finding("books", "wrong", "there are none yet; run `dormpower migrate`")
            return
        migration.require_current(books)
        yield Finding("books", "ok", f"version {migration.head()}")
        with books.read() as connection:
            if awaits_confirmation(connection):
                yield Finding("books", "warning", "restored and in shadow; run `dormpower restore --confirm`")
        if books.is_sqlite:
            yield _wal(Path(books.engine.url.database or ""))
    except migration.UnableToUseBooksError as fault:
        yield Finding("books", "wrong", str(fault))
    except sa.exc.SQLAlchemyError as fault:
        yield Finding("books", "wrong", f"can't be used: {getattr(fault, 'orig', None) or fault}")
    finally:
        books.close()


def _wal(path: Path) -> Finding:
    wal = path.with_name(f"{path.name}-wal")
    size = wal.stat().st_size if wal.is_file() else 0
    if size > _WAL_BYTES_BOUND:
        return Finding("books", "warning", f"write-ahead log of {size >> 20} MiB: a reader holds it open")
    return Finding("books", "ok", f"write-ahead log of {size >> 10} KiB")


def _broker(settings: Settings) -> Iterator[Finding]:
    if settings.mqtt is None:
        return
    match ask_anonymously(settings.mqtt):
        case BrokerAnswer.UNREACHABLE:
            yield Finding("broker", "wrong", f"no answer at {settings.mqtt.url}; start it, or correct mqtt.url")
        case BrokerAnswer.ACCEPTED:
            yield Finding("broker", "wrong", f"{settings.mqtt.url} lets in clients without credentials")
        case BrokerAnswer.REFUSED:
            yield Finding("broker", "ok", f"{settings.mqtt.url} answers, and refuses strangers")


def _lines(settings: Settings) -> Iterator[Finding]:
    with ThreadPoolExecutor(max_workers=16) as pool:
        reached = list(pool.map(_reach, settings.site.lines))
    for line, trouble in zip(settings.site.lines, reached, strict=True):
        if trouble:
            yield Finding("line", "wrong", f"{line.line_id}: {line.endpoint}: {trouble}")
    good = sum(not trouble for trouble in reached)
    yield Finding("line", "ok", f"{good} of {len(reached)} reachable")


def _reach(line: Line) -> str:
    if line.transport is Transport.SERIAL:
        device = Path(line.device or "")
        if not device.exists():
            return "there is no such device"
        return "" if os.access(device, os.R_OK | os.W_OK) else "no permission; join the group dialout"
    try:
        with socket.create_connection((line.host or "", line.port or 0), timeout=_REACH_TIMEOUT_S):
            return ""
    except OSError as fault:
        return f"not reachable: {fault.strerror or fault}"


def _readings(settings: Settings) -> Iterator[Finding]:
    readings = settings.readings
    if not isinstance(readings, InfluxReadingsSettings):
        yield Finding("readings", "ok", f"embedded at {readings.path}")
        return
    try:
        request = urllib.request.Request(f"{readings.url}/ping")  # noqa: S310 - http(s) only, checked on load
        with urllib.request.urlopen(request, timeout=_REACH_TIMEOUT_S) as answer:  # noqa: S310 - as above
            yield Finding("readings", "ok", f"InfluxDB at {readings.url} answers {answer.status}")
    except urllib.error.HTTPError as fault:
        yield Finding("readings", "ok", f"InfluxDB at {readings.url} answers {fault.code}")
    except OSError as fault:
        yield Finding(
            "readings", "wrong", f"no InfluxDB at {readings.url}: {fault}; readings wait in the outbox"
        )


def _permissions(settings: Settings) -> Iterator[Finding]:
    if not os.access(settings.folder, os.W_OK):
        yield Finding("permissions", "wrong", f"{settings.folder}: not writable by this user")
    for path in settings.secret_files:
        mode = path.stat().st_mode
        if mode & 0o077:
            yield Finding("permissions", "wrong", f"{path}: readable by others; chmod 600 {path.name}")
    yield Finding("permissions", "ok", f"looked at {settings.folder} and {len(settings.secret_files)} secrets")


_CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _disk,
    _clock,
    _books,
    _broker,
    _lines,
    _readings,
    _permissions,
)


def _show(findings: list[Finding]) -> None:
    colours = {"ok": "green", "warning": "yellow", "wrong": "red"}
    table = Table("what", "verdict", "detail")
    for one in findings:
        table.add_row(one.subject, f"[{colours[one.verdict]}]{one.verdict}[/]", one.detail)
    Console().print(table)
