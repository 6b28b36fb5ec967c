"""What the proof of the books finds: a broken rule, and where."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One broken rule and where."""

    invariant: int
    where: str
    text: str

    def __str__(self) -> str:
        return f"invariant {self.invariant}: {self.where}: {self.text}"
