"""What two models make of the same history: who is newly blocked, and who no longer. Pure."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from detector.contract.alerts import Alert, Decision
from detector.contract.labels import SessionLabel

UNLABELLED = "unlabelled"
_UNNAMED = {0: "lawful", 1: "attack", None: UNLABELLED}
"""What sessions of a label are called whose kind the label file does not say."""


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model blocked a session, what the session was as far as it is known, and of those shown first, why."""

    session_id: str
    account_id: str
    action: str
    action_number: int
    score: float
    type: str = UNLABELLED
    label: int | None = None
    explanation: list[str] = []


class Group(msgspec.Struct, kw_only=True):
    """Sessions of one kind: an attack family, a lawful kind, or those without a label; or all of one label.

    Attributes:
        name: of the kind.
        label: 1 for attacks, 0 for lawful sessions, None without a label.
        sessions: how many the label file has; None without labels, as sessions without alerts are not counted.
        blocked: by each model.
        challenged: by each model, those that it blocks later among them.
        newly: blocked by the second alone.
        no_longer: blocked by the first alone.
        earlier: blocked by both, by the second at an earlier action.
        later: blocked by both, by the second at a later action.
    """

    name: str
    label: int | None = None
    sessions: int | None = None
    blocked: tuple[int, int] = (0, 0)
    challenged: tuple[int, int] = (0, 0)
    newly: int = 0
    no_longer: int = 0
    earlier: int = 0
    later: int = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference between two models.

    Attributes:
        groups: attacks first, then lawful sessions, then those without a label, each by name.
        newly: sessions that the second alone blocks. Those that speak against it come first: lawful ones, then the
            highest scores.
        no_longer: sessions that the first alone blocks, likewise: attacks first.
    """

    groups: list[Group]
    newly: list[Blocked]
    no_longer: list[Blocked]

    @property
    def totals(self) -> list[Group]:
        """All attacks, and all lawful sessions, as far as there are labels."""
        totals = []
        for name, label in (("all attacks", 1), ("all lawful", 0)):
            if groups := [group for group in self.groups if group.label == label]:
                totals.append(_total(name, label, groups))
        return totals


def first_blocks(alerts: Iterable[Alert], key: Callable[[Alert], str]) -> dict[str, Blocked]:
    """Return the first BLOCK of each session, by its key; a session id may come back after its session ended."""
    blocks: dict[str, Blocked] = {}
    for alert in alerts:
        if alert.decision is Decision.BLOCK:
            blocks.setdefault(
                key(alert),
                Blocked(
                    session_id=alert.session_id,
                    account_id=alert.account_id,
                    action=alert.action,
                    action_number=alert.action_number,
                    score=alert.score,
                ),
            )
    return blocks


def compare(
    first: Mapping[str, Blocked],
    second: Mapping[str, Blocked],
    labels: Mapping[str, SessionLabel],
    challenged: tuple[Collection[str], Collection[str]] = ((), ()),
) -> Comparison:
    """Compare what two models blocked.

    Args:
        first: blocks of the model in service, by the key of their sessions, as all else.
        second: blocks of the other one.
        labels: the truth by session, as far as it is known.
        challenged: sessions, by each model.
    """
    groups: dict[tuple[str, int | None], Group] = {}
    sizes: dict[tuple[str, int | None], int] = defaultdict(int)
    for label in labels.values():
        sizes[label.type, label.label] += 1
    for kind, size in sizes.items():
        groups[kind] = Group(name=kind[0] or _UNNAMED[kind[1]], label=kind[1], sessions=size)

    def group_of(session: str) -> Group:
        known = labels.get(session)
        kind = (known.type, known.label) if known else (UNLABELLED, None)
        return groups.setdefault(kind, Group(name=kind[0], label=kind[1]))

    for session in {*challenged[0], *challenged[1]}:
        group = group_of(session)
        one, other = (
            number + (session in of_model)
            for number, of_model in zip(group.challenged, challenged, strict=True)
        )
        group.challenged = one, other
    newly, no_longer = [], []
    for session in first.keys() | second.keys():
        group = group_of(session)
        before, after = first.get(session), second.get(session)
        group.blocked = (group.blocked[0] + (before is not None), group.blocked[1] + (after is not None))
        if before is None and after is not None:
            newly.append(msgspec.structs.replace(after, type=group.name, label=group.label))
        elif before is not None and after is None:
            no_longer.append(msgspec.structs.replace(before, type=group.name, label=group.label))
        elif before is not None and after is not None:
            group.earlier += after.action_number < before.action_number
            group.later += after.action_number > before.action_number
        group.newly += before is None
        group.no_longer += after is None
    return Comparison(
        groups=sorted(groups.values(), key=lambda group: (_rank(group.label, first=1), group.name)),
        newly=sorted(newly, key=lambda one: (_rank(one.label, first=0), -one.score, one.session_id)),
        no_longer=sorted(no_longer, key=lambda one: (_rank(one.label, first=1), -one.score, one.session_id)),
    )


def _rank(label: int | None, *, first: int) -> int:
    """Order by label, that of `first` at the front and sessions without one at the end."""
    return 2 if label is None else label ^ first


def _total(name: str, label: int, groups: Sequence[Group]) -> Group:
    return Group(
        name=name,
        label=label,
        sessions=sum(group.sessions or 0 for group in groups),
        blocked=(sum(group.blocked[0] for group in groups), sum(group.blocked[1] for group in groups)),
        challenged=(
            sum(group.challenged[0] for group in groups),
            sum(group.challenged[1] for group in groups),
        ),
        newly=sum(group.newly for group in groups),
        no_longer=sum(group.no_longer for group in groups),
        earlier=sum(group.earlier for group in groups),
        later=sum(group.later for group in groups),
    )
