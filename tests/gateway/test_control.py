"""Control end to end on real books: observations and intents in, commands out, with a relay that is a fake."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from dormpower.books import (
    alarm_steps,
    alarms,
    commands,
    events,
    holds,
    permits,
    policies,
    reports,
    reviews,
    shelving,
    states,
)
from dormpower.books import control as books_control
from dormpower.books.database import Books
from dormpower.books.intents import leave, unhandled
from dormpower.books.tables import (
    audit_log,
    ledger_accounts,
    notices,
)
from dormpower.domain.alarms import UnableToChangeAlarmError
from dormpower.domain.holds import Enforcement, Reason, SupplyState
from dormpower.domain.policy import Place
from dormpower.domain.prohibited import ProhibitedPolicy
from dormpower.domain.protection import OverloadPolicy
from dormpower.domain.samples import ChannelSample, Flag, Observation, Relay, Verdict
from gateway.admission import Admission
from gateway.ports import SwitchOutcome
from tests.gateway.control_world import NOON, ZONE, World, plug_in_a_kettle


def test_used_up_warned_twice_cut_read_back_recharged_and_closed_again(world: World) -> None:
    world.sample()
    world.sample(wh=85_000)
    assert world.control.memory("r-0-ac").warnings.first_at is not None
    assert world.control.memory("r-0-ac").warnings.second_at is None
    world.sample(wh=16_000)
    assert world.standing() == []  # a second warning was given just now
    world.sample(after_s=43_300)  # now within courtesy hours
    assert world.standing() == []
    world.sample(after_s=43_200)
    assert world.standing() == [Reason.ARREARS]
    assert world.switch.sent == [("m-0", 0, Relay.OPEN)]
    memory = world.control.memory("r-0-ac")
    assert (memory.state, memory.control) == (SupplyState.ARREARS, "settled")

    world.pay("r-0-ac", 50_000)
    assert world.standing() == []
    assert world.switch.sent[-1] == ("m-0", 0, Relay.CLOSED)
    assert world.control.memory("r-0-ac").state is SupplyState.NORMAL
    assert world.active_alarms() == []
    with world.books.read() as connection:
        made = {one.relay: one for one in commands.history(connection, "r-0-ac")}
        assert [one.outcome for one in made.values()] == ["confirmed", "confirmed"]
        assert made["open"].cause["holds"][0]["reason"] == "arrears"
        changes = [(one.from_state, one.to_state) for one in states.history(connection, "r-0-ac")]
        assert changes == [("arrears", "normal"), ("normal", "arrears"), ("offline", "normal")]
        queued = connection.execute(sa.select(notices.c.channel, notices.c.code)).all()
        assert [tuple(row) for row in queued] == [
            ("wechat", "warning.low"),
            ("page", "warning.low"),
            ("wechat", "warning.arrears"),
            ("page", "warning.arrears"),
        ]
        evidence = connection.scalar(sa.text("SELECT evidence FROM holds"))
        assert "second_warning_at" in str(evidence)
        actions = set(connection.scalars(sa.select(audit_log.c.action)))
        assert {"hold.arrears.placed", "hold.arrears.released"} <= actions
        assert events.latest_id(connection) is not None
        assert unhandled(connection, 10) == []


def test_a_payment_closes_without_a_fresh_reading(quick_world: World) -> None:
    world = quick_world
    world.into_arrears()
    assert world.standing() == [Reason.ARREARS]
    world.clock.advance(3600)
    world.pay("r-0-ac", 50_000)
    assert world.switch.sent[-1] == ("m-0", 0, Relay.CLOSED)


def test_a_payment_during_the_sweep_waits_for_one_chunk_only(
    sqlite_books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.control.SWEEP_CHUNK", 1)
    world = World(sqlite_books, rooms_count=3)
    world.into_arrears()
    world.clock.advance(3600)
    sweep_chunk = world.control._sweep_chunk
    swept: list[list[Reason]] = []

    def pay_after_the_first(circuit_ids: set[str]) -> Any:
        found = sweep_chunk(circuit_ids)
        swept.append(world.standing())
        if len(swept) == 1:
            world.post("r-0-ac", 10_000)
        return found

    monkeypatch.setattr(world.control, "_sweep_chunk", pay_after_the_first)
    world.run(world.control.sweep())
    assert swept[0] == [Reason.ARREARS]
    assert len(swept) > 2
    assert swept[1] == []
    world.close()


def test_stale_or_quarantined_data_never_cut(quick_world: World) -> None:
    world = quick_world
    world.sample()
    world.sample(wh=97_000)
    world.sample(wh=4_000)
    world.sample(after_s=86_400, verdict=Verdict.QUARANTINED)
    world.run(world.control.sweep())
    world.settle()
    assert world.standing() == []
    world.sample()
    assert world.standing() == [Reason.ARREARS]


def test_a_recharge_releases_only_arrears(quick_world: World) -> None:
    world = quick_world
    world.into_arrears()
    with world.books.write() as connection:
        holds.place_lockout(
            connection, circuit_id="r-0-ac", holder="wang", reason="work", now=world.clock.now()
        )
    world.settle()
    world.pay("r-0-ac", 50_000)
    assert world.standing() == [Reason.LOCKOUT]
    assert world.switch.sent == [("m-0", 0, Relay.OPEN)]


def test_a_lock_out_is_confirmed_only_by_reading_back(quick_world: World) -> None:
    world = quick_world
    world.sample()
    world.switch.next_outcomes = [SwitchOutcome.TIMED_OUT]
    with world.books.write() as connection:
        lockout = holds.place_lockout(
            connection, circuit_id="r-0-ac", holder="wang", reason="work", now=world.clock.now()
        )
    world.settle()
    with world.books.read() as connection:
        assert holds.get_lockout(connection, lockout.lockout_id).confirmed_open_at is None
    world.clock.advance(2)

    world.tick()
    with world.books.read() as connection:
        assert holds.get_lockout(connection, lockout.lockout_id).confirmed_open_at is not None


def test_a_relay_found_open_without_our_command_is_left_alone(quick_world: World) -> None:
    world = quick_world
    world.sample()
    world.sample(relay=Relay.OPEN)
    assert world.standing() == [Reason.OPENED_LOCALLY]
    assert world.active_alarms() == ["load_off"]
    world.run(world.control.sweep())
    world.sample()
    assert world.switch.sent == []
    with world.books.write() as connection:
        holds.reset(connection, "r-0-ac", "maintenance", world.clock.now())
    world.settle()
    assert world.switch.sent == [("m-0", 0, Relay.CLOSED)]
    world.sample()
    assert world.standing() == []
    assert world.active_alarms() == []


def test_a_module_trip_restores_itself_after_its_delay_and_latches_after_three(quick_world: World) -> None:
    world = quick_world
    world.control = world.start(self_restore_s=300.0)
    for _ in range(3):
        world.sample()
        world.sample(relay=Relay.OPEN, flags=frozenset({Flag.OVERLOAD_TRIP}))
        assert world.standing() == [Reason.MODULE_TRIP]
        world.sample(after_s=200, relay=Relay.OPEN, flags=frozenset({Flag.OVERLOAD_TRIP}))
        assert world.standing() == [Reason.MODULE_TRIP]
        world.sample(after_s=200, relay=Relay.OPEN, flags=frozenset({Flag.OVERLOAD_TRIP}))
        assert world.standing() == []
        assert world.switch.sent[-1] == ("m-0", 0, Relay.CLOSED)
    world.sample()
    world.sample(relay=Relay.OPEN, flags=frozenset({Flag.OVERLOAD_TRIP}))
    world.sample(after_s=4000, relay=Relay.OPEN, flags=frozenset({Flag.OVERLOAD_TRIP}))
    assert world.standing() == [Reason.MODULE_TRIP]


def test_a_relay_that_closes_against_a_hold_is_opened_again_and_told_of(quick_world: World) -> None:
    world = quick_world
    world.into_arrears()
    world.sample(relay=Relay.CLOSED)
    assert "closed_against_hold" in world.active_alarms()
    assert world.switch.sent[-1] == ("m-0", 0, Relay.OPEN)
    world.sample()
    assert world.active_alarms() == []


def test_open_while_current_flows_is_critical(quick_world: World) -> None:
    world = quick_world
    world.into_arrears()
    world.sample(power_w=800.0)
    assert world.active_alarms() == []
    world.sample(power_w=800.0)
    assert world.active_alarms() == ["open_but_drawing"]


def test_samples_of_a_circuit_in_one_batch_are_judged_one_after_the_other(quick_world: World) -> None:
    world = quick_world
    world.sample()

    async def one_batch() -> None:
        found = []
        for after_s in (1.0, 1.0, 1.0):
            world.clock.advance(after_s)
            sample = ChannelSample(channel=0, relay=Relay.OPEN, power_w=800.0)
            found.append(
                Observation(
                    circuit_id="r-0-ac",
                    at=world.clock.now(),
                    verdict=Verdict.ACCEPTED,
                    metered_wh=0,
                    sample=sample,
                )
            )
        with world.books.write() as connection:
            after_commit = world.control.decide_batch(connection, found, world.clock.now())
        after_commit()
        await world.rest()

    world.switch.relays["m-0", 0] = Relay.OPEN
    world.run(one_batch())
    memory = world.control.memory("r-0-ac")
    assert [hold.reason for hold in memory.holds] == world.standing() == [Reason.OPENED_LOCALLY]
    assert "open_but_drawing" in memory.active_alarms
    assert world.switch.sent == []
    world.sample(relay=Relay.OPEN, power_w=0.0)
    assert "open_but_drawing" not in world.active_alarms()


def test_a_relay_that_does_not_follow_raises_an_alarm_and_is_tried_on(quick_world: World) -> None:
    world = quick_world
    world.switch.next_outcomes = [SwitchOutcome.NOT_FOLLOWED] * 6
    world.into_arrears()

    for _ in range(4):
        world.clock.advance(130)
        world.tick()
    assert world.active_alarms() == ["relay_failed"]
    assert world.control.memory("r-0-ac").control == "failed"
    for _ in range(3):
        world.clock.advance(130)
        world.tick()
    assert world.active_alarms() == []
    assert world.control.memory("r-0-ac").control == "settled"


def test_after_a_restart_nothing_is_sent_before_something_was_read(quick_world: World) -> None:
    world = quick_world
    world.into_arrears()
    world.control = world.start()
    with world.books.write() as connection:
        connection.execute(sa.update(ledger_accounts).values(balance=500_000))
        leave(connection, circuit_id="r-0-ac", cause="recharge", now=world.clock.now())
    world.settle()
    assert world.standing() == []
    assert len(world.switch.sent) == 1
    world.sample()
    assert world.switch.sent[-1] == ("m-0", 0, Relay.CLOSED)


def test_minimum_off_times_survive_a_restart(quick_world: World) -> None:
    world = quick_world
    world.into_arrears()
    world.control = world.start(min_off_s=300.0)
    world.sample()
    world.pay("r-0-ac", 500_000)
    memory = world.control.memory("r-0-ac")
    assert memory.control == "waiting"
    assert memory.expected_change_at == memory.opened_at + timedelta(seconds=300)  # type: ignore[operator]
    world.clock.advance(300)

    world.tick()
    assert world.switch.sent[-1] == ("m-0", 0, Relay.CLOSED)


def test_a_dead_line_is_one_alarm(sqlite_books: Books) -> None:
    world = World(sqlite_books, rooms_count=5)

    async def go() -> None:
        world.control.note_module("m-1", online=False, detail="no answer")
        await world.control.settle()
        assert world.active_alarms() == ["module_offline"]
        world.control.note_line("line-a", online=False, detail="refused")
        for number in range(5):
            world.control.note_module(f"m-{number}", online=False, detail="line")
        await world.control.settle()
        assert world.active_alarms() == ["line_offline"]
        world.control.note_line("line-a", online=True)
        for number in range(4):
            world.control.note_module(f"m-{number}", online=True)
        await world.control.sweep()
        assert world.active_alarms() == ["module_offline"]

    world.run(go())
    world.close()


def test_a_line_that_is_silent_each_night_is_an_alarm_until_a_night_passes_without(quick_world: World) -> None:
    world = quick_world
    world.clock.advance(11 * 3600)  # 23:00 on the campus

    async def go() -> None:
        for _ in range(3):
            world.control.note_line("line-a", online=False, detail="refused")
            await world.control.settle()
            world.clock.advance(3600)
            world.control.note_line("line-a", online=True)
            await world.control.settle()
            world.clock.advance(23 * 3600)
        assert world.active_alarms() == ["silent_each_night"]
        await world.control.sweep()
        assert world.active_alarms() == ["silent_each_night"]
        world.clock.advance(24 * 3600)
        await world.control.sweep()
        assert world.active_alarms() == []

    world.run(go())


def test_the_breaker_holds_back_a_mass_of_cuts_until_a_person_approves(sqlite_books: Books) -> None:
    world = World(sqlite_books, rooms_count=25)
    world.sample()
    world.sample(wh=97_000)
    world.sample(after_s=3600)
    with world.books.write() as connection:  # warned long ago, and not in courtesy hours
        for circuit_id in world.circuits:
            books_control.save(
                connection,
                circuit_id=circuit_id,
                now=world.clock.now(),
                arrears={
                    "first_at": (NOON - timedelta(days=2)).isoformat(),
                    "second_at": (NOON - timedelta(days=2)).isoformat(),
                    "mode": "enforce",
                    "deferred": False,
                },
            )
    world.run(world.control.sweep())
    world.sample(wh=4_000)
    cut = [circuit_id for circuit_id in world.circuits if world.standing(circuit_id)]
    assert len(cut) == 20
    assert world.active_alarms() == ["cuts_pending_approval"]
    world.sample(after_s=600)
    assert sum(bool(world.standing(circuit_id)) for circuit_id in world.circuits) == 20
    with world.books.write() as connection:
        assert books_control.approve_cuts(connection, chosen=None, actor="admin", now=world.clock.now()) == 5
    world.settle()
    assert sum(bool(world.standing(circuit_id)) for circuit_id in world.circuits) == 25
    assert world.active_alarms() == []
    world.close()


def test_shadow_records_and_moves_no_relay(sqlite_books: Books) -> None:
    world = World(sqlite_books, mode=Enforcement.SHADOW)
    world.into_arrears()
    with world.books.read() as connection:
        (hold,) = holds.standing(connection)["r-0-ac"]
        assert hold.shadow
        assert connection.scalar(sa.select(sa.func.count()).select_from(notices)) == 0
    assert world.switch.sent == []
    assert world.control.memory("r-0-ac").state is SupplyState.NORMAL
    world.close()


def test_a_rolled_back_batch_leaves_no_trace_in_memory(quick_world: World) -> None:
    world = quick_world
    world.sample()
    before = world.control.memory("r-0-ac")
    kept = (before.lately.metered_wh, before.warnings, before.judged)
    observation = Observation(
        circuit_id="r-0-ac",
        at=world.clock.now() + timedelta(seconds=30),
        verdict=Verdict.ACCEPTED,
        metered_wh=99_000,
        sample=ChannelSample(channel=0, relay=Relay.OPEN),
    )

    def fail() -> None:
        with world.books.write() as connection:
            world.control.decide_batch(connection, [observation], world.clock.now())
            raise RuntimeError("power gone")

    with pytest.raises(RuntimeError, match="power"):
        fail()
    after = world.control.memory("r-0-ac")
    assert (after.lately.metered_wh, after.warnings, after.judged) == kept
    assert world.standing() == []


def test_an_overload_is_tripped_restored_by_its_delay_and_latched_after_its_daily_number(world: World) -> None:
    world.sample(power_w=1900.0)
    for _ in range(2):
        world.sample(power_w=2500.0)
        assert world.standing() == []  # one sample is never enough
        world.sample(power_w=2500.0)
        assert world.standing() == [Reason.OVERLOAD]
        assert world.switch.sent[-1] == ("m-0", 0, Relay.OPEN)
        assert (world.control.memory("r-0-ac").state, world.active_alarms()) == ("load_off", ["load_off"])
        world.sample(after_s=299)
        assert world.standing() == [Reason.OVERLOAD]
        world.sample(after_s=2)
        assert world.standing() == []
        assert world.switch.sent[-1] == ("m-0", 0, Relay.CLOSED)
        assert world.active_alarms() == []
    world.sample(power_w=2500.0)
    world.sample(power_w=2500.0)
    world.sample(after_s=4000)
    assert world.standing() == [Reason.OVERLOAD]
    with world.books.read() as connection:
        (hold,) = holds.standing(connection)["r-0-ac"]
        assert hold.expected_release_at is None
        assert hold.evidence["limit_w"] == 2000
        assert policies.memories(connection) == {}
    with world.books.write() as connection:
        holds.reset(connection, "r-0-ac", "maintenance", world.clock.now())
    world.settle()
    assert world.switch.sent[-1] == ("m-0", 0, Relay.CLOSED)


def test_the_overload_count_survives_a_restart(quick_world: World) -> None:
    world = quick_world
    world.sample()
    world.sample(power_w=2500.0)
    world.control = world.start()
    world.sample(power_w=2500.0)
    assert world.standing() == [Reason.OVERLOAD]


def test_an_overload_rule_that_is_switched_off_releases_its_hold_at_the_start(quick_world: World) -> None:
    world = quick_world
    world.sample()
    world.sample(power_w=2500.0)
    world.sample(power_w=2500.0)
    assert world.standing() == [Reason.OVERLOAD]
    world.overload = OverloadPolicy(zone=ZONE, limit_w=2000, mode=Enforcement.OFF)
    world.control = world.start()
    assert world.standing() == []
    with world.books.read() as connection:
        actions = connection.scalars(
            sa.select(audit_log.c.action).order_by(audit_log.c.audit_id.desc()).limit(2)
        ).all()
        assert set(actions) == {"hold.overload.released", "policy.changed"}
        assert policies.versions(connection)["rule:overload"].changed_at == world.clock.now()
    world.sample(relay="actual")
    assert world.switch.sent[-1] == ("m-0", 0, Relay.CLOSED)


def test_the_breaker_counts_a_changed_house_rule_for_a_day_and_protection_never(quick_world: World) -> None:
    world = quick_world
    rules = {policy.rule: policy for policy in world.control.looks.policies}
    admission = Admission(policies=list(rules.values()), rooms=1)

    def counted() -> dict[str, bool]:
        with world.books.read() as connection:
            return {
                rule: admission.counts(connection, Place(reason=policy.reason), policy, now=world.clock.now())
                for rule, policy in rules.items()
            }

    assert counted() == {"rule:overload": False, "rule:prohibited": True, "rule:arrears": True}
    world.clock.advance(25 * 3600)
    world.control = world.start()  # nothing has changed: the day goes on counting from then
    assert counted() == {"rule:overload": False, "rule:prohibited": False, "rule:arrears": False}
    with world.books.read() as connection:
        cut = Place(reason=Reason.ARREARS, counts=True)
        assert admission.counts(connection, cut, rules["rule:arrears"], now=world.clock.now())
    world.prohibited = ProhibitedPolicy(zone=ZONE, restores_a_day=1, mode=Enforcement.ENFORCE)
    world.control = world.start()
    assert counted()["rule:prohibited"]


def test_an_overload_in_shadow_is_a_report_and_moves_no_relay(quick_world: World) -> None:
    world = quick_world
    world.overload = OverloadPolicy(zone=ZONE, limit_w=2000)
    world.control = world.start()
    for _ in range(3):
        world.sample(power_w=2500.0)
    assert world.switch.sent == []
    with world.books.read() as connection:
        (entry,), _ = reports.would_have_been_off(
            connection, since=NOON, until=world.clock.now() + timedelta(seconds=1)
        )
    assert (entry.circuit_id, entry.reason, entry.to_at) == ("r-0-ac", "overload", None)
    assert entry.evidence["sample_count"] == 2
    assert world.control.memory("r-0-ac").state is SupplyState.NORMAL


def test_a_kettle_is_tripped_unless_the_room_has_a_permit_and_the_trip_can_be_disputed(world: World) -> None:
    now = world.clock.now()
    with world.books.write() as connection:
        permit = permits.grant(
            connection,
            room_id="r-0",
            appliance="dispenser",
            from_w=1400,
            to_w=1600,
            to_at=now + timedelta(days=1),
            actor="maintenance",
            now=now,
        )
    world.settle()
    world.sample()
    plug_in_a_kettle(world)
    assert world.standing() == []
    world.sample()
    with world.books.write() as connection:
        permits.revoke(connection, permit_id=permit.permit_id, actor="maintenance", now=world.clock.now())
    world.settle()
    plug_in_a_kettle(world)
    assert world.standing() == [Reason.PROHIBITED]
    assert world.switch.sent[-1] == ("m-0", 0, Relay.OPEN)
    now = world.clock.now()
    with world.books.write() as connection:
        (hold,) = holds.standing(connection)["r-0-ac"]
        assert hold.evidence["delta_w"] == 1500
        assert hold.evidence["sampling_period_s"] == 30
        (alarm,) = alarms.active(connection)
        assert alarm.detail["before"] == hold.evidence["before"]
        asked = reviews.dispute(
            connection, subject_kind="hold", subject_id=hold.hold_id, question="why?", actor="student", now=now
        )
        again = reviews.dispute(
            connection, subject_kind="hold", subject_id=hold.hold_id, question="hm?", actor="student", now=now
        )
        assert again == asked
        reviews.answer(
            connection, dispute_id=asked.dispute_id, verdict="false", text="sorry", actor="maintenance", now=now
        )
        with pytest.raises(reviews.UnableToFindDisputeError):
            reviews.answer(
                connection, dispute_id=asked.dispute_id, verdict="right", text="", actor="maintenance", now=now
            )
        (rate,) = reviews.false_trips(connection, since=NOON, until=now + timedelta(seconds=1))
        assert (rate.building, rate.trips, rate.reviewed, rate.false, rate.rate) == ("01", 1, 1, 1, 1.0)


def test_an_alarm_is_put_aside_with_an_expiry_and_its_steps_stay_on_record(world: World) -> None:
    world.sample()
    world.sample(relay=Relay.OPEN)
    now = world.clock.now()
    with world.books.write() as connection:
        (alarm,) = alarms.active(connection)
        put_aside = shelving.shelve(
            connection,
            alarm_id=alarm.alarm_id,
            until_at=now + timedelta(hours=1),
            reason="electrician on site",
            actor="wang",
            now=now,
        )
        assert put_aside.shelved_by == "wang"
        assert shelving.figures(connection, now=now).shelved == 1
        assert shelving.figures(connection, now=now + timedelta(hours=2)).shelved == 0
        assert shelving.figures(connection, now=now + timedelta(days=2)).standing == 1
        assert not shelving.figures(connection, now=now).flooding
        with pytest.raises(UnableToChangeAlarmError, match="72 h"):
            shelving.shelve(
                connection,
                alarm_id=alarm.alarm_id,
                until_at=now + timedelta(days=30),
                reason="x",
                actor="wang",
                now=now,
            )
        shelving.unshelve(connection, alarm_id=alarm.alarm_id, actor="li", now=now)
        steps = [(one.step, one.actor) for one in alarm_steps.history(connection, alarm.alarm_id)]
        assert steps == [("raised", "system"), ("shelved", "wang"), ("unshelved", "li")]
