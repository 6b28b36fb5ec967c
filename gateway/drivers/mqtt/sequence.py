"""Sequence numbers of modules: what never came, what came again. For counting only: intake judges samples."""


class Sequences:
    """Remembers each module's boot and the highest number of it."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[str | None, int]] = {}

    def note(self, module_id: str, *, boot_id: str | None, seq: int | None) -> tuple[int, int]:
        """Return (missed, repeated) that this number adds; a new boot starts anew and misses nothing."""
        if seq is None:
            return 0, 0
        last = self._last.get(module_id)
        if last is None or last[0] != boot_id:
            self._last[module_id] = (boot_id, seq)
            return 0, 0
        if seq <= last[1]:
            return 0, 1
        self._last[module_id] = (boot_id, seq)
        return seq - last[1] - 1, 0
