"""`dormpower demo`: a simulated campus, the gateway and the API on loopback, up in seconds."""

import json
import os
import subprocess
import sys
import urllib.request
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Self

import sqlalchemy as sa
import structlog
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from config.settings import Settings, load
from dormpower.books import counters, migration
from dormpower.books.database import Books, open_books
from dormpower.books.sites import sync_site
from dormpower.books.tables import circuits, control_points
from dormpower.clock import CLOCK_FILE, MAX_SPEED, CampusClock, load_clock, start_clock
from dormpower.commands.demo_books import PASSWORD, fill_demo_books
from dormpower.commands.demo_payers import Payers
from dormpower.commands.processes import process_arguments
from dormpower.commands.supervisor import Child, Supervisor
from dormpower.domain.holds import SupplyState

_log = structlog.get_logger()

SEEN_FILE = "clock.seen"
# Between two notes of the campus time nobody knows how far it went: a restart goes on a little later.
_NOTE_EVERY_S = 1.0
_PLAIN_LINE_EVERY_S = 10.0


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
    console = Console()
    if speed is not None and not 0 < speed <= MAX_SPEED:
        raise UnableToRunDemoError(f"--speed: expected above 0 and at most {MAX_SPEED}, got {speed:g}")
    data.mkdir(parents=True, exist_ok=True)
    _make_files(data, rooms=rooms, port=port, seed=seed, influxdb=influxdb)
    settings = load(data / "dormpower.yaml")
    clock = _campus_clock(settings.folder, speed)
    books = open_books(settings.database, base=settings.folder)
    try:
        _prepare_books(books, settings, clock, console)
        summary = LiveSummary(settings=settings, books=books, clock=clock, console=console)
        supervisor = Supervisor(_children(settings), each_look=summary.look)
        with summary:
            code = supervisor.run()
        console.print("stopped; everything is kept in", str(data), highlight=False)
    finally:
        books.close()
    raise typer.Exit(code)


def _make_files(folder: Path, **options: object) -> None:
    """Have the simulators' side write its site; what it refuses is ours to tell."""
    arguments = [sys.executable, "-m", "simulators.demo_files", "--data", str(folder)]
    for name, value in options.items():
        if value is not None:
            arguments += [f"--{name}", str(value)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: S603 - our own program
    if done.returncode != 0:
        raise UnableToRunDemoError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no files")


def _campus_clock(folder: Path, speed: float | None) -> CampusClock:
    """Go on where the campus stood; a campus at real time catches up with the present."""
    before = load_clock(folder)
    known = (folder / CLOCK_FILE).exists()
    chosen = speed if speed is not None else (before.speed if known else 1.0)
    real_now = datetime.now(UTC)
    start = real_now
    if known:
        try:
            seen = datetime.fromisoformat((folder / SEEN_FILE).read_text(encoding="utf-8").strip())
        except (FileNotFoundError, ValueError):
            seen = before.now()
        went_on = seen + timedelta(seconds=2 * _NOTE_EVERY_S * before.speed)
        start = max(went_on, real_now) if chosen == 1.0 else went_on
    return start_clock(folder, speed=chosen, campus_start=start)


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
    environment = {"DORMPOWER_LOG_FILE": str(settings.folder / "demo.log")}
    return [
        Child(name="simulators", arguments=simulator, environment=environment),
        Child(name="gateway", arguments=process_arguments("gateway", path), environment=environment),
        Child(name="api", arguments=process_arguments("api", path), environment=environment),
    ]


@dataclass(slots=True)
class LiveSummary:
    """Tells addresses and sign-ins once the API answers, then one live line of what the campus does."""

    settings: Settings
    books: Books
    clock: CampusClock
    console: Console
    _live: Live | None = None
    _ready: bool = False
    _payers: Payers | None = None
    _looked_s: float = 0.0
    _printed_s: float = 0.0
    _taken: list[tuple[float, float]] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Begin; the live line needs a terminal, elsewhere a plain line is printed now and then."""
        if self.console.is_terminal:
            self._live = Live(console=self.console, refresh_per_second=4)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the last line on the screen."""
        if self._live is not None:
            self._live.stop()

    def look(self) -> None:
        """Note the campus time, and show what stands now; called a few times a second."""
        now_s = self.clock.monotonic()
        if not self._ready:
            self._ready = self._answers()
            if self._ready:
                self._announce()
                self._payers = Payers(books=self.books, clock=self.clock, address=self._address)
        if now_s - self._looked_s < _NOTE_EVERY_S:
            return
        self._looked_s = now_s
        _write_atomically(self.settings.folder / SEEN_FILE, self.clock.now().isoformat())
        if self._payers is None:
            return
        self._payers.step()
        line = self._line(now_s)
        if self._live is not None:
            self._live.update(line)
        elif now_s - self._printed_s >= _PLAIN_LINE_EVERY_S:
            self._printed_s = now_s
            self.console.print(line, soft_wrap=True)

    @property
    def _address(self) -> str:
        return f"http://{self.settings.api.host}:{self.settings.api.port}"

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._address}/healthz", timeout=0.2) as answer:  # noqa: S310 - loopback
                return bool(answer.status == 200)
        except OSError:
            return False

    def _announce(self) -> None:
        site, mqtt = self.settings.site, self.settings.mqtt
        table = Table(title=f"{site.name}: {len(site.rooms)} rooms", title_justify="left", show_header=False)
        table.add_row("pages and API", self._address)
        table.add_row("API documentation", f"{self._address}/docs")
        table.add_row("Modbus lines", f"{len(site.lines)} on {site.lines[0].host}" if site.lines else "none")
        table.add_row("MQTT broker", mqtt.url if mqtt else "none")
        table.add_row("sign in as", "student, finance, maintenance or admin")
        table.add_row("password", PASSWORD)
        table.add_row("data", str(self.settings.folder))
        table.add_row("speed", f"{self.clock.speed:g} campus seconds a second")
        self.console.print(table)
        self.console.print(f"ready at {self._address}, Ctrl-C stops", highlight=False)

    def _line(self, now_s: float) -> Text:
        with self.books.read() as connection:
            gateway = self.settings.gateway.gateway_id
            taken = counters.read(connection, process=gateway).get((gateway, "intake_accepted"), 0.0)
            by_state = dict.fromkeys(SupplyState, 0)
            for row in connection.execute(_ROOM_STATES):
                by_state[min((SupplyState(state) for state in row.states.split(",")), key=_ORDER.index)] += 1
        if not self._taken or self._taken[-1][1] != taken:
            self._taken = [*self._taken[-1:], (now_s, taken)]
        rate = 0.0
        if len(self._taken) == 2:
            (then_s, then), (last_s, last) = self._taken
            rate = max(0.0, (last - then) / (last_s - then_s))
        campus = self.clock.now().astimezone(self.settings.zone)
        text = Text(f"{campus:%a %Y-%m-%d %H:%M}  ")
        text.append(f"{len(self.settings.site.rooms)} rooms  {rate:.0f} readings/s  ", style="bold")
        for state, number in by_state.items():
            if number or state is SupplyState.NORMAL:
                text.append(f"{state.value} {number}  ", style=_STYLES.get(state, "yellow"))
        return text


# A room shows the state that most needs a look (docs/interfaces.md: the order of states).
_ORDER = (
    SupplyState.LOCKED_OUT,
    SupplyState.LOAD_OFF,
    SupplyState.ARREARS,
    SupplyState.SCHEDULED_OFF,
    SupplyState.OFFLINE,
    SupplyState.NORMAL,
)
_STYLES = {SupplyState.NORMAL: "green", SupplyState.ARREARS: "red", SupplyState.OFFLINE: "dim"}
_ROOM_STATES = (
    sa.select(sa.func.aggregate_strings(control_points.c.state, ",").label("states"))
    .join(circuits, circuits.c.circuit_id == control_points.c.circuit_id)
    .group_by(circuits.c.room_id)
)


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
