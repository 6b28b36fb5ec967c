"""What a running demo shows: addresses and sign-ins once it is ready, then one live line of what happens."""

import urllib.request
from dataclasses import dataclass, field
from typing import Self

import sqlalchemy as sa
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from config.settings import Settings
from dormpower.books import counters
from dormpower.books.database import Books
from dormpower.books.tables import circuits, control_points
from dormpower.clock import Clock
from dormpower.commands.demo_books import PASSWORD
from dormpower.commands.demo_payers import Payers
from dormpower.domain.holds import SupplyState

LOG_FILE = "demo.log"
_LOOK_EVERY_S = 1.0
_PLAIN_LINE_EVERY_S = 10.0


@dataclass(slots=True)
class LiveSummary:
    """Tells addresses and sign-ins once the API answers, then one live line of what the campus does."""

    settings: Settings
    books: Books
    clock: Clock
    console: Console
    begun_s: float  # on the clock's monotonic scale: when the demo was asked for
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
        if self._payers is not None:
            self._payers.close()

    def look(self) -> None:
        """Show what stands now; called a few times a second."""
        now_s = self.clock.monotonic()
        if not self._ready:
            self._ready = self._answers()
            if self._ready:
                self._announce(ready_after_s=now_s - self.begun_s)
                self._payers = Payers(books=self.books, clock=self.clock, address=self._address)
        if self._payers is None or now_s - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now_s
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

    def _announce(self, *, ready_after_s: float) -> None:
        site, mqtt = self.settings.site, self.settings.mqtt
        table = Table(title=f"{site.name}: {len(site.rooms)} rooms", title_justify="left", show_header=False)
        table.add_row("pages and API", self._address)
        table.add_row("API documentation", f"{self._address}/docs")
        table.add_row("Modbus lines", f"{len(site.lines)} on {site.lines[0].host}" if site.lines else "none")
        table.add_row("MQTT broker", mqtt.url if mqtt else "none")
        table.add_row("sign in as", "student, finance, maintenance or admin")
        table.add_row("password", PASSWORD)
        table.add_row("data", str(self.settings.folder))
        table.add_row("log", str(self.settings.folder / LOG_FILE))
        table.add_row("speed", f"{self.clock.speed:g} campus seconds a second")
        table.add_row("ready after", f"{ready_after_s:.1f} s")
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
