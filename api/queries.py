"""Query parameters that several routes share. An unknown one is refused: a mistyped filter must not pass."""

from datetime import date, timedelta
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from api.problems import Problem, Refusal
from dormpower.domain.reach import day_within_reach, instant_within_reach

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_DAYS = 366
USUAL_DAYS = 30

# One line of text that people type: no control characters, which no database or log wants.
Line = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
Cursor = Annotated[str, Field(min_length=1, max_length=1000, pattern=r"^[\x21-\x7e]+$")]


Instant = Annotated[AwareDatetime, AfterValidator(instant_within_reach)]
Day = Annotated[date, AfterValidator(day_within_reach)]


class Query(BaseModel):
    """A set of query parameters, no others."""

    model_config = ConfigDict(extra="forbid")


class Period(Query):
    """A period of campus days, both ends included; the last 30 days where it is not named."""

    first_on: Annotated[Day | None, Field(validation_alias="from")] = None
    last_on: Annotated[Day | None, Field(validation_alias="to")] = None

    def period(self, today: date) -> tuple[date, date]:
        """Return the first and the last day. Raises Refusal for no day or more than a leap year of them."""
        last_on = self.last_on or today
        first_on = self.first_on or last_on - timedelta(days=USUAL_DAYS - 1)
        days = (last_on - first_on).days + 1
        if not 1 <= days <= MAX_DAYS:
            raise Refusal(Problem.INVALID, f"from, to: expected 1 to {MAX_DAYS} days, got {days}")
        return first_on, last_on


class Paged(Query):
    """How much, and from where on."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT
    cursor: Cursor | None = None
