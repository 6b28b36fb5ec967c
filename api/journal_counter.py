"""The counter's port over the books' journal: one transaction a recharge, refusals turned into problems."""

from collections.abc import Sequence
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from api.counter import Counter, Posted, RechargeOrder
from api.problems import Problem, Refusal
from dormpower.books import journal
from dormpower.books.database import Books
from dormpower.books.tables import circuits
from dormpower.domain.site import CircuitKind
from dormpower.domain.tariff import Price, UnableToPriceError, price_at

# Keys are site-wide: all who post through the API share one space of keys.
SOURCE = "api"


def journal_counter(*, books: Books, prices: Sequence[Price], zone: ZoneInfo) -> Counter:
    """Return a counter that posts at the price in force on the campus day of the purchase."""

    def post(order: RechargeOrder) -> Posted:
        try:
            with books.write() as connection:
                kind = connection.execute(
                    sa.select(circuits.c.kind).where(circuits.c.circuit_id == order.circuit_id)
                ).scalar_one()
                price = price_at(prices, kind=CircuitKind(kind), on=order.now.astimezone(zone).date())
                posted = journal.post_recharge(
                    connection,
                    circuit_id=order.circuit_id,
                    amount_fen=order.amount_fen,
                    channel=order.channel,
                    price=price,
                    source=SOURCE,
                    idempotency_key=order.idempotency_key,
                    actor=order.actor,
                    note=order.note,
                    now=order.now,
                )
        except journal.IdempotencyConflictError as refusal:
            raise Refusal(Problem.KEY_REUSED, str(refusal)) from refusal
        except journal.UnableToPostError as refusal:
            raise Refusal(Problem.INVALID, str(refusal)) from refusal
        except UnableToPriceError as refusal:
            raise Refusal(Problem.CONFLICT, str(refusal)) from refusal
        return Posted(answer=posted.answer, repeated=posted.repeated)

    return post
