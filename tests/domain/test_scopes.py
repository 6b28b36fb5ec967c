"""A policy that differs from place to place."""

from dataclasses import dataclass

import pytest

from dormpower.domain.scopes import Override, Scope, Scoped, Where


@dataclass(frozen=True)
class Numbers:
    limit: int = 1
    delay: int = 1


SCOPED = Scoped(
    base=Numbers(),
    overrides=(
        Override(scope=Scope(kind="ac"), values={"limit": 2}),
        Override(scope=Scope(building="03"), values={"limit": 3, "delay": 3}),
        Override(scope=Scope(room_id="r1", kind="ac"), values={"limit": 4}),
        Override(scope=Scope(campus="north"), values={"delay": 9}),
    ),
)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (("south", "01", "r9", "lighting"), (1, 1)),
        (("south", "01", "r9", "ac"), (2, 1)),
        (("south", "03", "r9", "ac"), (3, 3)),  # the later override has the last word
        (("south", "03", "r1", "ac"), (4, 3)),
        (("north", "01", "r9", "lighting"), (1, 9)),
    ],
)
def test_overrides_apply_in_order_where_they_cover(
    where: tuple[str, str, str, str], expected: tuple[int, int]
) -> None:
    campus, building, room_id, kind = where
    found = SCOPED.at(Where(campus=campus, building=building, room_id=room_id, kind=kind))
    assert (found.limit, found.delay) == expected
