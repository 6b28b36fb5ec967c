"""A rule that is switched off lets a whole campus go in the one step that puts its version on record.

The books have one writer: what that step costs must not grow with a round trip for each hold.
"""

from datetime import timedelta

import sqlalchemy as sa

from dormpower.books import holds, policies
from dormpower.books.database import Books
from dormpower.books.tables import audit_log
from dormpower.domain.feeder_facts import SheddingPolicy
from dormpower.domain.holds import Enforcement, Reason
from dormpower.domain.protection import RULE, OverloadPolicy
from gateway import policy_changes
from gateway.policies import Placed, described
from gateway.protection_rules import OverloadRule
from tests.books.statements import statements
from tests.gateway.control_world import ZONE, World
from tests.gateway.feeder_floor import EVENING, Floor

ROOMS = 30


def overload_off(world: World) -> OverloadRule:
    policy = OverloadPolicy(zone=ZONE, limit_w=2000, mode=Enforcement.OFF)
    placed = Placed(by_circuit=dict.fromkeys(world.circuits, policy), configured=described(policy))
    return OverloadRule(placed, max_gap_s=150)


def trip(world: World, circuit_ids: list[str]) -> None:
    with world.books.write() as connection:
        for circuit_id in circuit_ids:
            holds.place(
                connection,
                circuit_id=circuit_id,
                reason=Reason.OVERLOAD,
                placed_by=RULE,
                evidence={},
                now=world.clock.now(),
            )


def test_a_takeover_asks_no_more_of_the_books_for_thirty_circuits_than_for_one(sqlite_books: Books) -> None:
    world = World(sqlite_books, rooms_count=ROOMS)
    first, *others = world.circuits
    now, rule = world.clock.now(), overload_off(world)
    asked = []
    for circuit_ids in ([first], others):
        trip(world, circuit_ids)
        with world.books.write() as connection, statements(world.books) as found:
            released = policy_changes.take_over(connection, [rule], shadow_only=False, actor="admin", now=now)
        asked.append(len(found))
        assert released == len(circuit_ids)
    with world.books.read() as connection:
        assert holds.standing(connection) == {}
        versions = policies.versions(connection)
        audited = list(connection.scalars(sa.select(audit_log.c.action)))
    assert versions[RULE].described == rule.described()
    assert audited.count("hold.overload.released") == ROOMS
    assert asked[1] <= asked[0]  # the first one put the version on record as well
    world.close()


def test_shedding_that_is_switched_off_lets_a_floor_go_in_as_many_statements_as_one_room(
    sqlite_books: Books,
) -> None:
    floor = Floor(sqlite_books, limit_w=9000)
    off = SheddingPolicy(mode=Enforcement.OFF)
    asked = []
    for circuit_ids in (["r-0-ac"], [f"r-{number}-ac" for number in range(1, 10)]):
        with floor.books.write() as connection:
            for circuit_id in circuit_ids:
                holds.place(
                    connection,
                    circuit_id=circuit_id,
                    reason=Reason.SHED,
                    placed_by="rule:shedding",
                    evidence={},
                    now=EVENING,
                )
        with floor.books.write() as connection, statements(floor.books) as found:
            floor.feeders.take_over(connection, off, off, now=EVENING + timedelta(minutes=7))
        asked.append(len(found))
    assert floor.shed() == set()
    assert asked[1] <= asked[0]
    floor.close()
