"""Replaced and newly commissioned modules on record: nothing is lost, and nothing is charged twice."""

from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from dormpower.books import meter_changes, tables
from dormpower.books.meter_change_checks import Change, Kind
from dormpower.domain.meter_state import ChannelLimits
from dormpower.domain.spans import UnableToChangeMeterError
from tests.gateway.composed_site import ComposedSite, site_document

START = datetime(2026, 3, 2, 4, tzinfo=UTC)
FINAL = 5_000_300


def record(metered, *, minute, kind=Kind.REPLACEMENT, first=None, final=None, module_id="m1"):
    with metered.books.write() as connection:
        return meter_changes.record(
            connection,
            circuit_id=metered.circuit_id,
            change=Change(
                kind=kind,
                module_id=module_id,
                channel=1,
                changed_at=metered.at(minute),
                first_register_wh=first,
                final_register_wh=final,
                note="spare part",
            ),
            limits=metered.limits,
            actor="wu",
            now=metered.clock.now(),
        )


def point(metered):
    return metered.only(tables.meter_points)


def spans(metered):
    return [
        (row.module_id, row.to_at, row.final_register_wh, row.first_register_wh)
        for row in metered.all(tables.channel_spans)
    ]


def segments(metered):
    return [
        (row.cause, row.from_register_wh, row.to_register_wh, row.energy_wh)
        for row in metered.all(tables.segments)
    ]


def outcome(metered):
    row = metered.all(tables.meter_changes)[-1]
    return row.outcome, row.refusal


def test_new_hardware_under_the_same_id_goes_on_where_the_old_one_ended(metered):
    metered.take((1, 5_000_100))
    metered.take((12, 0), (13, 20))  # the spare part: its register fell, which nobody believes
    assert point(metered).standing == "quarantined"
    record(metered, minute=10, final=FINAL, first=0)
    metered.take((14, 40))
    assert (point(metered).standing, point(metered).metered_wh) == ("accepted", 300 + 40)
    at = metered.at(10)
    assert spans(metered) == [("m1", at, FINAL, None), ("m1", None, None, 0)]
    assert segments(metered) == [
        ("measured", 5_000_000, FINAL, 300),
        ("replacement", FINAL, 0, 0),
    ]
    assert metered.only(tables.quarantines).decision == "replaced"
    assert metered.only(tables.alarms).cleared_at is not None
    assert outcome(metered) == ("carried_out", None)
    assert metered.faults() == []


def test_a_change_on_record_takes_effect_without_any_sample_once_the_gateway_is_told(metered):
    metered.clock.advance(20 * 60)
    record(metered, minute=10, final=FINAL, first=0)
    (intent,) = metered.all(tables.intents)
    assert (intent.circuit_id, intent.cause) == (metered.circuit_id, meter_changes.INTENT_CAUSE)
    metered.intake.reload(intent.circuit_id)
    metered.take()
    assert (point(metered).register_wh, point(metered).metered_wh) == (0, 300)


def test_another_module_waits_for_the_site_to_be_described_with_it(metered):
    metered.take((1, 5_000_100), (30, 5_000_100))
    metered.clock.advance(60)
    record(metered, minute=31, final=5_000_120, first=7, module_id="m2")
    metered.take()
    metered.intake.reload(metered.circuit_id)
    metered.take()
    assert outcome(metered) == (None, None)
    metered.clock.advance(3600)
    metered.restart(module_id="m2")
    metered.take((100, 37), module_id="m2")
    at = metered.at(31)
    assert spans(metered) == [("m1", at, 5_000_120, None), ("m2", None, None, 7)]
    assert [row.from_at for row in metered.all(tables.channel_spans)][1] == at
    assert point(metered).metered_wh == 120 + 30
    assert outcome(metered) == ("carried_out", None)
    assert metered.faults() == []


def test_a_site_described_before_the_change_was_recorded_is_made_up_for_while_nothing_is_believed(metered):
    metered.take((1, 5_000_100))
    metered.clock.advance(120)
    metered.restart(module_id="m2")
    metered.take((61, 9), module_id="m2")  # one sample commissions nothing yet
    assert point(metered).standing == "commissioning"
    record(metered, minute=60, final=5_000_400, first=0, module_id="m2")
    metered.take((62, 12), module_id="m2")
    at = metered.at(60)
    assert spans(metered) == [("m1", at, 5_000_400, None), ("m2", None, None, 0)]
    assert point(metered).metered_wh == 400 + 12
    assert metered.faults() == []
    with pytest.raises(UnableToChangeMeterError, match="expected a time after"):
        record(metered, minute=61, final=5_000_400, first=0, module_id="m2")


def test_without_a_final_register_the_way_is_a_break_and_without_a_first_one_three_samples_commission(metered):
    metered.clock.advance(1200)
    record(metered, minute=10, first=50)
    metered.take((21, 60))
    assert segments(metered)[1:] == [("break", 5_000_000, 50, 0)]
    metered.clock.advance(120)
    record(metered, minute=22, final=65)
    metered.take((25, 0), (26, 5))
    assert point(metered).standing == "commissioning"
    metered.take((27, 9))
    assert (point(metered).standing, point(metered).metered_wh) == ("accepted", 15 + 9)
    assert segments(metered)[2:] == [("measured", 50, 65, 15), ("replacement", 65, 0, 0)]
    assert metered.faults() == []


def test_a_replacement_over_midnight_gives_each_day_its_own(metered):
    metered.take((15 * 60, 5_010_000))  # 23:00 on campus
    metered.clock.current = metered.at(18 * 60)
    record(metered, minute=17 * 60, final=5_012_000, first=0)
    metered.take((18 * 60, 500))
    days = {}
    for row in metered.all(tables.segments):
        days[str(row.used_on)] = days.get(str(row.used_on), 0) + row.energy_wh
    assert days == {"2026-03-02": 11_000, "2026-03-03": 1_000}
    assert point(metered).metered_wh == 12_500
    assert metered.faults() == []


def test_a_commissioning_record_is_believed_at_once_and_charges_from_its_register_on(uncommissioned):
    uncommissioned.take((1, 130))
    record(uncommissioned, minute=0, kind=Kind.COMMISSIONING, first=100)
    uncommissioned.take((2, 150))
    assert (point(uncommissioned).standing, point(uncommissioned).metered_wh) == ("accepted", 50)
    assert uncommissioned.only(tables.channel_spans).first_register_wh == 100
    uncommissioned.restart()
    uncommissioned.take((3, 160))
    assert point(uncommissioned).metered_wh == 60
    with pytest.raises(UnableToChangeMeterError, match="believed already, at 160 Wh: record a replacement"):
        record(uncommissioned, minute=3, kind=Kind.COMMISSIONING, first=100)
    assert uncommissioned.faults() == []


REFUSED = {
    "a time to come": ({"minute": 500, "final": FINAL, "first": 0}, "expected a time that is over"),
    "a time before the last register": ({"minute": 0.5, "final": FINAL}, "expected a time after .* 5000100 Wh"),
    "a mistyped digit": ({"minute": 10, "final": 50_003_000}, "expected at most 500.* can't have drawn more"),
    "a final register below the last": (
        {"minute": 10, "final": 5_000_099},
        "at least the 5000100 Wh read last",
    ),
    "a register beyond the meter's": (
        {"minute": 10, "first": 10**9},
        "first_register_wh: expected 0 to 999999999",
    ),
    "a commissioning of what is believed": (
        {"minute": 10, "kind": Kind.COMMISSIONING, "first": 0},
        "believed already",
    ),
}


@pytest.mark.parametrize(("asked", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cant_be_is_refused_and_leaves_no_record(metered, asked, told):
    metered.take((1, 5_000_100))
    metered.clock.advance(1200)
    with pytest.raises(UnableToChangeMeterError, match=told):
        record(metered, **asked)
    assert metered.all(tables.meter_changes) == metered.all(tables.intents) == []


def test_a_channel_that_serves_another_circuit_is_refused(metered):
    with metered.books.write() as connection:
        connection.execute(
            sa.insert(tables.circuits).values(circuit_id="r1-lighting", room_id="r1", kind="lighting")
        )
        connection.execute(
            sa.insert(tables.channel_spans).values(
                circuit_id="r1-lighting", module_id="m2", channel=1, from_at=metered.start
            )
        )
    metered.clock.advance(1200)
    with pytest.raises(UnableToChangeMeterError, match="m2, channel 1 served r1-lighting at that time"):
        record(metered, minute=10, final=FINAL, module_id="m2")


def test_what_samples_made_impossible_meanwhile_is_refused_with_its_reason_and_charges_nothing(metered):
    metered.clock.advance(1200)
    record(metered, minute=10, final=5_000_010, first=0)
    with (
        metered.books.write() as connection
    ):  # the gateway was away: it took a later register in before it saw this
        connection.execute(
            sa.update(tables.meter_points).values(
                register_wh=5_000_200, metered_wh=200, register_at=metered.at(11)
            )
        )
    metered.restart()
    metered.take()
    closed, refusal = outcome(metered)
    assert closed == "refused"
    assert "expected a time after" in refusal
    assert point(metered).metered_wh == 200
    with metered.books.read() as connection:
        actions = connection.scalars(sa.select(tables.audit_log.c.action)).all()
    assert actions[-2:] == ["meter_change.recorded", "meter_change.refused"]


def test_a_site_described_with_another_module_than_was_recorded_refuses_the_record(metered):
    metered.clock.advance(1200)
    record(metered, minute=10, final=FINAL, first=0)
    metered.sync(module_id="m2")
    closed, refusal = outcome(metered)
    assert (closed, refusal) == ("refused", "the site was described with m2, channel 1 for this circuit")


# What samples that came in between, or an earlier version, left of a record for another module.
UNFIT_WHEN_DESCRIBED = {
    "a later sample": ({"register_wh": 5_000_200, "register_at": 32}, "expected a time after"),
    "a register beyond the final one": (
        {"register_wh": 5_000_130, "register_at": 30.5},
        "at least the 5000130 Wh",
    ),
    "too little time for what is left": ({"register_wh": 5_000_110, "register_at": 30.99}, "expected at most"),
    "what it is checked by was not kept": (None, "recorded by an earlier version"),
}


@pytest.mark.parametrize(("read", "told"), UNFIT_WHEN_DESCRIBED.values(), ids=UNFIT_WHEN_DESCRIBED)
def test_another_module_whose_record_does_not_fit_any_more_is_taken_over_as_a_break(metered, read, told):
    metered.take((1, 5_000_100), (30, 5_000_100))
    metered.clock.advance(600)
    record(metered, minute=31, final=5_000_125, first=7, module_id="m2")
    with metered.books.write() as connection:
        if read is None:
            connection.execute(sa.update(tables.meter_changes).values(limits=None))
        else:
            values = {**read, "register_at": metered.at(read["register_at"])}
            metered_wh = read["register_wh"] - 5_000_000
            connection.execute(sa.update(tables.meter_points).values(**values, metered_wh=metered_wh))
    before_wh = point(metered).metered_wh
    metered.restart(module_id="m2")
    closed, refusal = outcome(metered)
    assert closed == "refused"
    assert told in refusal
    now = metered.clock.now()
    assert spans(metered) == [("m1", now, None, None), ("m2", None, None, None)]
    metered.take((50, 37), (51, 37), (52, 40), module_id="m2")
    assert (point(metered).standing, point(metered).metered_wh) == ("accepted", before_wh + 3)
    assert "replacement" not in [cause for cause, *_ in segments(metered)]


def test_a_new_record_supersedes_the_one_that_waits(metered):
    metered.clock.advance(1200)
    record(metered, minute=10, final=5_000_299, first=0)
    record(metered, minute=10, final=FINAL, first=0)
    metered.take((21, 10))
    assert [row.outcome for row in metered.all(tables.meter_changes)] == ["superseded", "carried_out"]
    assert point(metered).metered_wh == 310


def test_a_circuit_moved_in_the_books_is_not_adopted_by_a_gateway_that_still_reads_its_old_channel(metered):
    metered.sync(module_id="m2")
    metered.intake.reload(metered.circuit_id)
    metered.take((1, 5_000_100))
    assert (point(metered).standing, point(metered).metered_wh) == ("accepted", 100)
    metered.restart(module_id="m2")
    metered.take((2, 0), module_id="m2")
    assert point(metered).standing == "commissioning"


def test_the_intent_makes_the_running_gateway_take_the_change_up_before_any_sample(tmp_path):
    site = ComposedSite(tmp_path, site_document({}), at=START)
    for _ in range(3):
        site.sample(1000.0, after_s=30)

    def registers():
        with site.books.read() as connection:
            return connection.execute(
                sa.select(tables.meter_points.c.circuit_id, tables.meter_points.c.register_wh).order_by(
                    tables.meter_points.c.circuit_id
                )
            ).all()

    ((_, before_wh), other) = registers()
    site.clock.advance(1200)
    with site.books.write() as connection:
        meter_changes.record(
            connection,
            circuit_id="r-1-ac",
            change=Change(
                kind=Kind.REPLACEMENT,
                module_id="m-1",
                channel=1,
                changed_at=site.clock.now() - timedelta(minutes=5),
                final_register_wh=before_wh + 100,
                first_register_wh=77,
                note="spare part",
            ),
            limits=ChannelLimits(rated_current_a=16, resolution_wh=10),
            actor="wu",
            now=site.clock.now(),
        )

    async def be_woken():
        await site.gateway.control.handle_intents()
        await site.gateway.intake.flush()

    site.run(be_woken)
    assert registers() == [("r-1-ac", 77), other]
    site.close()
