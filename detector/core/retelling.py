"""Telling again what a batch has staged: where it blocks or challenges sessions, their accounts forget what these teach."""

from collections.abc import Mapping

from detector.core.encoding import ACTION_BYTES, Encoding
from detector.core.session import ENDED, HEAD_BYTES, Trust, flags
from detector.core.staging import Staged


def settle(staged: Staged, trust: Mapping[int, Trust], encoding: Encoding) -> bool:
    """Let events, by their offsets, and no others, change what becomes of what their sessions teach their accounts.

    Returns:
        whether that changes the windows of later events.
    """
    candidates = staged.candidates
    found = enumerate(candidates) if trust else ()
    told = staged.histories.settle(
        {number: trust[one.offset] for number, one in found if one.offset in trust}
    )
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
