"""What the application stands on: given by the composition root (`api/service.py`) or by a test."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from api.counter import Counter
from api.rules_in_force import RulesInForce
from config.settings import Settings
from dormpower.books.database import Books
from dormpower.clock import Clock
from dormpower.domain.meter_state import ChannelLimits
from dormpower.domain.tariff import Price
from dormpower.messages.catalogue import Language
from dormpower.readings.port import ReadingsStore
from dormpower.wake import send_wake


@dataclass(frozen=True, slots=True, kw_only=True)
class SignInLimits:
    """How often sign-in may be tried (invariant 37); the reasons are in `api/sign_in.py`."""

    pair_attempts: int = 5
    pair_window_s: int = 300
    account_attempts: int = 20
    account_window_s: int = 900
    slow_window_s: int = 300
    address_failures: int = 100
    address_window_s: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """Bounds and times of the HTTP side; all in real time."""

    session_lifetime: timedelta = timedelta(hours=12)
    max_body_bytes: int = 64 * 1024
    max_open_requests: int = 1000  # event streams among them
    max_streams: int = 200
    max_streams_a_user: int = 8
    heartbeat_s: float = 15.0
    event_poll_s: float = 0.5
    secure_cookies: bool | None = None  # None: as the request came, TLS or not
    sign_in: SignInLimits = field(default_factory=SignInLimits)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """The stores, clocks and policies that requests are answered from."""

    books: Books
    readings: ReadingsStore
    clock: Clock
    zone: ZoneInfo
    site: Settings
    rules: RulesInForce
    counter: Counter
    limits: Mapping[str, ChannelLimits] = field(default_factory=dict)  # of each circuit's channel
    prices: tuple[Price, ...] = ()  # what a page tells before money is taken; the counter has its own
    wake_folder: Path | None = None
    site_name: str = ""
    languages: tuple[Language, ...] = ("zh", "en")
    settings: ApiSettings = field(default_factory=ApiSettings)

    def wake(self) -> None:
        """Hint to the gateway, after a commit, that there is an intent."""
        if self.wake_folder is not None:
            send_wake(self.wake_folder)
