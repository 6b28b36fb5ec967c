"""How often sign-in may be tried (invariant 37).

Theory. Guessing is held back in three windows, all moving and all in real time:

1. a *pair* (account, where from): few attempts in a short time;
2. an *account* from places it never signed in from: when these are many, each such place gets one attempt in a
   longer time (slower, never shut);
3. an *address* over all accounts: many failures mean somebody is trying names.

"Where from" is the browser's device cookie if this user has signed in with it before, else the address. Others
can fill only windows of places that are not the person's: from a known device or a known address the person
signs in whatever strangers do, and an attempt that is refused is not counted, so that no window is ever kept
full by knocking on a closed door. From an unknown place the person waits at most the slow window.
"""

import threading
import time

from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from api.context import SignInLimits
from api.problems import Problem, Refusal

# Argon2 takes 64 MiB each time: more at once would let strangers fill the memory.
_MAX_CHECKS_AT_ONCE = 4
_MAX_WAIT_S = 5.0


class SignInGuard:
    """Counts attempts of this process; give each API process its share of the limits if there are several."""

    def __init__(self, limits: SignInLimits) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._pair = RateLimitItemPerSecond(limits.pair_attempts, limits.pair_window_s)
        self._account = RateLimitItemPerSecond(limits.account_attempts, limits.account_window_s)
        self._slow = RateLimitItemPerSecond(1, limits.slow_window_s)
        self._address = RateLimitItemPerSecond(limits.address_failures, limits.address_window_s)
        self._checks = threading.BoundedSemaphore(_MAX_CHECKS_AT_ONCE)

    def admit(self, *, username: str, place: str, known: bool, address: str) -> None:
        """Count an attempt or raise the 429 refusal. `known`: this user has signed in from `place` before."""
        if not known:
            if not self._limiter.test(self._address, "address", address):
                self._refuse(self._address, "address", address)
            under_attack = not self._limiter.test(self._account, "account", username)
            if under_attack and not self._limiter.hit(self._slow, "slow", username, place):
                self._refuse(self._slow, "slow", username, place)
        if not self._limiter.hit(self._pair, "pair", username, place):
            self._refuse(self._pair, "pair", username, place)
        if not known:
            self._limiter.hit(self._account, "account", username)

    def failed(self, *, address: str) -> None:
        """Count a wrong password against the address it came from."""
        self._limiter.hit(self._address, "address", address)

    def succeeded(self, *, username: str, place: str) -> None:
        """Forget the attempts of a place that turned out to be the person's."""
        self._limiter.clear(self._pair, "pair", username, place)
        self._limiter.clear(self._slow, "slow", username, place)

    def __enter__(self) -> None:
        """Wait for a free slot to check a password; raises the 503 refusal after 5 s."""
        if not self._checks.acquire(timeout=_MAX_WAIT_S):
            raise Refusal(
                Problem.UNAVAILABLE,
                "Too many people sign in at this moment; try again in a few seconds.",
                headers={"Retry-After": "5"},
            )

    def __exit__(self, *_fault: object) -> None:
        """Give the slot back."""
        self._checks.release()

    def _refuse(self, item: RateLimitItemPerSecond, *key: str) -> None:
        wait_s = max(1, int(self._limiter.get_window_stats(item, *key).reset_time - time.time()) + 1)
        raise Refusal(
            Problem.TOO_MANY_REQUESTS,
            f"Too many attempts to sign in; try again in {wait_s} s.",
            headers={"Retry-After": str(wait_s)},
        )
