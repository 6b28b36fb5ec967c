"""Questions about decisions: the resident asks "was this right?", maintenance answers, both stay on record."""

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from api.pages.visit import PageRoute, Visitor, path_of, see_other
from api.problems import Problem, Refusal
from api.routers import decisions
from dormpower.books import reviews, rooms

router = APIRouter(route_class=PageRoute, include_in_schema=False)

_LISTED = 50


@router.get("/questions")
def show_questions(visit: Visitor) -> Response:
    """Show what waits for an answer, and the newest answers."""
    with visit.context.books.read() as connection:
        waiting, more = reviews.listing(connection, answered=False, limit=_LISTED)
        answered, _ = reviews.listing(connection, answered=True, limit=_LISTED)
        circuit_ids = [one.circuit_id for one in (*waiting, *answered)]
        places = rooms.rooms_of_circuits(connection, circuit_ids=circuit_ids)
    return visit.page(
        "questions.html", waiting=waiting, is_cut=more is not None, answered=answered, rooms=places
    )


@router.post("/circuits/{circuit_id}/questions")
def ask(visit: Visitor, circuit_id: str) -> Response:
    """Take a question about a hold or an alarm of the circuit."""
    try:
        wanted = decisions.QuestionRequest(
            subject_kind="alarm" if visit.form.get("subject_kind") == "alarm" else "hold",
            subject_id=visit.form.get("subject_id", ""),
            question=visit.form.get("question", "").strip(),
        )
    except ValidationError as fault:
        raise Refusal(Problem.INVALID, "question: expected 1 to 200 characters on one line") from fault
    decisions.ask(circuit_id, wanted, visit.allowed, visit.context)
    return see_other(path_of("/rooms/{room_id}", room_id=visit.allowed.room_id) + "#questions")


@router.post("/questions/{dispute_id}/answer")
def answer(visit: Visitor, dispute_id: str) -> Response:
    """Answer a question; the verdict counts for the figure of false trips."""
    try:
        wanted = decisions.AnswerRequest.model_validate(
            {"verdict": visit.form.get("verdict", ""), "answer": visit.form.get("answer", "").strip()}
        )
    except ValidationError as fault:
        raise Refusal(Problem.INVALID, "expected a verdict and an answer of 1 to 200 characters") from fault
    decisions.answer(dispute_id, wanted, visit.allowed, visit.context)
    return see_other("/questions")
