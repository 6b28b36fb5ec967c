"""A plan in the making: what is shed and restored so far, and what that does to each feeder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from dormpower.domain.demand import Tree
from dormpower.domain.fairness import drew_before_w
from dormpower.domain.feeder_facts import (
    NO_TURN,
    Demand,
    Grant,
    Load,
    Restore,
    Shed,
    SheddingPolicy,
    Turn,
    Why,
)


@dataclass(slots=True, kw_only=True)
class Draft:
    """Facts, and what has been decided on them so far."""

    tree: Tree
    policy: SheddingPolicy
    demands: Mapping[str, Demand]
    turns: dict[str, Turn]
    candidates: Sequence[Load]  # who was eligible at the start, the next one first
    now: datetime
    relief_w: dict[str, int] = field(default_factory=dict)
    promised_w: dict[str, int] = field(default_factory=dict)
    restored_w: dict[str, int] = field(default_factory=dict)  # what the past is moved by
    sheds: list[Shed] = field(default_factory=list)
    restores: list[Restore] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    taken_rooms: set[str] = field(default_factory=set)  # a room is shed once in a plan
    over: set[str] = field(default_factory=set)  # feeders that shed for themselves in this plan

    def path(self, load: Load) -> tuple[str, ...]:
        """Return the feeders that a circuit's current flows through, its own first."""
        return self.tree.paths[load.feeder_id]

    def candidates_below(self, feeder_id: str) -> list[Load]:
        """Return who may be shed for a feeder, the next one first."""
        return [
            load
            for load in self.candidates
            if load.room_id not in self.taken_rooms and feeder_id in self.path(load)
        ]

    def take_off(self, load: Load, *, feeder_id: str, why: Why, for_circuit_id: str | None = None) -> None:
        """Shed a circuit; its room's other circuits are no candidates any more in this plan."""
        demand, power_w = self.demands[feeder_id], load.power_w or 0
        turn = self.turns.get(load.circuit_id, NO_TURN)
        turn = replace(
            turn,
            turns=turn.turns + 1,
            shed_at=self.now,
            feeder_id=feeder_id,
            drew_w=power_w,
            watched=False,
            swap_under_way=False,
        )
        self.turns[load.circuit_id] = turn
        self.sheds.append(
            Shed(
                circuit_id=load.circuit_id,
                room_id=load.room_id,
                feeder_id=feeder_id,
                why=why,
                power_w=power_w,
                demand_w=demand.measured_w or 0,
                limit_w=demand.limit_w,
                turn=turn.turns,
                for_circuit_id=for_circuit_id,
            )
        )
        for one in self.path(load):
            self.relief_w[one] = self.relief_w.get(one, 0) + power_w
        self.taken_rooms.add(load.room_id)

    def put_back(self, load: Load, *, why: Why, pickup_w: int) -> None:
        """Restore a circuit."""
        if load.shed_at is None:
            return
        turn = self.turns.get(load.circuit_id, NO_TURN)
        self.turns[load.circuit_id] = replace(
            turn,
            off_s=turn.off_s + (self.now - load.shed_at).total_seconds(),
            restored_at=self.now,
            expected_w=pickup_w,
            peak_w=0,
            watched=True,
            swap_under_way=False,
        )
        self.restores.append(
            Restore(
                circuit_id=load.circuit_id,
                room_id=load.room_id,
                why=why,
                pickup_w=pickup_w,
                shed_at=load.shed_at,
            )
        )
        for one in self.path(load):
            self.restored_w[one] = self.restored_w.get(one, 0) + (0 if load.held else turn.drew_w)

    def let_close(self, load: Load, pickup_w: int) -> None:
        """Let a closing begin that has waited for room."""
        turn = self.turns.get(load.circuit_id, NO_TURN)
        if turn.swap_under_way:
            self.turns[load.circuit_id] = replace(turn, swap_under_way=False)
        for one in self.path(load):
            self.restored_w[one] = self.restored_w.get(one, 0) + drew_before_w(load, turn)
        self.grants.append(Grant(circuit_id=load.circuit_id, pickup_w=pickup_w))

    def promise(self, load: Load, pickup_w: int) -> None:
        """Keep room for a circuit on its whole path: nobody else gets it in this plan."""
        for one in self.path(load):
            self.promised_w[one] = self.promised_w.get(one, 0) + pickup_w

    def expected_w(self, feeder_id: str) -> int:
        """Return what will flow once the relays have followed this plan's sheds, promises aside."""
        return self.demands[feeder_id].expected_w - self.relief_w.get(feeder_id, 0)

    def mark_swap(self, load: Load) -> None:
        """Remember that another was shed for this one."""
        turn = self.turns.get(load.circuit_id, NO_TURN)
        self.turns[load.circuit_id] = replace(turn, swap_under_way=True)
