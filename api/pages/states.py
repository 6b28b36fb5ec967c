"""How a page words a supply state: nobody is told more than the wire has said."""

from api.pages.wording import STATE_SIGNS
from dormpower.books.circuits_view import CircuitView
from dormpower.domain.confirming import CONFIRMED_REASONS
from dormpower.domain.holds import SupplyState

_NOT_YET = "…"


def state_code(view: CircuitView) -> str:
    """Return the code of a circuit's state in words.

    A circuit whose relay is reported open while current flows is never told as off. `locked_out` is what the
    holds want: it is told as done only while each of them was read back open, before that it is an order.
    `normal` is told as supplied only where the relay is not reported open.
    """
    if view.state is SupplyState.LOCKED_OUT:
        return _locked_out_code(view)
    if view.open_but_drawing and view.state is not SupplyState.OFFLINE:
        return "page.state.drawing"
    if view.state is SupplyState.NORMAL and view.relay == "open":
        return "page.state.not_closed_yet"
    return f"state.{view.state}"


def sign_of(view: CircuitView) -> str:
    """Return the sign beside the words: what is not supplied yet has no tick."""
    if view.state is SupplyState.NORMAL and state_code(view) != "state.normal":
        return _NOT_YET
    return STATE_SIGNS[view.state]


def is_returning(view: CircuitView) -> bool:
    """Whether nothing holds the circuit off any more and its switch is still to be closed."""
    return state_code(view) == "page.state.not_closed_yet" and view.control != "failed"


def category_code(state: SupplyState) -> str:
    """Return the code of a state as a group of rooms; of lock-outs it does not say that they are done."""
    return "page.state.lock_outs" if state is SupplyState.LOCKED_OUT else f"state.{state}"


def _locked_out_code(view: CircuitView) -> str:
    if view.open_but_drawing:
        return "page.state.locked_out_drawing"
    orders = [hold for hold in view.holds if hold.reason in CONFIRMED_REASONS]
    confirmed = view.relay == "open" and all(hold.confirmed_open_at is not None for hold in orders)
    return "state.locked_out" if confirmed else "page.state.locked_out_ordered"
