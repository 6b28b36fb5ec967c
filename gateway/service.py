"""The composition root of the gateway process: from a site file to running lines, intake, control and jobs.

Order of start: the books (of this version, ours alone, brought to the site as described), the stores, control's
memory, and only then the field: a gateway that comes back reads first and acts then (invariant 25). Order of
stop: the field first, then what is queued is committed, then the stores.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa
import structlog
import uvloop
from sqlalchemy.engine import Connection

from config.profiles import Profile
from config.settings import EmbeddedReadingsSettings, Settings, UnableToLoadSiteError, load
from dormpower.books import (
    audit_log,
    counters,
    events,
    journal,
    migration,
    scoped_holds,
    settlement,
    shadow,
    silences,
)
from dormpower.books.database import Books, UnableToOpenBooksError, open_books, wait_until_reachable
from dormpower.books.sites import UnableToSyncSiteError, sync_site
from dormpower.clock import Clock, UnableToReadClockError
from dormpower.clock_keeping import keep_clock
from dormpower.domain.days import CampusDays
from dormpower.domain.samples import ModuleSample, Observation
from dormpower.event_log import log_to
from dormpower.readings.influx import InfluxReadings
from dormpower.readings.port import ReadingsStore, UnableToReachReadingsError
from dormpower.wake import WakeListener
from gateway import policy_changes
from gateway.collection import collect_seldom
from gateway.composition import (
    FieldLine,
    Switches,
    UnableToComposeError,
    field_lines,
    meter_points,
    mqtt_messages,
    mqtt_modules,
    open_readings,
)
from gateway.control import Control
from gateway.drivers.modbus.switching import ModbusSwitch
from gateway.drivers.mqtt.link import MqttLink
from gateway.drivers.mqtt.topics import UnableToUseTopicsError
from gateway.dropped_readings import DroppedReadings
from gateway.exclusive import (
    UnableToRunGatewayError,
    give_lease_back,
    holder_name,
    lock_folder,
    take_lease,
)
from gateway.feeder_readings import FeederReadings
from gateway.feeder_rooms import FeederRooms
from gateway.feeders import FeederControl
from gateway.intake import Intake
from gateway.jobs import Job, Jobs
from gateway.policy_desk import PolicyDesk, settings_in_force
from gateway.poll import LinePoller
from gateway.ports import Switch
from gateway.power_limits import PowerLimits
from gateway.rule_set import rule_set

log = structlog.get_logger()

RENEW_EVERY_S = 5.0
DATABASE_TIMEOUT_S = 60.0
KEEP_EVENTS = timedelta(days=1)
KEEP_SILENCES = timedelta(days=30)

SETTLE_EVERY_S = 5.0
SEAL_EVERY_S = 1.0
EXPORT_HEAD_EVERY_S = 10.0
AGE_OUT_EVERY_S = 600.0
MEND_EVERY_S = 10.0


class Gateway:
    """One gateway process's parts and their life."""

    def __init__(self, *, settings: Settings, books: Books, readings: ReadingsStore, clock: Clock) -> None:
        self.settings = settings
        self.books = books
        self.readings = readings
        self.clock = clock
        self.gateway_id = settings.gateway.gateway_id
        profiles = settings.profiles
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="books-writer")
        with books.read() as connection:
            self.in_shadow = shadow.awaits_confirmation(connection)
        self._lines = field_lines(settings.site, profiles, clock)
        self._mqtt_modules = mqtt_modules(settings.site, profiles)
        self._rules = rule_set(settings, in_shadow=self.in_shadow, speed=clock.speed)
        self.control, self.feeders, self.intake, self._link = self._build(profiles)
        self.desk = PolicyDesk(
            books=books,
            clock=clock,
            settings=settings,
            in_shadow=self.in_shadow,
            rules=self._rules,
            control=self.control,
            feeders=self.feeders,
            limits=self._limits,
        )
        self._dropped = DroppedReadings(self.gateway_id)
        self._pollers = [self._poller(field_line) for field_line in self._lines]
        self._jobs = Jobs(books=books, clock=clock, holder=holder_name(self.gateway_id), jobs=self._job_list())

    def _build(self, profiles: Mapping[str, Profile]) -> tuple[Control, FeederControl, Intake, MqttLink | None]:
        settings, clock = self.settings, self.clock
        stale_after_s = settings.stale_after_s * clock.speed
        self._wake = WakeListener(settings.folder)
        switch_of: dict[str, Switch] = {}
        modbus = {module.module_id: module for line in self._lines for module in line.modules}
        rules = self._rules
        switch_of.update(dict.fromkeys(modbus, ModbusSwitch(modbus)))
        self.feeder_readings = FeederReadings(settings.site, clock)
        rooms = FeederRooms(clock=clock, readings=self.feeder_readings, policy=rules.shedding)
        control = Control(
            books=self.books,
            clock=clock,
            switch=Switches(switch_of),
            circuits=rules.circuits,
            policies=rules.policies,
            warning_channels=rules.warning_channels,
            spread=rules.closings,
            room=rooms,
            executor=self._writer,
            zone=settings.zone,
            stale_after_s=stale_after_s,
            reload=self._reload,
            wake=self._wake,
        )
        self._limits = PowerLimits(
            books=self.books,
            clock=clock,
            run=control.run_on_writer,
            modules={} if self.in_shadow else modbus,  # restored books that nobody has confirmed write nothing
            circuits=rules.circuits,
            overload=rules.overload,
            night=rules.night,
            reachable=lambda circuit: control.reachable(control.memory(circuit.circuit_id)),
        )
        feeders = FeederControl(
            books=self.books,
            clock=clock,
            site=settings.site,
            readings=self.feeder_readings,
            rooms=rooms,
            configured=rules.shedding_configured,
            memory=control.memory,
            reachable=control.reachable,
            handle_intents=control.handle_intents,
            kick=control.reconciler.kick,
            executor=self._writer,
            zone=settings.zone,
        )

        def decide(
            connection: Connection, observations: Sequence[Observation], now: datetime
        ) -> Callable[[], None]:
            after_commit = control.decide_batch(connection, observations, now)

            def taken_over() -> None:
                after_commit()
                self.feeder_readings.note(observations)

            return taken_over

        intake = Intake(
            books=self.books,
            readings=self.readings,
            clock=clock,
            points=meter_points(settings.site, profiles, speed=clock.speed),
            poll_cycle_s=settings.gateway.poll_s,
            zone=settings.zone,
            decide=decide,
            turn=control.turn,
            writer=self._writer,
        )
        link = None
        if settings.mqtt is not None and self._mqtt_modules:
            link = MqttLink(
                settings=settings.mqtt,
                site_id=settings.site.site_id,
                gateway_id=settings.gateway.gateway_id,
                modules=mqtt_messages(self._mqtt_modules),
                clock=clock,
                submit=Submit(intake, self.feeder_readings),
                on_module=_Note(control.note_module),
                on_line=control.note_line,
            )
            switch_of.update(dict.fromkeys(self._mqtt_modules, link))
        return control, feeders, intake, link

    def _reload(self, circuit_id: str) -> None:
        self.intake.reload(circuit_id)

    def _poller(self, field_line: FieldLine) -> LinePoller:
        return LinePoller(
            line_id=field_line.line.line.line_id,
            line=field_line.line,
            modules=field_line.modules,
            poll_s=self.settings.gateway.poll_s,
            fast_poll_s=self.settings.gateway.fast_poll_s,
            clock=self.clock,
            submit=Submit(self.intake, self.feeder_readings),
            on_module=_Note(self.control.note_module),
            on_line=_Note(self.control.note_line),
        )

    # --- jobs ----------------------------------------------------------------------------------------------

    def _job_list(self) -> list[Job]:
        return [
            Job(name="settle", every_s=SETTLE_EVERY_S, run=self._settle),
            Job(name="seal", every_s=SEAL_EVERY_S, run=self._seal),
            Job(name="audit_head", every_s=EXPORT_HEAD_EVERY_S, run=self._export_head),
            Job(name="mend_scopes", every_s=MEND_EVERY_S, run=self._mend_scopes),
            Job(name="age_out", every_s=AGE_OUT_EVERY_S, run=self._age_out),
        ]

    def _settle(self) -> None:
        settlement.settle(
            self.books,
            now=self.clock.now(),
            zone=self.settings.zone,
            journal=journal.OrderedDays(order=self.settings.policies.lot_order),
        )

    def _mend_scopes(self) -> None:
        """Hold what was described after a lock-out over its floor, and end what a crash left behind."""
        scoped_holds.mend(self.books, self.clock.now())

    def _seal(self) -> None:
        with self.books.write() as connection:
            audit_log.seal(connection)

    def _export_head(self) -> None:
        now = self.clock.now()
        audit_log.export_head(
            self.books,
            path=self.settings.folder / audit_log.HEADS_FILE,
            on=CampusDays(self.settings.zone).day_of(now),
            now=now,
        )

    def _age_out(self) -> None:
        with self.books.write() as connection:
            events.drop_before(connection, self.clock.now() - KEEP_EVENTS)
            silences.drop_before(connection, self.clock.now() - KEEP_SILENCES)
        kept = self.settings.readings
        if isinstance(kept, EmbeddedReadingsSettings):  # the retention of an InfluxDB bucket is the server's
            self.readings.drop_before(self.clock.now() - timedelta(days=kept.keep_days))

    # --- life ----------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take over what the books hold, and put on record as what everything is configured."""
        now = self.clock.now()
        with self.books.write() as connection:
            policy_changes.record_plain(connection, self._rules.plain, now=now)
        self.control.load()
        self.feeders.load()

    async def run(self, stopped: asyncio.Event) -> None:
        """Run until `stopped` is set or a part of the gateway fails; what is queued is committed at the end.

        Raises what the failed part raised: a broken invariant stops the gateway (INVARIANTS, first lines).
        """
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._writer, self.load)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(asyncio.to_thread, self._writer.shutdown)
            stack.push_async_callback(self.intake.flush)
            if self._wake.open():
                stack.callback(self._wake.close)
            await asyncio.to_thread(self._jobs.start)
            stack.push_async_callback(asyncio.to_thread, self._jobs.stop)
            parts: list[asyncio.Task[object]] = [
                asyncio.create_task(self._limits.run(), name="power-limits"),
                asyncio.create_task(self.intake.run(), name="intake"),
                asyncio.create_task(self.control.run(), name="control"),
                asyncio.create_task(self.feeders.run(), name="feeders"),
                asyncio.create_task(self.desk.run(), name="policies"),
                asyncio.create_task(self._keep_lease(), name="lease"),
            ]
            # The end in reverse: polling, commands under way, then the parts that take in and decide.
            stack.push_async_callback(_cancel, parts)
            lines = stack.enter_context(ExitStack())
            stack.push_async_callback(self.control.settle)
            polling: list[asyncio.Task[object]] = []
            stack.push_async_callback(_cancel, polling)
            for field_line, poller in zip(self._lines, self._pollers, strict=True):
                polling.append(asyncio.create_task(poller.run(), name=f"poll-{poller.line_id}"))
                lines.callback(field_line.line.close)
            if self._link is not None:
                await self._link.start()
                stack.push_async_callback(self._link.stop)
            log.info(
                "gateway.started",
                lines=len(self._lines),
                modules=sum(len(line.modules) for line in self._lines) + len(self._mqtt_modules),
                speed=self.clock.speed,
                shadow=self.in_shadow,
            )
            waiter = asyncio.create_task(stopped.wait(), name="stop")
            parts.append(waiter)
            done, _ = await asyncio.wait([*parts, *polling], return_when=asyncio.FIRST_COMPLETED)
            for task in done - {waiter}:
                task.result()
        log.info("gateway.stopped")

    async def _keep_lease(self) -> None:
        """Hold the gateway's lease, leave its counters, and end when a restored site has been confirmed.

        While the books are away nothing can be commanded, since commands are recorded first; whether another
        gateway took over meanwhile shows when they are back.
        """
        loop = asyncio.get_running_loop()
        away = False
        while True:
            await asyncio.sleep(RENEW_EVERY_S)
            try:
                confirmed = await loop.run_in_executor(self._writer, self._report)
            except sa.exc.DBAPIError as fault:
                if not away:
                    log.warning("gateway.books_away", fault=str(fault.orig))
                away = True
                continue
            if away:
                log.info("gateway.books_back")
            away = False
            if confirmed:
                log.info("gateway.restore_confirmed")
                return

    def _report(self) -> bool:
        take_lease(gateway_id=self.gateway_id, books=self.books, clock=self.clock)
        figures, real_now = self.figures(), self.clock.real_now()
        with self.books.write() as connection:
            counters.write(
                connection,
                process=self.settings.gateway.gateway_id,
                values=figures,
                real_now=real_now,
            )
            self._dropped.note(connection, figures, now=self.clock.now(), real_now=real_now)
            return self.in_shadow and not shadow.awaits_confirmation(connection)

    def figures(self) -> dict[str, float]:
        """Return what this gateway has counted since it started, by name."""
        intake = self.intake.counters
        figures: dict[str, float] = {
            f"intake_{name}": float(getattr(intake, name)) for name in intake.__slots__
        }
        polled = [poller.counters for poller in self._pollers]
        for name in ("polls", "probes", "timeouts", "unusable", "refused", "line_downs", "cycles"):
            figures[f"poll_{name}"] = float(sum(getattr(one, name) for one in polled))
        figures["poll_longest_cycle_s"] = max((one.cycle_s for one in polled), default=0.0)
        if self._link is not None:
            counts = self._link.counts
            for name in (
                "readings",
                "acknowledged",
                "foreign",
                "retained",
                "missed",
                "repeated",
                "unmatched_results",
                "overflowed",
            ):
                figures[f"mqtt_{name}"] = float(getattr(counts, name))
            figures["mqtt_refused"] = float(sum(counts.refused.values()))
        outbox = self.readings.counts() if isinstance(self.readings, InfluxReadings) else None
        if outbox is not None:
            figures |= {
                "outbox_pending": float(outbox.pending_lines),
                "outbox_pending_bytes": float(outbox.pending_bytes),
                "outbox_delivered": float(outbox.delivered_lines),
                "outbox_dropped": float(outbox.dropped_lines),
                "outbox_rejected": float(outbox.rejected_lines),
            }
        return figures


class Submit:
    """Hands samples to intake, and the feeder meters' channels among them to shedding."""

    def __init__(self, intake: Intake, feeders: FeederReadings) -> None:
        self._intake = intake
        self._feeders = feeders

    def __call__(self, sample: ModuleSample, *, done: Callable[[], None] | None = None) -> None:
        """Take a module's sample in."""
        left = self._feeders.take_meters(sample)
        if left is not None:
            self._intake.submit(left, done=done)
        elif done is not None:
            done()


class _Note:
    """Gives a note its keyword arguments back where a driver calls by position."""

    def __init__(self, note: Callable[..., None]) -> None:
        self._note = note

    def __call__(self, module_id: str, online: bool, detail: str) -> None:
        self._note(module_id, online=online, detail=detail)


async def _cancel(tasks: Sequence[asyncio.Task[object]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# --- the process ---------------------------------------------------------------------------------------------


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
            while not stopped.is_set():  # once more after a restored site was confirmed
                in_force = settings_in_force(settings, books, clock)
                gateway = Gateway(settings=in_force, books=books, readings=readings, clock=clock)
                take_lease(gateway_id=gateway_id, books=books, clock=clock)
                await gateway.run(stopped)
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
