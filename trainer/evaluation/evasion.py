"""Evasion: what escapes of the attacks that are caught, once the attacker changes a little."""

import itertools
import tomllib
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from detector.contract.fields import Value
from trainer.data.description import nearest
from trainer.data.sessions import DataError, Session, Sessions
from trainer.evaluation.course import Course, Money
from trainer.evaluation.intervals import Estimate, wilson
from trainer.evaluation.scoring import Scored

MOST_ATTACKS: Final = 2_000
LOOKS: Final = 3
PADDING: Final = 30
_AMOUNT: Final = "amount"
MINUTE_MS: Final = 60_000


_NotNegative = Annotated[float, msgspec.Meta(ge=0)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Edit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an attacker does otherwise than in the attack that was caught; of what it names, all is done at once."""

    name: str
    insert: tuple[str, ...] = ()
    """Actions put in, each after the pause that was before the one they are put before."""
    gap_factor: _NotNegative = 1.0
    """Makes all pauses longer, or shorter, from the attacker's first action on."""
    wait_ms: _Count = 0
    """One more pause, at that place."""
    replace: dict[str, tuple[str, ...]] = {}
    """Actions done in place of others, at the pace of those."""
    pad: _Count = 0
    """Actions of a lawful session, as they were there, before the attacker's first."""

    @property
    def words(self) -> Iterator[str]:
        """The actions that it names."""
        return itertools.chain(self.insert, self.replace, *self.replace.values())


class Escapes(msgspec.Struct, frozen=True):
    """Of the attacks caught, those that are caught no more; Wilson's intervals."""

    edit: str
    attacks: int
    """That were caught and that the edit changes."""
    share: Estimate
    """What escapes where the attacker knows which action was blocked, and does it right before that."""
    share_anywhere: Estimate
    """… where it is done at a random place from the attacker's first action to that one."""


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    edit: list[Edit]


def read_edits(path: Path, names: Collection[str]) -> list[Edit]:
    """Read edits of one's own: a TOML file with a table `[[edit]]` each, of the fields of `Edit`.

    Args:
        path: of the file.
        names: actions that there are.

    Raises:
        DataError: the file cannot be read, is no such file, or names another action.
    """
    try:
        edits = msgspec.convert(tomllib.loads(path.read_text()), _File).edit
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise DataError(
            f"{path} has no edits ({error}): expected tables [[edit]] with {', '.join(Edit.__struct_fields__)}"
        ) from error
    for edit in edits:
        for word in edit.words:
            if word not in names:
                raise DataError(
                    f"{path}: the edit {edit.name!r} names {word}, which neither the data nor the model knows: "
                    f"{nearest(word, names)}expected an action of theirs"
                )
    return edits


def usual_edits(sessions: Sessions, money: Money, ends: Sequence[str], idle_timeout_ms: int) -> list[Edit]:
    """Return what attackers can do in any vocabulary, in the words of some sessions.

    Args:
        sessions: of both kinds. Looks are the commonest actions of lawful ones that are no commoner in attacks; the
            login is their commonest first action.
        money: actions that move it: no looks, and a large one may become two small ones.
        ends: actions that end a session: no looks.
        idle_timeout_ms: after which a session begins anew.
    """
    attacked = np.repeat(sessions.labels == 1, sessions.lengths)
    theirs, lawful = (
        np.bincount(sessions.actions[side], minlength=len(sessions.names)) / max(1, side.sum())
        for side in (attacked, ~attacked)
    )
    first = sessions.actions[sessions.starts[:-1]][sessions.labels == 0]
    begin = sessions.names[int(np.bincount(first).argmax())]
    common = [
        sessions.names[code] for code in np.argsort(-lawful, kind="stable") if lawful[code] > theirs[code]
    ]
    looks = [name for name in common if name not in {*money.moves, *ends, begin}][:LOOKS]
    edits = [Edit(name=f"{name} put in", insert=(name,)) for name in [*looks, begin, *ends]]
    edits += [Edit(name=f"{end} and {begin} put in", insert=(end, begin)) for end in ends]
    if looks:
        three = tuple(itertools.islice(itertools.cycle(looks), LOOKS))
        edits.append(Edit(name=f"{', '.join(three)} put in", insert=three))
    edits += [Edit(name=f"all pauses times {factor:g}", gap_factor=factor) for factor in (0.5, 2.0, 4.0)]
    waits_ms = {10 * MINUTE_MS, 31 * MINUTE_MS, idle_timeout_ms - MINUTE_MS, idle_timeout_ms + MINUTE_MS}
    edits += [
        Edit(name=f"one pause of {ms / MINUTE_MS:g} minutes", wait_ms=ms) for ms in sorted(waits_ms) if ms > 0
    ]
    small = sorted(money.moves - money.large)
    edits += [Edit(name=f"{name} put in", insert=(name,)) for name in small[:1]]
    edits += [
        Edit(name=f"{large} as two {small[0]}", replace={large: (small[0],) * 2})
        for large in sorted(money.large)
        if small
    ]
    edits.append(Edit(name=f"{PADDING} lawful actions before it", pad=PADDING))
    return edits


def escapes(
    scored: Scored,
    threshold: float,
    edits: Sequence[Edit],
    knows: Callable[[str], bool],
    score: Callable[[Sessions], Scored],
    ends: Collection[str] = (),
) -> Iterator[Escapes]:
    """Edit attacks that are caught, score them again, and yield what is caught no more, edit by edit; nothing where none is caught.

    Args:
        scored: sessions, attacks and lawful ones.
        threshold: the score that blocks.
        edits: to try.
        knows: whether an action is in the model's vocabulary, or has a token; edits with others are left out.
        score: the model, over sessions.
        ends: actions that end a session, and pad none.
    """
    sessions, blocks = scored.sessions, scored.first_blocks(threshold)
    caught = np.flatnonzero(_caught(scored, threshold))
    if not len(caught):
        return
    chosen = caught[
        np.unique(np.linspace(0, len(caught) - 1, min(len(caught), MOST_ATTACKS)).astype(np.int64))
    ]
    known = blocks[chosen]
    lowest = np.minimum(np.maximum(sessions.attacked_from[chosen], 1), known)  # no wait is before a session
    anywhere = np.random.RandomState(0).randint(lowest, known + 1)
    attacks = list(sessions.take(chosen).rows())
    # What ends a session would, as padding, let the attack begin anew: that is an edit of its own.
    goes_on = ~np.array([name in ends for name in sessions.names])[sessions.actions]
    keeps = np.add.reduceat(goes_on, sessions.starts[:-1]) > 0
    lawful = np.flatnonzero((sessions.labels == 0) & keeps)
    longest = np.argsort(-np.minimum(sessions.lengths[lawful], PADDING), kind="stable")
    chosen = lawful[longest[: len(attacks)]]
    donors = list(
        sessions.take(chosen)
        .with_actions(goes_on[np.concatenate([np.arange(*sessions.starts[one : one + 2]) for one in chosen])])
        .rows()
    )
    for edit in edits:
        if not all(knows(name) for name in edit.words):
            continue
        shares: list[Estimate] = []
        for places in (known, anywhere) if edit.insert or edit.wait_ms else (known,):
            rows = zip(attacks, places.tolist(), itertools.cycle(donors), strict=False)
            pairs = [(attack, edited(attack, place, edit, donor)) for attack, place, donor in rows]
            if changed := [after for before, after in pairs if after != before]:
                escaped = int((~_caught(score(Sessions.of(changed)), threshold)).sum())
                shares.append(Estimate(escaped / len(changed), *wilson(escaped, len(changed))))
        unchanged = Estimate(0.0, *wilson(0, 0))
        yield Escapes(edit.name, len(changed), *(shares[:1] or [unchanged]), *(shares[-1:] or [unchanged]))


def some_edited(
    sessions: Iterator[Session], edits: Sequence[Edit], share: float, seed: int
) -> Iterator[Session]:
    """Yield sessions, some of the attacks among them with an edit at a random place of the attacker's: to train on.

    Args:
        sessions: of both kinds, in any order.
        edits: one of which is drawn each time.
        share: of the attacks.
        seed: of all that is drawn.
    """
    rng = np.random.default_rng(seed)
    donor = None
    for session in sessions:
        if not session.label:
            donor = session
        if donor is session or donor is None or rng.random() >= share:
            yield session
        else:
            place = int(rng.integers(session.attacked_from, len(session.actions)))
            yield edited(session, place, edits[int(rng.integers(len(edits)))], donor)


def edited(attack: Session, place: int, edit: Edit, donor: Session) -> Session:
    """Return an attack with an edit, or as it was, where the edit does not touch it.

    Args:
        attack: with an attacker's first action.
        place: index of the action before which to put in and to wait.
        edit: what is done otherwise.
        donor: the lawful session whose actions come before the attack, if any are to.

    What is put in carries what all of the attack's actions carry alike, as the device, and beside that what such an
    action carries in the attack, or else in the other session. What takes one action's place shares its amount.
    """
    begin, count = attack.attacked_from, min(edit.pad, len(donor.actions))
    gaps_ms = _gaps_ms(attack)
    gaps_ms[begin + 1 :] = [round(gap_ms * edit.gap_factor) for gap_ms in gaps_ms[begin + 1 :]]
    alike = {name: values[0] for name, values in attack.fields.items() if len(set(values)) == 1}
    steps: list[tuple[str, int, dict[str, Value]]] = []
    for index, (action, gap_ms) in enumerate(zip(attack.actions, gaps_ms, strict=True)):
        if index == begin:
            pauses_ms = _gaps_ms(donor)[:count]
            of_donor = [_carried(donor, at) | alike for at in range(count)]
            steps += zip(donor.actions[:count], pauses_ms, of_donor, strict=True)
        if index == place:
            steps += [(name, gap_ms, _usual(name, attack, donor) | alike) for name in edit.insert]
        pause_ms = gap_ms + (edit.wait_ms if index == place > 0 else 0)
        done = edit.replace.get(action, (action,)) if index >= begin else (action,)
        carried_by_it = _carried(attack, index)
        if isinstance(amount := carried_by_it.get(_AMOUNT), float):
            carried_by_it[_AMOUNT] = amount / len(done)
        steps += [(name, pause_ms, carried_by_it) for name in done]
    times_ms = None
    if attack.timestamps_ms is not None:
        times_ms = tuple((attack.timestamps_ms[0] + np.cumsum([gap_ms for _, gap_ms, _ in steps])).tolist())
    return msgspec.structs.replace(
        attack,
        actions=tuple(name for name, _, _ in steps),
        timestamps_ms=times_ms,
        attack_from=begin + count,
        fields={name: tuple(carried.get(name) for _, _, carried in steps) for name in attack.fields},
    )


def _carried(session: Session, index: int) -> dict[str, Value]:
    return {name: values[index] for name, values in session.fields.items()}


def _usual(action: str, *sessions: Session) -> dict[str, Value]:
    """Return what an action carries in the first of some sessions that has such a one."""
    where = ((one, one.actions.index(action)) for one in sessions if action in one.actions)
    return next((_carried(*one) for one in where), {})


def _caught(scored: Scored, threshold: float) -> NDArray[np.bool_]:
    course = Course.of(scored, threshold, Money(frozenset(), frozenset()))
    return course.blocked & course.attack


def _gaps_ms(session: Session) -> list[int]:
    """Return the pause before each action, 0 before the first."""
    times_ms = session.timestamps_ms or (0,) * len(session.actions)
    return [0, *np.diff(times_ms).tolist()]
