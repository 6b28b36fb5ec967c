"""How often this process looks for garbage in cycles.

A batch of samples makes tens of thousands of objects, none of them in a cycle. With Python's usual threshold of
700 the collector would walk the memory of the whole campus several times a batch: measured, that cost more than
judging and writing the batch (`benchmarks/README.md`). What is in no cycle is freed at once as ever; cycles
that libraries leave behind wait a little longer.
"""

import gc

COLLECT_AFTER_OBJECTS = 200_000
GENERATIONS = (20, 20)


def collect_seldom() -> None:
    """Set the collector for a process that makes many short-lived objects; call once the site is loaded."""
    gc.collect()
    gc.freeze()  # modules, profiles and the site stay as long as the process
    gc.set_threshold(COLLECT_AFTER_OBJECTS, *GENERATIONS)
