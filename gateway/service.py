"""The composition root of the gateway: from a site's settings to running lines, intake, control and jobs.

Order of stop: the field first, then what is queued is committed, then the stores.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack
from datetime import datetime

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection

from config.profiles import Profile
from config.settings import Settings
from dormpower.books import (
    counters,
    shadow,
)
from dormpower.books.database import Books
from dormpower.clock import Clock
from dormpower.domain.samples import ModuleSample, Observation
from dormpower.readings.port import ReadingsStore
from dormpower.wake import WakeListener
from gateway import policy_changes
from gateway.composition import (
    MQTT_LINE,
    FieldLine,
    Switches,
    field_lines,
    meter_points,
    mqtt_messages,
    mqtt_modules,
    openings_policy,
)
from gateway.control import Control
from gateway.drivers.modbus.series import SeriesReader
from gateway.drivers.modbus.switching import ModbusSwitch
from gateway.drivers.mqtt.link import MqttLink
from gateway.dropped_readings import DroppedReadings
from gateway.exclusive import (
    holder_name,
    take_lease,
)
from gateway.feeder_readings import FeederReadings
from gateway.feeder_rooms import FeederRooms
from gateway.feeders import FeederControl
from gateway.figures import counted
from gateway.housekeeping import housekeeping
from gateway.intake import Intake
from gateway.jobs import Jobs
from gateway.policy_desk import PolicyDesk
from gateway.poll import LinePoller
from gateway.ports import Switch
from gateway.power_limits import PowerLimits
from gateway.rule_set import rule_set
from gateway.steady_rows import SteadyRows

log = structlog.get_logger()

RENEW_EVERY_S = 5.0


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
        self._jobs = Jobs(
            books=books,
            clock=clock,
            holder=holder_name(self.gateway_id),
            jobs=housekeeping(settings, books, readings, clock),
        )

    def _build(self, profiles: Mapping[str, Profile]) -> tuple[Control, FeederControl, Intake, MqttLink | None]:
        settings, clock = self.settings, self.clock
        stale_after_s = settings.stale_after_s * clock.speed
        self._wake = WakeListener(settings.folder)
        switch_of: dict[str, Switch] = {}
        modbus = {module.module_id: module for line in self._lines for module in line.modules}
        rules = self._rules
        steady = SteadyRows(rules.circuits)
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
            line_of={one.module_id: one.line_id or MQTT_LINE for one in settings.site.modules},
            executor=self._writer,
            zone=settings.zone,
            stale_after_s=stale_after_s,
            reload=self._reload,
            wake=self._wake,
            openings_policy=openings_policy(settings, speed=clock.speed),
            steady=steady,
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
            steady=steady,
            note_plain=self.feeder_readings.note_plain,
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
            submit=self._submit_of(field_line),
            read_in_turn=SeriesReader(field_line.line),
            on_module=_Note(self.control.note_module),
            on_line=_Note(self.control.note_line),
        )

    def _submit_of(self, field_line: FieldLine) -> Callable[[ModuleSample], None]:
        """Return where a line's samples go: nearly every line has no feeder's meter on it."""
        if any(self.feeder_readings.is_meter(module.module_id) for module in field_line.modules):
            return Submit(self.intake, self.feeder_readings)
        return self.intake.submit

    # --- life ----------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Take over what the books hold, and put on record as what everything is configured."""
        now = self.clock.now()
        with self.books.write() as connection:
            policy_changes.record_plain(connection, self._rules.plain, now=now)
        self.control.load()
        self.feeders.load()

    async def run(self, stopped: asyncio.Event, *, loaded: Callable[[], None] = lambda: None) -> None:
        """Run until `stopped` is set or a part of the gateway fails; what is queued is committed at the end.

        `loaded` is called once memory is taken over from the books, before the field is polled. Raises what the
        failed part raised: a broken invariant stops the gateway (INVARIANTS, first lines).
        """
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._writer, self.load)
        loaded()
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
        return counted(intake=self.intake, pollers=self._pollers, link=self._link, readings=self.readings)


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
