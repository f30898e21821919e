"""When Python's cyclic collector looks at the worker's memory."""

import gc

_YOUNG_OBJECTS = 50_000
"""A batch of 2,000 events makes some ten thousand objects and no cycles: reference counts free nearly all of them."""
_MIDDLE_AFTER, _OLD_AFTER = 50, 1_000


def relax_garbage_collection() -> None:
    """Leave what was loaded so far out of all collections, and collect the rest rarely (ADR 0013)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS, _MIDDLE_AFTER, _OLD_AFTER)
