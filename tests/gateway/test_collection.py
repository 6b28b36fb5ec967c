"""Garbage in cycles is collected by the clock, and what is loaded is left alone."""

import asyncio
import gc
import weakref

import pytest

from gateway import collection
from gateway.collection import ALL_EVERY, MIDDLE_EVERY, collecting_by_the_clock, generation_of

MANY = 1_000


class Cyclic:
    def __init__(self) -> None:
        self.own = self


@pytest.mark.parametrize(
    ("passes", "generation"),
    [
        (1, 0),
        (MIDDLE_EVERY - 1, 0),
        (MIDDLE_EVERY, 1),
        (MIDDLE_EVERY + 1, 0),
        (ALL_EVERY, 2),
        (ALL_EVERY + 1, 0),
    ],
)
def test_a_pass_seldom_goes_beyond_what_is_young(passes: int, generation: int):
    assert generation_of(passes) == generation


def test_a_cycle_that_a_library_left_behind_goes_without_the_threshold(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(collection, "COLLECT_EVERY_S", 0)

    async def run() -> bool:
        left = weakref.ref(Cyclic())
        async with collecting_by_the_clock():
            for _ in range(MANY):
                await asyncio.sleep(0)
                if left() is None:
                    return True
        return False

    gc.disable()
    try:
        assert asyncio.run(run())
    finally:
        gc.enable()
