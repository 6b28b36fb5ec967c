"""`dormpower demo`: a simulated campus, the gateway and the API on loopback, up in seconds."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console

from config.settings import Settings, load
from dormpower.books import migration
from dormpower.books.database import Books, open_books
from dormpower.books.sites import sync_site
from dormpower.clock import MAX_SPEED, CampusClock
from dormpower.clock_keeping import begin_clock, is_kept, keep_clock
from dormpower.commands.demo_books import fill_demo_books
from dormpower.commands.demo_summary import LOG_FILE, LiveSummary
from dormpower.commands.processes import process_arguments
from dormpower.commands.supervisor import Child, Stopped, Supervisor, stoppable
from dormpower.event_log import log_to

_LOG_BYTES_BOUND = 16 << 20
_ENDING_S = 5.0  # a demo that was killed ends its parts within about so long


class UnableToRunDemoError(Exception):
    """The demo can't run as it was asked for; the message says why and what to do."""


def demo(  # noqa: PLR0917 - options of a command line, never passed by position
    rooms: Annotated[int | None, typer.Option(help="Rooms of the campus, 10–10000; 240 by default.")] = None,
    port: Annotated[int | None, typer.Option(min=1, max=65535, help="The API's port; a free one else.")] = None,
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Keeps everything; started again on it the demo goes on.")
    ] = Path("demo-data"),
    speed: Annotated[
        float | None, typer.Option(help=f"Campus seconds in a real second, at most {MAX_SPEED}; 1 by default.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same seed gives the same campus; 1 by default.")] = None,
    influxdb: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Readings go to this InfluxDB (INFLUXDB_TOKEN, _ORG, _BUCKET); embedded else."
        ),
    ] = None,
) -> None:
    """Run a simulated campus, the gateway and the API on loopback, until Ctrl-C."""
    begun_s = time.monotonic()
    if speed is not None and not 0 < speed <= MAX_SPEED:
        raise UnableToRunDemoError(f"--speed: expected above 0 and at most {MAX_SPEED}, got {speed:g}")
    try:
        with stoppable():
            _refuse_running(data)
            data.mkdir(parents=True, exist_ok=True)
            _make_files(data, rooms=rooms, port=port, seed=seed, influxdb=influxdb)
            begin_clock(data, speed=speed)
            with _open_log(data) as log, keep_clock(data) as clock:
                log_to(log)  # as its parts do: the screen is for the summary
                _run(load(data / "dormpower.yaml"), clock, begun_s=begun_s)
    except Stopped:
        Console().print("stopped before it was up; what was made is kept in", str(data), highlight=False)


def _run(settings: Settings, clock: CampusClock, *, begun_s: float) -> None:
    """Run the campus until it is told to stop. Raises UnableToRunDemoError where a part of it refuses."""
    console = Console()
    books = open_books(settings.database, base=settings.folder)
    try:
        _prepare_books(books, settings, clock, console)
        summary = LiveSummary(settings=settings, books=books, clock=clock, console=console, begun_s=begun_s)
        supervisor = Supervisor(_children(settings), each_look=summary.look)
        with summary:
            code = supervisor.run()
    finally:
        books.close()
    if code != 0:
        words = supervisor.last_words or "a part of the demo ended as soon as it was started"
        raise UnableToRunDemoError(f"{words}\nmore stands in {settings.folder / LOG_FILE}")
    console.print("stopped; everything is kept in", str(settings.folder), highlight=False)


def _refuse_running(folder: Path) -> None:
    """Refuse a folder that a demo lives in; one that is ending is waited for."""
    if is_kept(folder, wait_s=_ENDING_S):
        raise UnableToRunDemoError(
            f"{folder}: a demo, or a part of one, runs in this folder already; "
            "stop it first, or name another folder with --data"
        )


def _open_log(folder: Path) -> TextIO:
    """Open the log of the demo and its parts; one that has grown long is put aside, one deep."""
    path = folder / LOG_FILE
    if path.exists() and path.stat().st_size > _LOG_BYTES_BOUND:
        path.replace(path.with_suffix(".log.1"))
    return path.open("a", encoding="utf-8", buffering=1)


def _make_files(folder: Path, **options: object) -> None:
    """Have the simulators' side write its site; what it refuses is ours to tell."""
    arguments = [sys.executable, "-m", "simulators.demo_files", "--data", str(folder)]
    for name, value in options.items():
        if value is not None:
            arguments += [f"--{name}", str(value)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
    if done.returncode != 0:
        raise UnableToRunDemoError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no files")


def _prepare_books(books: Books, settings: Settings, clock: CampusClock, console: Console) -> None:
    migration.upgrade(books)
    now = clock.now()
    sync_site(books=books, site=settings.site, now=now, today=now.astimezone(settings.zone).date())
    seed = json.loads((settings.folder / "demo.json").read_text(encoding="utf-8"))["seed"]
    fill_demo_books(books, settings, now=now, real_now=clock.real_now(), seed=seed, console=console)


def _children(settings: Settings) -> list[Child]:
    path = str(settings.path)
    demo_record = json.loads((settings.folder / "demo.json").read_text(encoding="utf-8"))
    simulator = process_arguments("simulators", path, "--seed", str(demo_record["seed"]))
    if settings.mqtt is not None and settings.mqtt.port == demo_record["broker_port"]:
        simulator.append("--broker")
    log = settings.folder / LOG_FILE
    return [
        Child(name="simulators", arguments=simulator, log=log),
        Child(name="gateway", arguments=process_arguments("gateway", path), log=log),
        Child(name="api", arguments=process_arguments("api", path), log=log),
    ]
