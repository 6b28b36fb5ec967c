"""What a person's decision on a quarantined register may charge, and where it is refused."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from dormpower.books import quarantines, tables

RESET = (1, 0)  # a minute later the register begins at zero: a reset, or a spare part


def accept(metered):
    quarantine_id = metered.all(tables.quarantines)[-1].quarantine_id
    with metered.books.write() as connection:
        quarantines.accept(
            connection, quarantine_id=quarantine_id, actor="li", now=metered.clock.now(), note="checked"
        )


def test_a_register_that_was_reset_cant_be_accepted_though_its_modulus_is_known(metered):
    metered.take(RESET)
    with pytest.raises(quarantines.UnableToDecideQuarantineError, match="fell from 5000000 to 0 Wh"):
        accept(metered)
    row = metered.only(tables.quarantines)
    assert (row.decision, row.decided_at, row.closed_at) == (None, None, None)
    metered.take((2, 10))
    assert metered.only(tables.meter_points).metered_wh == 0


def test_a_rollover_that_the_circuit_can_have_drawn_is_accepted_and_charged_exactly(metered):
    almost = metered.limits.modulus_wh - 50
    metered.take((1, almost))
    accept(metered)
    metered.take((2, almost))
    metered.take((3, almost + 40_000), (63, 1000))  # a wrong value first, so that nothing after it is believed
    assert metered.only(tables.meter_points).standing == "quarantined"
    before_wh = metered.only(tables.meter_points).metered_wh
    accept(metered)
    metered.take((64, 1000))
    assert metered.only(tables.meter_points).metered_wh - before_wh == 1050
    assert metered.all(tables.segments)[-1].cause == "rollover"
    assert metered.faults() == []


def test_the_alarm_names_its_quarantine_and_what_it_was_judged_by(metered):
    metered.take(RESET)
    detail = metered.only(tables.alarms).detail
    assert detail["quarantine_id"] == metered.only(tables.quarantines).quarantine_id
    assert (detail["rated_current_a"], detail["resolution_wh"], detail["phases"]) == (32, 10, 1)


def test_a_decision_that_the_limits_of_today_forbid_is_taken_back_and_can_be_made_anew(metered):
    almost = metered.limits.modulus_wh - 50
    metered.take((1, almost))
    accept(metered)
    metered.take((2, almost))
    metered.take((3, almost + 40_000), (63, 1000))
    accept(metered)
    metered.limits = replace(metered.limits, modulus_wh=None)  # the site file named another profile meanwhile
    metered.restart()
    metered.take((64, 1000))
    row = metered.all(tables.quarantines)[-1]
    assert (row.decision, row.decided_by, row.closed_at) == (None, None, None)
    with metered.books.read() as connection:
        actions = connection.scalars(sa.select(tables.audit_log.c.action)).all()
    assert actions[-1] == "quarantine.decision_refused"
    with metered.books.write() as connection:
        quarantines.dismiss(
            connection, quarantine_id=row.quarantine_id, actor="li", now=metered.clock.now(), note="reset"
        )
    metered.take((65, 1010))
    assert metered.only(tables.meter_points).standing == "accepted"
    assert metered.faults() == []
