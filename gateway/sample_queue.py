"""The bounded queue in front of intake, and what it gives up first while the stores are away.

The oldest polled sample makes room first: its module will be polled again, and registers are cumulative, so it
costs detail, not energy. A sample with `done` has a sender that waits for its acknowledgement (a broker) and is
held back by that: only its window is open at a time. With nothing polled left a polled newcomer is refused, and
only a queue full of the other kind gives up its oldest. The queue is much longer than the window, so that
one came over a connection which has ended, and its sender has sent it again since.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from dormpower.domain.samples import ModuleSample


@dataclass(slots=True)
class Queued:
    """A sample that waits for its batch; with `done` its sender waits for it.

    A value: replaced, never changed (not frozen, for speed of making).
    """

    sample: ModuleSample
    done: Callable[[], None] | None
    number: int


class SampleQueue:
    """Samples in the order of their arrival, at most `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._polled: deque[Queued] = deque()
        self._awaited: deque[Queued] = deque()
        self._arrived = 0

    def __len__(self) -> int:
        return len(self._polled) + len(self._awaited)

    def put(self, sample: ModuleSample, done: Callable[[], None] | None) -> bool:
        """Add a sample; False where one (perhaps this one) had to be given up."""
        polled, awaited = self._polled, self._awaited
        full = len(polled) + len(awaited) >= self._limit
        if full:
            if polled:
                polled.popleft()
            elif done is None:
                return False
            else:
                awaited.popleft()
        self._arrived = arrived = self._arrived + 1
        (polled if done is None else awaited).append(Queued(sample, done, arrived))
        return not full

    def take(self, most: int) -> list[Queued]:
        """Remove and return the samples that came first, at most so many, in the order of their arrival."""
        polled, awaited = self._polled, self._awaited
        taken: list[Queued] = []
        for _ in range(min(most, len(self))):
            polled_first = polled and (not awaited or polled[0].number < awaited[0].number)
            taken.append((polled if polled_first else awaited).popleft())
        return taken
