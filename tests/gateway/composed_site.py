"""A site file's rules at work as the gateway composes them: real settings, books, intake and control.

Only the field is missing: samples are handed to intake as a line hands them over, and the modules can't be
reached, so what a rule wants shows in its holds. Virtual time.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import yaml

from config.settings import load
from dormpower.books import alarms, holds, journal, migration
from dormpower.books.database import open_books
from dormpower.books.sites import sync_site
from dormpower.clock import ManualClock
from dormpower.domain.holds import Hold
from dormpower.domain.samples import ChannelSample, Flag, ModuleSample, Relay
from gateway.composition import open_readings
from gateway.service import Gateway, Submit

Result = TypeVar("Result")

RATED_CURRENT_A = 16
NO_PORT = 9  # discard: nothing listens there


def site_document(policies: Mapping[str, Any], *, rooms: int = 1, **more: Any) -> dict[str, Any]:
    """Return a site file of rooms `r-1` …, each with a module of two channels on one line."""
    numbers = range(1, rooms + 1)
    return {
        "site": {"id": "composed", "name": "Composed"},
        "gateway": {"poll_s": 30, "fast_poll_s": 5},
        "lines": [{"id": "l1", "transport": "tcp", "host": "127.0.0.1", "port": NO_PORT, "timeout_ms": 10}],
        "modules": [
            {"id": f"m-{number}", "profile": "dormpower-dual", "line": "l1", "unit": number}
            for number in numbers
        ],
        "rooms": [
            {
                "room_id": f"r-{number}",
                "campus": "south",
                "building": "01",
                "floor": "1",
                "name": f"{number}",
                "lighting_module": f"m-{number}",
                "lighting_channel": 0,
                "ac_module": f"m-{number}",
                "ac_channel": 1,
                "rated_current_a": RATED_CURRENT_A,
            }
            for number in numbers
        ],
        "policies": {"prices": [{"from": "2026-01-01", "price_millifen_per_kwh": 56530}], **policies},
        **more,
    }


class ComposedSite:
    """The gateway of a site file, without its field."""

    def __init__(self, folder: Path, document: Mapping[str, Any], *, at: datetime) -> None:
        self.folder = folder
        self.write(document)
        self.clock = ManualClock(at)
        self.books = open_books(self.settings.database, base=folder)
        migration.upgrade(self.books)
        self.sync()
        self.readings = open_readings(self.settings)
        self._runner = asyncio.Runner()
        self._wh: dict[str, float] = {}
        self._sampled_at: dict[str, datetime] = {}
        self.gateway = self.start()

    def write(self, document: Mapping[str, Any]) -> None:
        """Write the site file and take it as the settings; a gateway goes by it from its next start on."""
        path = self.folder / "site.yaml"
        path.write_text(yaml.safe_dump(dict(document)).replace("'2026-01-01'", "2026-01-01"), encoding="utf-8")
        self.settings = load(path)

    def sync(self) -> None:
        """Bring the books to the site as described."""
        now = self.clock.now()
        sync_site(
            books=self.books,
            site=self.settings.site,
            now=now,
            today=now.astimezone(self.settings.zone).date(),
        )

    def start(self) -> Gateway:
        """Compose the gateway and let it take over what the books hold."""
        self.gateway = Gateway(
            settings=self.settings, books=self.books, readings=self.readings, clock=self.clock
        )
        self.gateway.load()
        return self.gateway

    def run(self, function: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """Run a coroutine on this site's event loop."""
        return self._runner.run(function())

    def sample(
        self,
        power_w: Mapping[str, float] | float = 0.0,
        *,
        after_s: float = 5.0,
        tripped: Collection[str] = (),
        opened: Collection[str] = (),
        flags: Mapping[str, Collection[Flag]] = MappingProxyType({}),
    ) -> None:
        """All modules give a sample; circuits draw what is given, and what follows is carried out.

        Of the `tripped` circuits the modules report that they have opened by themselves, of the `opened` ones
        just that they are open, and `flags` of each circuit besides.
        """

        async def go() -> None:
            self.clock.advance(after_s)
            submit = Submit(self.gateway.intake, self.gateway.feeder_readings)
            for room in self.settings.site.rooms:
                channels = [
                    self._channel(
                        circuit.circuit_id,
                        circuit.channel,
                        power_w,
                        tripped=circuit.circuit_id in tripped,
                        opened=circuit.circuit_id in opened,
                        flags=flags.get(circuit.circuit_id, ()),
                    )
                    for circuit in room.circuits
                ]
                submit(
                    ModuleSample(module_id=room.circuits[0].module_id, at=self.clock.now(), channels=channels)
                )
            await self.gateway.intake.flush()
            await self._rest()

        self.run(go)

    def _channel(
        self,
        circuit_id: str,
        channel: int,
        power_w: Mapping[str, float] | float,
        *,
        tripped: bool,
        opened: bool,
        flags: Collection[Flag],
    ) -> ChannelSample:
        now = self.clock.now()
        drawn_w = power_w if isinstance(power_w, float) else power_w.get(circuit_id, 0.0)
        held = any(not hold.shadow for hold in self.holds(circuit_id))
        drawn_w = 0.0 if held or tripped or opened else drawn_w
        lasted_s = (now - self._sampled_at.get(circuit_id, now)).total_seconds()
        self._sampled_at[circuit_id] = now
        self._wh[circuit_id] = self._wh.get(circuit_id, 0.0) + drawn_w * lasted_s / 3600
        return ChannelSample(
            channel=channel,
            register_wh=int(self._wh[circuit_id]),
            power_w=drawn_w,
            voltage_v=220.0,
            current_a=drawn_w / 220,
            power_factor=1.0 if drawn_w else None,
            relay=Relay.OPEN if tripped or opened else Relay.CLOSED,
            flags=frozenset({Flag.OVERLOAD_TRIP} if tripped else ()) | frozenset(flags),
        )

    def pass_time(self, seconds: float) -> None:
        """Let time pass without a sample, and let control look at what has fallen due."""

        async def go() -> None:
            self.clock.advance(seconds)
            await self.gateway.control.look_due()
            await self._rest()

        self.run(go)

    async def _rest(self) -> None:
        while await self.gateway.control.handle_intents():
            pass
        await self.gateway.control.settle()

    def holds(self, circuit_id: str) -> tuple[Hold, ...]:
        """Return a circuit's standing holds."""
        with self.books.read() as connection:
            return holds.standing(connection, [circuit_id]).get(circuit_id, ())

    def grant(self, circuit_id: str, energy_wh: int) -> None:
        """Give energy, and let control take it up."""
        now = self.clock.now()
        with self.books.write() as connection:
            journal.post_grant(
                connection,
                circuit_id=circuit_id,
                energy_wh=energy_wh,
                expires_at=None,
                source="test",
                idempotency_key=f"{circuit_id}-{now.isoformat()}",
                actor="finance",
                note=None,
                now=now,
            )
        self.run(self._rest)

    def alarms(self) -> set[str]:
        """Return the kinds of the active alarms."""
        with self.books.read() as connection:
            return {alarm.kind for alarm in alarms.active(connection)}

    def close(self) -> None:
        """End everything."""
        self._runner.close()
        self.readings.close()
        self.books.close()
