"""Telling again what a batch has staged: where it blocks sessions, their accounts forget what these have taught."""

from collections.abc import Collection

from detector.core.encoding import ACTION_BYTES, Encoding
from detector.core.session import ENDED, HEAD_BYTES, flags
from detector.core.staging import Staged


def block(staged: Staged, offsets: Collection[int], encoding: Encoding) -> bool:
    """Forget what sessions have taught their accounts that events at these offsets, and no others, have blocked.

    Returns:
        whether that changes the windows of later events.
    """
    candidates = staged.candidates
    blocking = [number for number, one in enumerate(candidates) if one.offset in offsets] if offsets else []
    told = staged.histories.block(frozenset(blocking))
    width, window_bytes = encoding.step_bytes, encoding.window_bytes
    keys, windows = {candidates[number].key for number in told}, dict[str, bytes]()
    for number in range(min(told, default=len(candidates)), len(candidates)):
        one = candidates[number]
        if one.key not in keys:
            continue
        if one.is_step:
            step = one.steps[-width:]
            if number in told:
                step = step[:ACTION_BYTES] + told[number] + step[-1:]
            before = b"" if one.begins else windows.get(one.key, one.steps[:-width])
            windows[one.key] = (before + step)[-window_bytes:]
        elif one.key not in windows:
            continue
        candidates[number] = one._replace(steps=windows[one.key])
    for key, steps in windows.items():
        packed = staged.touched.get(key)
        if packed is not None and not flags(packed) & ENDED:
            staged.touched[key] = packed[:HEAD_BYTES] + steps + packed[HEAD_BYTES + len(steps) :]
    return bool(told)
