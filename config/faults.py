"""What is wrong with a file that a person wrote: all at once, each with file, key, found and expected."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

MAX_SHOWN = 200
_SECRET_WORDS = ("password", "token", "secret")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is wrong (or, among warnings, one that deserves a look)."""

    file: str
    key: str
    message: str

    def __str__(self) -> str:
        """Write it as a person reads it: `site.yaml: lines[3].port: expected 1–65535, got 70000`."""
        return ": ".join(part for part in (self.file, self.key, self.message) if part)


class UnableToLoadSiteError(Exception):
    """The site can't be used as it is described; `faults` holds everything that is wrong, in order of files."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = list(faults)
        shown = [str(fault) for fault in self.faults[:MAX_SHOWN]]
        if len(self.faults) > MAX_SHOWN:
            shown.append(f"… and {len(self.faults) - MAX_SHOWN} more")
        super().__init__("\n".join(shown))


@dataclass(slots=True)
class Findings:
    """Faults and warnings gathered while a file is read; faults refuse it, warnings don't."""

    file: str
    faults: list[Fault] = field(default_factory=list)
    warnings: list[Fault] = field(default_factory=list)

    def refuse(self, key: str, message: str, *, file: str | None = None) -> None:
        """Note a fault."""
        self.faults.append(Fault(file=file or self.file, key=key, message=message))

    def warn(self, key: str, message: str, *, file: str | None = None) -> None:
        """Note a warning."""
        self.warnings.append(Fault(file=file or self.file, key=key, message=message))

    def __iter__(self) -> Iterator[Fault]:
        """Go through the faults."""
        return iter(self.faults)

    def raise_if_any(self) -> None:
        """Raise UnableToLoadSiteError when there is a fault."""
        if self.faults:
            raise UnableToLoadSiteError(self.faults)


def show_path(path: Path) -> str:
    """Return a path as a person typed it: from the working folder where it lies below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def show_key(parts: Sequence[str | int]) -> str:
    """Write a place in a document: `lines[3].port`."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def show_value(value: Any, *, key: str = "") -> str:
    """Write a found value, short, and never a secret (invariant 40)."""
    if value is None:
        return "nothing"
    if any(word in key.lower() for word in _SECRET_WORDS) and not key.endswith(("_file", "_env")):
        return "a value that is not shown"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= 80 else text[:77] + "…"


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """Return `, did you mean X?` for a near word, else what is known."""
    near = get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f", did you mean {near[0]}?"
    return f"; known: {', '.join(sorted(known)[:30])}" if known else ""
