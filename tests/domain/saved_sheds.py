"""What a restart leaves of shedding's memory."""

import json

from dormpower.books.feeders import feeder_read, feeder_written, turn_read, turn_written
from dormpower.domain.feeder_facts import ShedState


def saved(state: ShedState) -> ShedState:
    """What a restart leaves of a state."""
    return ShedState(
        feeders={
            name: feeder_read(json.loads(json.dumps(feeder_written(one))))
            for name, one in state.feeders.items()
        },
        turns={name: turn_read(json.loads(json.dumps(turn_written(one)))) for name, one in state.turns.items()},
        period_on=state.period_on,
    )
