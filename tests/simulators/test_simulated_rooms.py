"""Rooms that behave: exact energy, determinism, habits, weather, relays; all in virtual time."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dormpower.clock import ManualClock
from simulators.campus import Campus, UnableToFindError, build_campus, to_ms
from simulators.faults import UnableToInjectFaultError
from simulators.habits import STEP_MS, draw_household, plan_day
from simulators.rooms import SimulatedRoom
from simulators.supply import UJ_PER_WH, Circuit, voltage_v
from simulators.weather import DAY_MS, Weather

LIGHTING, AC = "south-03-401-lighting", "south-03-401-ac"
JULY_MS = to_ms(datetime(2026, 7, 20, tzinfo=UTC))
DAY_S = 86_400


def make_room(*, seed: int = 7, load_factor: float = 1.0, start_ms: int = JULY_MS) -> SimulatedRoom:
    return SimulatedRoom(
        seed=seed,
        room_id="r",
        weather=Weather(seed),
        lighting=Circuit("r-lighting"),
        ac=Circuit("r-ac"),
        now_ms=start_ms,
        load_factor=load_factor,
    )


def energies_uj(room: SimulatedRoom) -> tuple[int, int]:
    assert room.lighting is not None
    assert room.ac is not None
    return room.lighting.energy_uj, room.ac.energy_uj


@given(st.lists(st.integers(1, DAY_MS // 4), min_size=1, max_size=30))
def test_polling_at_any_instants_changes_nothing(gaps_ms: list[int]) -> None:
    often, once = make_room(), make_room()
    for gap_ms in gaps_ms:
        often.advance(often.at_ms + gap_ms)
    once.advance(often.at_ms)
    assert energies_uj(often) == energies_uj(once)


def test_energy_is_the_sum_of_power_over_time_to_the_last_microjoule() -> None:
    room = make_room()
    expected = [0, 0]
    for _ in range(1440):
        expected[0] += room.lighting.power_mw() * STEP_MS  # type: ignore[union-attr]
        expected[1] += room.ac.power_mw() * STEP_MS  # type: ignore[union-attr]
        room.advance(room.at_ms + STEP_MS)
    assert energies_uj(room) == tuple(expected)


def test_the_same_seed_gives_the_same_room_and_another_seed_another() -> None:
    rooms = [make_room(seed=1), make_room(seed=1), make_room(seed=2)]
    for room in rooms:
        room.advance(JULY_MS + 3 * DAY_MS)
    assert energies_uj(rooms[0]) == energies_uj(rooms[1]) != energies_uj(rooms[2])


def test_a_room_uses_a_plausible_amount_a_day_and_more_when_told_to() -> None:
    usual, heavy = make_room(), make_room(load_factor=3.0)
    for room in (usual, heavy):
        room.advance(JULY_MS + 7 * DAY_MS)
    lighting_wh, ac_wh = (energy // UJ_PER_WH // 7 for energy in energies_uj(usual))
    assert 500 < lighting_wh < 8_000
    assert 500 < ac_wh < 15_000
    assert energies_uj(heavy)[0] > 2 * energies_uj(usual)[0]


def test_air_conditioning_rests_in_mild_weather() -> None:
    october_ms = to_ms(datetime(2026, 10, 12, tzinfo=UTC))
    room = make_room(start_ms=october_ms)
    room.advance(october_ms + 3 * DAY_MS)
    assert energies_uj(room)[1] // UJ_PER_WH // 3 < 600


def test_residents_use_more_in_the_evening_than_at_night() -> None:
    profile = plan_day(
        seed=1, room_id="r", household=draw_household(seed=1, room_id="r"), day=20_650, outdoor_c=20
    )
    assert sum(profile.active_mw[19 * 60 : 22 * 60]) > 2 * sum(profile.active_mw[3 * 60 : 6 * 60])


def test_july_is_hot_january_cold_and_the_afternoon_warmer_than_the_night() -> None:
    weather = Weather(1)
    january_ms = to_ms(datetime(2026, 1, 20, tzinfo=UTC))
    mean = [sum(weather.outdoor_c(at + day * DAY_MS) for day in range(20)) / 20 for at in (january_ms, JULY_MS)]
    assert mean[0] < 10
    assert mean[1] > 24
    assert weather.outdoor_c(JULY_MS + 7 * 3_600_000) > weather.outdoor_c(JULY_MS + 19 * 3_600_000)


def test_an_open_relay_lets_nothing_through_from_that_millisecond(
    campus: Campus, manual_clock: ManualClock
) -> None:
    campus.set_power(LIGHTING, 1000)
    manual_clock.advance(36)
    campus.circuits[LIGHTING].advance(campus.now_ms())
    campus.circuits[LIGHTING].contacts_closed = False
    manual_clock.advance(DAY_S)
    truth = campus.truth(LIGHTING)
    assert (truth["energy_wh"], truth["power_w"], truth["demand_w"]) == (10, 0, 1000)
    assert truth["energy_uj"] == 10 * UJ_PER_WH


def test_a_feeders_meter_counts_its_rooms_and_the_loss(campus: Campus, manual_clock: ManualClock) -> None:
    for circuit_id in campus.circuits:
        campus.set_power(circuit_id, 1000)
    manual_clock.advance(3600)
    main = campus.modules["m-main"]
    main.advance(campus.now_ms())
    assert main.register_wh(0) == 6_120
    assert main.measure(0).power_w == 6120


def test_power_volts_amps_and_power_factor_agree(campus: Campus, manual_clock: ManualClock) -> None:
    manual_clock.advance(14 * 3600)
    for module in campus.modules.values():
        module.advance(campus.now_ms())
        for number in range(len(module.channels)):
            shown = module.measure(number)
            assert shown.voltage_v * shown.current_a * shown.power_factor == pytest.approx(shown.power_w)
            assert 200 < shown.voltage_v < 240


def test_voltage_falls_with_the_current() -> None:
    assert voltage_v(key=1, now_ms=JULY_MS, current_a=10) == pytest.approx(
        voltage_v(key=1, now_ms=JULY_MS, current_a=0) - 3.5
    )


def test_the_reserve_is_never_less_than_what_is_drawn() -> None:
    room = make_room(load_factor=2.5)
    for _ in range(200):
        before = energies_uj(room)
        reserved = (room.coming_uj("lighting", 1_800_000), room.coming_uj("ac", 1_800_000))
        room.advance(room.at_ms + 1_800_000)
        drawn = tuple(now - then for now, then in zip(energies_uj(room), before, strict=True))
        assert drawn[0] == reserved[0]
        assert drawn[1] <= reserved[1]


async def test_unknown_names_are_refused_by_name(campus: Campus) -> None:
    with pytest.raises(UnableToFindError, match="m-nobody"):
        await campus.fault("m-nobody", "dead")
    with pytest.raises(UnableToInjectFaultError, match="fault of a line"):
        await campus.fault("m-main", "line_down")


@pytest.fixture
def changes(campus: Campus) -> list[int]:
    noted: list[int] = []
    campus.on_change = lambda: noted.append(1)
    return noted


async def test_a_switching_at_the_meter_is_kept_at_once(campus: Campus, changes: list[int]) -> None:
    await campus.fault("m-south-03-401", "switched_locally", relay="open", channel=1)
    assert changes
    assert [campus.truth(circuit)["contacts"] for circuit in (LIGHTING, AC)] == ["closed", "open"]


def test_a_site_with_an_unknown_profile_is_refused(manual_clock: ManualClock, tools: Any) -> None:
    from simulators.models import UnableToSimulateModuleError

    site = tools.small_site()
    strange = dataclasses.replace(site, modules=(dataclasses.replace(site.modules[0], profile="x"),))
    with pytest.raises(UnableToSimulateModuleError, match="profile x"):
        build_campus(strange, seed=1, clock=manual_clock)
