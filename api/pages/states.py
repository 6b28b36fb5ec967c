"""How a page words a supply state: nobody is told more than the wire has said."""

from dormpower.books.circuits_view import CircuitView
from dormpower.domain.confirming import CONFIRMED_REASONS
from dormpower.domain.holds import SupplyState


def state_code(view: CircuitView) -> str:
    """Return the code of a circuit's state in words.

    `locked_out` is what the holds want. It is told as done only while each of them was read back open; before
    that, and when current flows through an open relay, it is an order.
    """
    if view.state is not SupplyState.LOCKED_OUT:
        return f"state.{view.state}"
    if view.open_but_drawing:
        return "page.state.locked_out_drawing"
    orders = [hold for hold in view.holds if hold.reason in CONFIRMED_REASONS]
    confirmed = view.relay == "open" and all(hold.confirmed_open_at is not None for hold in orders)
    return "state.locked_out" if confirmed else "page.state.locked_out_ordered"


def category_code(state: SupplyState) -> str:
    """Return the code of a state as a group of rooms; of lock-outs it does not say that they are done."""
    return "page.state.lock_outs" if state is SupplyState.LOCKED_OUT else f"state.{state}"
