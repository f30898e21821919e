"""What traffic is held against in service: the distributions of sessions that were not trained on."""

import numpy as np

from detector.core.drift import MOST_PAIRS, Reference, binned, pair_codes
from detector.core.encoding import Encoding
from trainer.evaluation.scoring import Scored

_DIGITS = 6


def reference_of(scored: Scored, encoding: Encoding, threshold: float, base_rate: float) -> Reference:
    """Return the shares of what a model saw and said, attacks as common as they will be.

    Args:
        scored: sessions that were not trained on, with their sessions' scores as served.
        encoding: of the model.
        threshold: its own.
        base_rate: share of attacks where it will serve.
    """
    packed = scored.packed
    attack = packed.labels == 1
    share = max(float(attack.mean()), 1e-9)
    of_session = np.where(attack, base_rate / share, (1 - base_rate) / max(1 - share, 1e-9))
    weights = np.repeat(of_session, packed.lengths)
    begins = np.zeros(len(packed.steps), np.bool_)
    begins[packed.sittings[:-1]] = True
    actions = packed.steps["action"]
    before = np.where(begins, 0, np.roll(actions, 1))
    numbers = np.arange(len(actions)) - np.repeat(packed.sittings[:-1], np.diff(packed.sittings)) + 1
    codes, of = np.unique(pair_codes(actions, before, encoding), return_inverse=True)
    commonest = np.argsort(-np.bincount(of, weights), kind="stable")[:MOST_PAIRS]
    pairs = tuple(np.sort(codes[commonest]).tolist())
    bins = binned(
        packed.steps, before, numbers, scored.scores, encoding=encoding, threshold=threshold, pairs=pairs
    )
    shares = {}
    for name, place, count in bins:
        weighed = np.bincount(place, weights, count)
        shares[name] = tuple(np.round(weighed / weighed.sum(), _DIGITS).tolist())
    return Reference(shares, pairs)
