"""A policy that differs from place to place: base values, and overrides for a campus, building, room or kind.

An override names where it holds (what it leaves out, holds everywhere) and the values that it changes. All that
cover a circuit are applied in the order in which they are written, so that a later one has the last word.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dormpower.domain.site import Circuit, Room, Site

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    PolicyT = TypeVar("PolicyT", bound=DataclassInstance)
else:
    PolicyT = TypeVar("PolicyT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Where a circuit is, and of which kind."""

    campus: str
    building: str
    room_id: str
    kind: str
    floor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What an override covers; None leaves open."""

    campus: str | None = None
    building: str | None = None
    floor: str | None = None
    room_id: str | None = None
    kind: str | None = None

    def covers(self, where: Where) -> bool:
        """Whether a circuit lies within."""
        return (
            self.campus in (None, where.campus)
            and self.building in (None, where.building)
            and self.floor in (None, where.floor)
            and self.room_id in (None, where.room_id)
            and self.kind in (None, where.kind)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """Values, by the policy's own field names, for a part of the site."""

    scope: Scope
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoped(Generic[PolicyT]):
    """A policy's values everywhere, and where they differ."""

    base: PolicyT
    overrides: tuple[Override, ...] = ()
    _found: dict[tuple[int, ...], PolicyT] = field(init=False, repr=False, compare=False, default_factory=dict)

    def at(self, where: Where) -> PolicyT:
        """Return the policy for a circuit. Raises what the policy raises for values that don't go together.

        Places that the same overrides cover share one object: asking for each circuit of a page is cheap.
        """
        covering = tuple(index for index, one in enumerate(self.overrides) if one.scope.covers(where))
        if not covering:
            return self.base
        policy = self._found.get(covering)
        if policy is None:
            values: dict[str, Any] = {}
            for index in covering:
                values.update(self.overrides[index].values)
            policy = self._found[covering] = replace(self.base, **values)
        return policy


def places(site: Site) -> Iterator[tuple[Room, Circuit, Where]]:
    """Go through a site's circuits, each with where it is."""
    for room in site.rooms:
        for circuit in room.circuits:
            yield (
                room,
                circuit,
                Where(
                    campus=room.campus,
                    building=room.building,
                    floor=room.floor,
                    room_id=room.room_id,
                    kind=circuit.kind.value,
                ),
            )


def where_of(site: Site) -> dict[str, Where]:
    """Return where each circuit is."""
    return {circuit.circuit_id: where for _, circuit, where in places(site)}
