"""What messages between modules and the gateway may be, whatever their wording, and how they are refused."""

from dataclasses import dataclass
from enum import StrEnum

from dormpower.domain.samples import Relay

MAX_PAYLOAD_BYTES = 16 * 1024
MAX_CHANNELS = 32


class Refusal(StrEnum):
    """Why a message was refused; the counters go by these."""

    TOO_LARGE = "too_large"
    BAD_READING = "bad_reading"
    BAD_STATUS = "bad_status"
    BAD_RESULT = "bad_result"


class UnableToUsePayloadError(Exception):
    """A message that can't be used. It is counted and acknowledged: sent again it would be no better."""

    def __init__(self, refusal: Refusal, detail: str) -> None:
        super().__init__(f"{refusal}: {detail}")
        self.refusal = refusal


class Outcome(StrEnum):
    """How a module says that a command ended."""

    DONE = "done"
    EXPIRED = "expired"
    REPEATED = "repeated"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The end of a command as the module tells it; `relay` is its own report."""

    id: str
    outcome: Outcome
    relay: Relay | None = None


def check_size(payload: bytes) -> None:
    """Raise UnableToUsePayloadError for a message that no module has reason to send."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise UnableToUsePayloadError(
            Refusal.TOO_LARGE, f"expected at most {MAX_PAYLOAD_BYTES} bytes, got {len(payload)}"
        )
