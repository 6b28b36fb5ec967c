"""A site that takes answers or samples, and a campus in which much goes wrong by chance."""

import copy
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa
import yaml

from config.settings import load
from dormpower.books import holds, proof, quarantines
from dormpower.books.tables import account_links, metadata
from dormpower.domain.loadsteps import watch_of
from dormpower.domain.samples import ModuleSample, Relay
from gateway.plain_run import MOST_OF_A_CIRCUIT, PlainRun
from gateway.ports import Rate, SwitchOutcome, SwitchResult
from gateway.rule_set import rule_set
from gateway.service import Gateway, Submit
from tests.gateway.composed_site import ComposedSite, site_document
from tests.gateway.polled_answers import RELAY_CLOSED, Channel, dual_plans, polled

EVENING = datetime(2026, 11, 23, 21, 30, tzinfo=ZoneInfo("Asia/Shanghai")).astimezone(UTC)
ROOMS = 6
LOOSE = "m-6"
"""Its answers come as samples."""
FREE = "r-4-lighting"
"""A circuit without an account."""
MIXED = "m-4"
"""Some of its answers come as samples."""
POLICIES = {
    "arrears": {"mode": "enforce", "low_wh": 20_000, "critical_wh": 5_000, "warning_lead_s": 600},
    "overload": {"mode": "enforce"},
    "prohibited": {"mode": "enforce", "bands": [{"from_w": 1000}]},
    "night_mode": {
        "mode": "shadow",
        "rules": [{"from": "23:00", "to": "06:00", "kind": "ac", "limit_w": 2_000}],
    },
    "shedding": {"mode": "enforce"},
}
# What the policies may be swapped for while samples come: other limits, other rules that watch, other balances.
OTHERS: Sequence[Mapping[str, Any]] = (
    {},
    {"prohibited": {"mode": "off"}, "overload": {"mode": "enforce", "limit_w": 1_200}},
    {"prohibited": {"mode": "enforce", "bands": [{"from_w": 250}]}},
    {"overload": {"mode": "off"}, "prohibited": {"mode": "off"}},
    {"arrears": {"mode": "enforce", "low_wh": 24_000, "critical_wh": 9_000, "warning_lead_s": 600}},
)
FEEDERS = [{"id": "f", "limit_kw": 40}]
PLANS = dual_plans()
TABLES = (
    "meter_points",
    "segments",
    "day_boundaries",
    "day_changes",
    "quarantines",
    "holds",
    "control_points",
    "state_changes",
    "pending_cuts",
    "alarms",
    "shadow_alarms",
    "rule_memories",
)
# Ids; and of two holds that are reset at once, either may be told as the cause.
MADE_UP = re.compile(r"\b[a-z]{3}_[0-9a-f]{22}\b|hold\.\w+\.released")


class Relays:
    """Relays that follow every command; of each, how it was last commanded."""

    def __init__(self) -> None:
        self.commanded: dict[tuple[str, int], Relay] = {}

    async def switch(
        self, *, module_id: str, channel: int, relay: Relay, command_id: str, expires_at: datetime
    ) -> SwitchResult:
        self.commanded[module_id, channel] = relay
        return SwitchResult(outcome=SwitchOutcome.CONFIRMED, relay=relay)


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    """A module's answer: when it came, from now, and whether it comes as a sample in any case."""

    module_id: str
    offset_s: float
    rate: Rate
    channels: Mapping[int, Channel]
    as_sample: bool


def document(policies: Mapping[str, Any]) -> dict[str, Any]:
    """Return the site file with these policies in the place of some."""
    found = site_document({**copy.deepcopy(POLICIES), **policies}, rooms=ROOMS, feeders=FEEDERS)
    found["rooms"] = [{**room, "feeder": "f"} for room in found["rooms"]]
    return found


class Site(ComposedSite):
    """A composed site whose samples are given by hand; `plain` counts those that were judged together."""

    def __init__(self, folder: Path, *, packed: bool, database: str | None = None) -> None:
        folder.mkdir()
        self.packed = packed
        self.plain = 0
        self.switch = Relays()
        described = document({}) if database is None else {**document({}), "database": database}
        super().__init__(folder, described, at=EVENING)
        self._share_accounts()
        self.start()
        for number, circuit in enumerate(self.settings.site.circuits()):
            if circuit.circuit_id == FREE:
                continue
            self.grant(circuit.circuit_id, 21_000 + 4_000 * number)

    def _share_accounts(self) -> None:
        """Let a room's lighting be paid with the next room's air conditioner, in two pairs; one is free."""
        with self.books.write() as connection:
            for number in (1, 5):
                shared = sa.select(account_links.c.account_id).where(
                    account_links.c.circuit_id == f"r-{number + 1}-ac"
                )
                connection.execute(
                    sa.update(account_links)
                    .where(account_links.c.circuit_id == f"r-{number}-lighting")
                    .values(account_id=shared.scalar_subquery())
                )
            connection.execute(sa.delete(account_links).where(account_links.c.circuit_id == FREE))

    def start(self) -> Gateway:
        """Compose the gateway, with an ear on what is judged together."""
        gateway = super().start()
        note = gateway.intake._note_plain

        def listen(run: PlainRun) -> None:
            self.plain += len(run.samples)
            note(run)

        gateway.intake._note_plain = listen
        gateway.control.reconciler._switch = self.switch
        for module in self.settings.site.modules:
            self.run(partial(self.online, module.module_id))
        return gateway

    async def online(self, module_id: str) -> None:
        self.gateway.control.note_module(module_id, online=True)

    def take(self, batch: Sequence[Poll]) -> None:
        """Take in a batch of answers, and carry out what follows."""

        async def go() -> None:
            submit = Submit(self.gateway.intake, self.gateway.feeder_readings)
            for one in batch:
                channels = polled(PLANS, one.rate, one.channels)
                at = self.clock.now() + timedelta(seconds=one.offset_s)
                packed = self.packed and not one.as_sample
                submit(ModuleSample(one.module_id, at, channels if packed else list(channels)))
            await self.gateway.intake.flush()
            await self.gateway.feeders.cycle()
            self.gateway.control.reconciler.kick_due()
            await self._rest()

        self.run(go)

    def swap(self, policies: Mapping[str, Any]) -> None:
        """Go by other policies from now on."""
        path = self.folder / "other.yaml"
        path.write_text(
            yaml.safe_dump(document(policies)).replace("'2026-01-01'", "2026-01-01"), encoding="utf-8"
        )
        rules = rule_set(load(path), in_shadow=False, speed=1.0)

        async def go() -> None:
            control = self.gateway.control
            async with control.turn:
                control.adopt(
                    rules.policies,
                    spread=rules.closings,
                    warning_channels=rules.warning_channels,
                    circuits=rules.circuits,
                )

        self.run(go)

    def set_right(self) -> None:
        """People reset what waits for them and dismiss what was not believed."""
        now = self.clock.now()
        for circuit in self.settings.site.circuits():
            with self.books.write() as connection:
                holds.reset(connection, circuit.circuit_id, "maintenance", now)
        table = metadata.tables["quarantines"]
        with self.books.write() as connection:
            for quarantine_id in connection.scalars(
                sa.select(table.c.quarantine_id).where(table.c.closed_at.is_(None))
            ):
                quarantines.dismiss(connection, quarantine_id=quarantine_id, actor="maintenance", now=now)
        self.run(self._rest)

    def known(self) -> dict[str, Any]:
        """Return what memory and books know, comparable with another site's."""
        gateway, found = self.gateway, {}
        for circuit in self.settings.site.circuits():
            memory = gateway.control.memory(circuit.circuit_id)
            lately, account = memory.lately, memory.account
            watched = [
                watch_of(one) if isinstance(one, tuple) else one  # type: ignore[arg-type]
                for one in lately.watched
            ]
            found[circuit.circuit_id] = (
                gateway.intake.state(circuit.circuit_id),
                (lately.metered_wh, lately.observed_at, lately.observed_before_at, lately.fresh_at),
                lately.sample,
                watched,
                (memory.judged, memory.believed, memory.seen, memory.state, memory.wanted),
                None if account is None else (account.base_wh, account.metered_wh),
                gateway.feeder_readings.power(circuit.circuit_id),
                gateway.feeder_readings.lately_w(circuit.circuit_id),
                self.readings.between(circuit.circuit_id, EVENING - timedelta(1), EVENING + timedelta(9)),
            )
        counters = gateway.intake.counters
        found["counters"] = {
            name: getattr(counters, name)
            for name in ("accepted", "late", "quarantined", "refused", "commissioning", "without_register")
        }
        with self.books.read() as connection:
            for name in TABLES:
                table = metadata.tables[name]
                rows = connection.execute(sa.select(table).order_by(*table.primary_key)).mappings()
                found[name] = sorted(MADE_UP.sub("…", repr(dict(row))) for row in rows)
        found["proof"] = [str(one) for one in proof.prove(self.books)]
        return found


class Campus:
    """The modules of a site, with what is drawn, switched and goes wrong by chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.shown = {
            f"m-{number}": {channel: Channel(register_wh=1_000 * number, power_w=100.0) for channel in (0, 1)}
            for number in range(1, ROOMS + 1)
        }

    def batch(self, after_s: float, relays: Relays) -> list[Poll]:
        """Return the answers of a batch: some modules once, some several times, some not at all."""
        chance = self.chance
        batch = []
        for module_id, channels in self.shown.items():
            times = chance.choice((0, 1, 1, 1, 1, 2, 3) if chance.random() < 0.97 else (MOST_OF_A_CIRCUIT + 2,))
            for number in range(times):
                for channel in channels:
                    commanded = relays.commanded.get((module_id, channel), Relay.CLOSED)
                    channels[channel] = self.later(channels[channel], after_s / times, commanded)
                offset_s = number * after_s / times - after_s * (1 - 1 / times)
                if chance.random() < 0.03:
                    offset_s = chance.choice((-45.0, -3 * after_s, 0.0, 320.0))
                batch.append(
                    Poll(
                        module_id=module_id,
                        offset_s=offset_s,
                        rate=Rate.FAST if chance.random() < 0.3 else Rate.FULL,
                        channels=dict(channels),
                        as_sample=module_id == LOOSE or chance.random() < (0.3 if module_id == MIXED else 0.02),
                    )
                )
        if chance.random() < 0.05:
            shown = dict(self.shown["m-1"])
            batch.append(
                Poll(module_id="m-unknown", offset_s=0.0, rate=Rate.FULL, channels=shown, as_sample=False)
            )
        return batch

    def later(self, shown: Channel, after_s: float, commanded: Relay) -> Channel:
        chance = self.chance
        power_w, status, register_wh = shown.power_w, shown.status, shown.register_wh
        luck = chance.random()
        if luck < 0.05:
            power_w = chance.choice((0.0, 60.0, 400.0, 900.0, 1_300.0, 2_500.0, 3_900.0))
        elif luck < 0.053:
            status = chance.choice((0, RELAY_CLOSED | 0b10000, 0b10, RELAY_CLOSED | 0b100))
        elif luck < 0.054:
            register_wh = chance.choice((0, register_wh + 500_000, register_wh + 9_000, register_wh - 20))
        elif luck < 0.5:
            status = RELAY_CLOSED if commanded is Relay.CLOSED else 0
        drawn_w = power_w + chance.uniform(-5, 5) if power_w and status & RELAY_CLOSED else 0.0
        steps = int(drawn_w * after_s / 3600 / 10 + chance.random())
        return Channel(
            register_wh=max(0, register_wh + 10 * steps),
            power_w=max(drawn_w, 0.0),
            status=status,
            power_factor=chance.choice((1.0, 0.96, 0.6)) if luck < 0.2 else shown.power_factor,
        )
