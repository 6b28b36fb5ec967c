"""Simulated modules trip and come back by themselves as their profile says."""

import dataclasses
import json
from typing import Any

import pytest

from config.profiles import Profile, load_profiles
from dormpower.clock import ManualClock
from dormpower.domain.flags import Meaning
from dormpower.domain.samples import Flag
from simulators.campus import Campus, build_campus
from simulators.models import simulated_models
from simulators.modules.messages import DormpowerMqtt
from simulators.state_file import StateFile
from simulators.supply import UJ_PER_WH

WIRED, RADIO = "south-03-401", "north-01-501"
DELAY_S = 300.0
POWER_W = 1_000.0


def own(name: str, **said: Any) -> Profile:
    profile = load_profiles()[name]
    return profile.model_copy(update={"name": f"own-{name}", "self_restore_s": DELAY_S, **said})


def campus_of(tools: Any, clock: ManualClock, **said: Any) -> Campus:
    """The small site with profiles of its own on all modules of rooms."""
    profiles = dict(load_profiles())
    for name in ("dormpower-dual", "dormpower-mqtt"):
        profiles[f"own-{name}"] = own(name, **said)
    site = tools.small_site(rooms=1, mqtt=1)
    modules = tuple(
        one if one.module_id == "m-main" else dataclasses.replace(one, profile=f"own-{one.profile}")
        for one in site.modules
    )
    return build_campus(
        dataclasses.replace(site, modules=modules), clock=clock, models=simulated_models(profiles)
    )


@pytest.fixture
def own_campus(tools: Any, manual_clock: ManualClock) -> Campus:
    campus = campus_of(tools, manual_clock)
    for room_id in (WIRED, RADIO):
        campus.set_power(f"{room_id}-lighting", POWER_W)
    return campus


def shown(campus: Campus, room_id: str) -> tuple[str, list[str], int | None]:
    truth = campus.truth(f"{room_id}-lighting")
    return truth["contacts"], truth["flags"], truth["closes_in_ms"]


async def trip(campus: Campus, room_id: str, flag: str = "overload_trip") -> None:
    await campus.fault(f"m-{room_id}", "flag", flag=flag, channel=0)


@pytest.mark.parametrize("room_id", [WIRED, RADIO])
async def test_a_module_closes_by_itself_after_its_own_delay_to_the_millisecond(
    own_campus: Campus, manual_clock: ManualClock, room_id: str
) -> None:
    before_uj = own_campus.truth(f"{room_id}-lighting")["energy_uj"]
    await trip(own_campus, room_id)
    assert shown(own_campus, room_id) == ("open", ["overload_trip"], 300_000)
    manual_clock.advance(299.999)
    assert shown(own_campus, room_id) == ("open", ["overload_trip"], 1)
    manual_clock.advance(3_600.001)
    assert shown(own_campus, room_id) == ("closed", [], None)
    flowed_uj = own_campus.truth(f"{room_id}-lighting")["energy_uj"] - before_uj
    assert flowed_uj == POWER_W * UJ_PER_WH  # the hour since it closed, and nothing of the time before


async def test_a_radio_module_says_so_in_its_readings(own_campus: Campus, manual_clock: ManualClock) -> None:
    module = own_campus.module(f"m-{RADIO}")
    assert isinstance(module, DormpowerMqtt)
    await trip(own_campus, RADIO)
    first = module.channel_payloads()[0]
    assert (first["relay"], first["flags"]) == ("open", ["overload_trip"])
    manual_clock.advance(DELAY_S)
    module.advance(own_campus.now_ms())
    then = module.channel_payloads()[0]
    assert (then["relay"], then["flags"]) == ("closed", [])


async def test_its_own_limit_trips_it_again_and_again_while_the_load_stays(
    own_campus: Campus, manual_clock: ManualClock
) -> None:
    own_campus.circuits[f"{WIRED}-lighting"].limit_w = 800
    manual_clock.advance(10 * (5 + DELAY_S) - 0.001)
    truth = own_campus.truth(f"{WIRED}-lighting")
    assert (truth["trips"], truth["contacts"], truth["closes_in_ms"]) == (10, "open", 1)
    assert truth["energy_uj"] == 10 * 5 * POWER_W * UJ_PER_WH // 3_600


@pytest.mark.parametrize("closed", [True, False])
async def test_a_command_ends_what_the_module_meant_to_do(
    own_campus: Campus, manual_clock: ManualClock, closed: bool
) -> None:
    await trip(own_campus, WIRED)
    own_campus.module(f"m-{WIRED}").command(0, closed=closed)
    manual_clock.advance(2 * DELAY_S)
    contacts, _, left_ms = shown(own_campus, WIRED)
    assert (contacts, left_ms) == ("closed" if closed else "open", None)


async def test_a_trip_of_an_open_relay_closes_nothing_later(
    own_campus: Campus, manual_clock: ManualClock
) -> None:
    own_campus.module(f"m-{WIRED}").command(0, closed=False)
    await trip(own_campus, WIRED)
    manual_clock.advance(2 * DELAY_S)
    assert shown(own_campus, WIRED) == ("open", ["overload_trip"], None)


async def test_a_hand_and_a_reboot_to_zeros_end_it_too(own_campus: Campus, manual_clock: ManualClock) -> None:
    for kind, params in (("switched_locally", {"relay": "open"}), ("reboot_to_zeros", {})):
        await own_campus.fault(f"m-{WIRED}", "switched_locally", relay="closed")
        await trip(own_campus, WIRED)
        await own_campus.fault(f"m-{WIRED}", kind, **params)
        manual_clock.advance(2 * DELAY_S)
        assert shown(own_campus, WIRED)[0] == "open", kind


async def test_a_model_without_a_delay_stays_open(tools: Any, manual_clock: ManualClock) -> None:
    campus = campus_of(tools, manual_clock, self_restore_s=None)
    await trip(campus, WIRED)
    manual_clock.advance(86_400)
    assert shown(campus, WIRED) == ("open", ["overload_trip"], None)


async def test_modules_open_at_the_flags_that_are_trips_of_their_model(
    tools: Any, manual_clock: ManualClock
) -> None:
    said = {Flag.COVER_OPEN: Meaning.TRIP_AND_ALARM, Flag.OVERLOAD_TRIP: Meaning.ALARM}
    campus = campus_of(tools, manual_clock, flag_meanings=said)
    await trip(campus, WIRED, "overload_trip")
    assert shown(campus, WIRED)[0] == "closed"
    await campus.clear(f"m-{WIRED}", "flag")
    assert shown(campus, WIRED) == ("closed", [], None)
    await trip(campus, WIRED, "cover_open")
    assert shown(campus, WIRED) == ("open", ["cover_open"], 300_000)
    campus.circuits[f"{RADIO}-lighting"].limit_w = 800
    campus.set_power(f"{RADIO}-lighting", POWER_W)
    manual_clock.advance(60)
    assert shown(campus, RADIO) == ("closed", ["overload_trip"], None)  # warns of its limit, and opens nothing


async def test_what_is_left_of_the_delay_outlives_the_program(
    tools: Any, own_campus: Campus, manual_clock: ManualClock, tmp_path: Any
) -> None:
    StateFile(folder=tmp_path, campus=own_campus).attach()
    await trip(own_campus, WIRED)
    manual_clock.advance(299.0)
    state = StateFile(folder=tmp_path, campus=own_campus)
    state.save(clean=False)
    kept = json.loads(state.path.read_text(encoding="utf-8"))["circuits"][f"{WIRED}-lighting"]
    assert kept["reserve_uj"] > kept["energy_uj"]  # it may conduct before the next writing
    again = campus_of(tools, manual_clock)
    StateFile(folder=tmp_path, campus=again).attach()
    assert shown(again, WIRED) == ("open", ["overload_trip"], 1_000)
    manual_clock.advance(1.0)
    assert shown(again, WIRED)[0] == "closed"


def test_a_profile_is_simulated_by_the_make_whose_map_it_has() -> None:
    profiles = dict(load_profiles())
    renamed = own("dormpower-dual", title="Ours", source="our works")
    profiles[renamed.name] = renamed
    moved = profiles["dormpower-dual"].model_copy(update={"name": "moved", "phases": 3})
    models = simulated_models({**profiles, "moved": moved})
    assert models[renamed.name].make == "dormpower-dual"
    assert models[renamed.name].closes_after_ms == 300_000
    assert "moved" not in models
    assert models["dormpower-dual"].closes_after_ms is None
