"""What control leaves on the timeline of a circuit that it cuts and supplies again."""

from dormpower.books import holds, timeline
from dormpower.domain.holds import Reason
from dormpower.domain.timeline import CommandSent
from tests.gateway.control_world import World


def test_a_command_is_put_down_to_what_holds_the_circuit_off_and_not_to_shadow(world: World) -> None:
    world.sample(power_w=100.0)
    with world.books.write() as connection:
        for reason, shadow in ((Reason.SHED, True), (Reason.LOCKOUT, False)):
            holds.place(
                connection,
                circuit_id="r-0-ac",
                reason=reason,
                placed_by="test",
                shadow=shadow,
                evidence={},
                now=world.clock.now(),
            )
    world.tick()
    world.settle()
    with world.books.read() as connection:
        entries, _ = timeline.page(connection, circuit_id="r-0-ac", spans=None)
    sent = [entry for entry in entries if isinstance(entry, CommandSent)]
    assert [(entry.relay, entry.reasons, entry.outcome) for entry in sent] == [
        ("open", ("lockout",), "confirmed")
    ]
