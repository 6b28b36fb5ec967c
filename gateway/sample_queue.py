"""The bounded queue in front of intake, and what it gives up first while the stores are away.

The oldest polled sample makes room first: its module will be polled again, and registers are cumulative, so it
costs detail, not energy. A sample with `done` has a sender that waits for its acknowledgement (a broker) and is
held back by that: only its window is open at a time. With nothing polled left a polled newcomer is refused, and
only a queue full of the other kind gives up its oldest. The queue is much longer than the window, so that
one came over a connection which has ended, and its sender has sent it again since.
"""

from collections import deque
from collections.abc import Callable

from dormpower.domain.samples import ModuleSample

Done = Callable[[], None]
Queued = tuple[ModuleSample, Done | None]
"""A sample that waits for its batch; with a `Done` its sender waits for it."""


class SampleQueue:
    """Samples in the order of their arrival, at most `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._polled: deque[Queued] = deque()
        self._polled_ever = 0
        self._awaited: deque[tuple[int, Queued]] = deque()  # each with the number of polled ones before it

    def __len__(self) -> int:
        return len(self._polled) + len(self._awaited)

    def put(self, sample: ModuleSample, done: Done | None) -> bool:
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
        if done is None:
            self._polled_ever += 1
            polled.append((sample, None))
        else:
            awaited.append((self._polled_ever, (sample, done)))
        return not full

    def take(self, most: int) -> list[Queued]:
        """Remove and return the samples that came first, at most so many, in the order of their arrival."""
        polled, awaited = self._polled, self._awaited
        taken: list[Queued] = []
        for _ in range(min(most, len(self))):
            if awaited and awaited[0][0] <= self._polled_ever - len(polled):
                taken.append(awaited.popleft()[1])
            else:
                taken.append(polled.popleft())
        return taken
