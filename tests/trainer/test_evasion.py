"""What an attacker does otherwise, and what escapes by it."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from numpy.typing import NDArray

from detector.core.encoding import Encoding
from detector.core.signals import FIRST, Kind, Signal
from producer.behaviour.lives.stream import LivesBehaviour
from trainer.data.observing import in_history
from trainer.data.sessions import DataError, Session, Sessions
from trainer.data.simulated import after_warm_up, lived
from trainer.evaluation.course import BUILT_IN, Money
from trainer.evaluation.evasion import Edit, edited, escapes, read_edits, some_edited, usual_edits
from trainer.evaluation.intervals import wilson
from trainer.evaluation.report import escape_section
from trainer.evaluation.scoring import Scored, score_sessions

IDLE_MS = 1_800_000
ENCODING = Encoding(["LOGIN", "VIEW", "ADD", "TRANSFER_SMALL", "TRANSFER_LARGE", "LOGOUT"], 3, [1_000])
ATTACK = Session(
    session_id="a",
    actions=("LOGIN", "ADD", "TRANSFER_LARGE", "VIEW"),
    timestamps_ms=(100, 1_100, 3_100, 3_600),
    label=1,
    attack_from=1,
)
LAWFUL = Session(
    session_id="l",
    actions=("LOGIN", "VIEW", "VIEW", "TRANSFER_SMALL", "LOGOUT"),
    timestamps_ms=(0, 700, 1_500, 2_000, 9_000),
    label=0,
)
NO_MONEY = Money(frozenset(), frozenset())


def _after(**changes: object) -> tuple[tuple[str, ...], tuple[int, ...] | None, int | None]:
    made = edited(ATTACK, 2, Edit(name="one", **changes), LAWFUL)  # type: ignore[arg-type]
    return made.actions, made.timestamps_ms, made.attack_from


def test_edits_by_hand() -> None:
    """Put in before the block at its pace; slower from the attacker's first action on; a wait; others in place; padded."""
    plain, times, begin = ATTACK.actions, (100, 1_100, 3_100, 3_600), 1
    assert _after() == (plain, times, begin)
    looked = ("LOGIN", "ADD", "VIEW", "VIEW", "TRANSFER_LARGE", "VIEW")
    assert _after(insert=("VIEW", "VIEW")) == (looked, (100, 1_100, 3_100, 5_100, 7_100, 7_600), begin)
    assert _after(gap_factor=2.0) == (plain, (100, 1_100, 5_100, 6_100), begin)
    assert _after(wait_ms=50) == (plain, (100, 1_100, 3_150, 3_650), begin)
    split = ("LOGIN", "ADD", "TRANSFER_SMALL", "TRANSFER_SMALL", "VIEW")
    small = {"TRANSFER_LARGE": ("TRANSFER_SMALL", "TRANSFER_SMALL"), "LOGIN": ("VIEW",)}
    assert _after(replace=small) == (split, (100, 1_100, 3_100, 5_100, 5_600), begin), (
        "the LOGIN is the victim's"
    )
    padded = ("LOGIN", "LOGIN", "VIEW", "ADD", "TRANSFER_LARGE", "VIEW")
    assert _after(pad=2) == (padded, (100, 100, 800, 1_800, 3_800, 4_300), 3)


def test_what_an_edit_puts_in_carries_what_such_an_action_carries() -> None:
    """Always the attack's device; an amount as in the attack or else a lawful session; halves, where one becomes two."""
    attack = structs.replace(
        ATTACK, fields={"amount": (None, None, 20_000.0, None), "attributes.device": ("theirs",) * 4}
    )
    lawful = structs.replace(
        LAWFUL, fields={"amount": (None, None, None, 30.0, None), "attributes.device": ("own",) * 5}
    )
    edit = Edit(
        name="one", insert=("TRANSFER_SMALL",), replace={"TRANSFER_LARGE": ("TRANSFER_SMALL",) * 2}, pad=1
    )
    made = edited(attack, 2, edit, lawful)
    assert made.actions == ("LOGIN", "LOGIN", "ADD", *("TRANSFER_SMALL",) * 3, "VIEW")
    assert made.fields["amount"] == (None, None, None, 30.0, 10_000.0, 10_000.0, None)
    assert set(made.fields["attributes.device"]) == {"theirs"}


@given(
    block=st.integers(0, 3),
    insert=st.lists(st.sampled_from(["VIEW", "LOGIN"]), max_size=3),
    factor=st.sampled_from([0.5, 1.0, 4.0]),
    wait_ms=st.integers(0, 10_000),
    pad=st.integers(0, 8),
    timed=st.booleans(),
)
def test_an_edited_attack_is_still_a_session(
    block: int,
    insert: list[str],
    factor: float,
    wait_ms: int,
    pad: int,
    timed: bool,  # noqa: FBT001
) -> None:
    """Its times do not run backwards, its attacker begins where it says, and nothing but what the edit says is new."""
    attack = ATTACK if timed else Session(session_id="a", actions=ATTACK.actions, label=1, attack_from=1)
    edit = Edit(name="all", insert=tuple(insert), gap_factor=factor, wait_ms=wait_ms, pad=pad)
    made = edited(attack, block, edit, LAWFUL)
    assert made.actions[made.attacked_from :] or block < attack.attacked_from
    assert len(made.actions) == 4 + len(insert) + min(pad, len(LAWFUL.actions))
    if timed:
        assert made.timestamps_ms is not None
        assert (np.diff(made.timestamps_ms) >= 0).all()
    else:
        assert made.timestamps_ms is None


def _scored(sessions: Sessions) -> Scored:
    """A model that takes a large transfer right after a new recipient, within its window, for an attack."""

    def score(windows: NDArray[np.void]) -> NDArray[np.float32]:
        add, large = ENCODING.vocabulary.index("ADD") + 1, ENCODING.vocabulary.index("TRANSFER_LARGE") + 1
        actions = windows["action"]
        both = (actions == add).any(axis=1) & (actions == large).any(axis=1)
        return np.asarray(both, np.float32)

    return score_sessions(score, ENCODING, sessions, IDLE_MS)


def test_what_is_caught_no_more_escapes() -> None:
    """Of attacks that are caught: two looks hide the new recipient from a window of three, one does not, a wait does."""
    attacks = [msgspec.structs.replace(ATTACK, session_id=f"a{number}") for number in range(20)]
    missed = Session(session_id="m", actions=("LOGIN", "VIEW"), timestamps_ms=(0, 5), label=1)
    scored = _scored(Sessions.of([*attacks, missed, LAWFUL]))
    edits = [
        Edit(name="one look", insert=("VIEW",)),
        Edit(name="two looks", insert=("VIEW", "VIEW")),
        Edit(name="wait", wait_ms=IDLE_MS + 1),
        Edit(name="no transfer", replace={"TRANSFER_LARGE": ("TRANSFER_SMALL",)}),
        Edit(name="changes nothing", replace={"LOGOUT": ("VIEW",)}),
        Edit(name="beyond the vocabulary", insert=("FLY",)),
    ]
    found = list(escapes(scored, 0.5, edits, ENCODING.knows, _scored))
    assert [(one.edit, one.attacks, one.share.value) for one in found] == [
        ("one look", 20, 0), ("two looks", 20, 1), ("wait", 20, 1), ("no transfer", 20, 1),
        ("changes nothing", 0, 0),
    ]  # fmt: skip
    assert 0 < found[1].share_anywhere.value < 1, "before the new recipient looks hide nothing"
    assert found[3].share_anywhere == found[3].share
    assert (found[0].share.low, found[0].share.high) == wilson(0, 20)


def test_where_nothing_is_caught_nothing_escapes_and_it_is_said() -> None:
    """A threshold that no attack reaches leaves none to edit: that is a row of the table, not an error."""
    scored = _scored(
        Sessions.of([msgspec.structs.replace(ATTACK, actions=("VIEW",) * len(ATTACK.actions)), LAWFUL])
    )
    found = list(escapes(scored, 1.0, [Edit(name="look", insert=("VIEW",))], ENCODING.knows, _scored))
    assert found == []
    assert escape_section(found).rows == [("no attack is caught", "0", "", "")]


def test_the_usual_edits_are_in_the_words_of_the_data() -> None:
    """Looks are what lawful sessions do more than attacks, the login their first action; money only where there is some."""
    sessions = Sessions.of([ATTACK, LAWFUL])
    names = [edit.name for edit in usual_edits(sessions, BUILT_IN, ["LOGOUT"], IDLE_MS)]
    assert names == [
        "VIEW put in",
        "LOGIN put in",
        "LOGOUT put in",
        "LOGOUT and LOGIN put in",
        "VIEW, VIEW, VIEW put in",
        "all pauses times 0.5",
        "all pauses times 2",
        "all pauses times 4",
        "one pause of 10 minutes",
        "one pause of 29 minutes",
        "one pause of 31 minutes",
        "TRANSFER_SMALL put in",
        "TRANSFER_LARGE as two TRANSFER_SMALL",
        "30 lawful actions before it",
    ]
    foreign = [edit.name for edit in usual_edits(sessions, NO_MONEY, [], IDLE_MS)]
    assert not [name for name in foreign if "LOGOUT and" in name or "as two" in name]


def test_edits_of_ones_own(tmp_path: Path) -> None:
    """A TOML file lists them; what is misspelt, below 0 or no action that there is, is refused with what is allowed."""
    path = tmp_path / "edits.toml"
    path.write_text("""
[[edit]]
name = "help page, slowly"
insert = ["HELP"]
gap_factor = 1.5
[[edit]]
name = "in parts"
replace = { PAY = ["PAY_PART", "PAY_PART"] }
""")
    names = ["HELP", "PAY", "PAY_PART"]
    assert read_edits(path, names) == [
        Edit(name="help page, slowly", insert=("HELP",), gap_factor=1.5),
        Edit(name="in parts", replace={"PAY": ("PAY_PART", "PAY_PART")}),
    ]
    for lacking in names:
        with pytest.raises(DataError, match=rf"names {lacking}, which neither the data nor the model knows"):
            read_edits(path, {*names} - {lacking})
    with pytest.raises(DataError, match=r"names HELP.*HELPS was probably meant"):
        read_edits(path, ["HELPS"])
    for line, wanted in (
        ("gap_facter = 2.0", r"gap_facter.*expected tables \[\[edit\]\] with name, insert, gap_factor"),
        ("gap_factor = -1.0", ">= 0.*gap_factor"),
        ("wait_ms = -1", ">= 0.*wait_ms"),
        ("pad = -1", ">= 0.*pad"),
    ):
        path.write_text(f'[[edit]]\nname = "x"\n{line}\n')
        with pytest.raises(DataError, match=wanted):
            read_edits(path, names)


def test_some_attacks_are_edited_to_train_on() -> None:
    """Lawful sessions stay; of the attacks after one, all change or none, by the share; the same seed gives the same."""
    sessions = [ATTACK, LAWFUL, ATTACK, LAWFUL, ATTACK]
    edits = [Edit(name="look", insert=("VIEW",)), Edit(name="slow", gap_factor=2.0)]
    assert list(some_edited(iter(sessions), edits, 0.0, 1)) == sessions
    made = list(some_edited(iter(sessions), edits, 1.0, 1))
    assert [one == before for one, before in zip(made, sessions, strict=True)] == [
        True,
        True,
        False,
        True,
        False,
    ]
    assert made == list(some_edited(iter(sessions), edits, 1.0, 1))


def test_edited_attacks_have_the_signals_of_their_accounts_history() -> None:
    """What is scored again as it was has the signals that it had; with another device it has others."""
    device = Signal(name="device", kind=Kind.NOVELTY, of="attributes.device", bounds=(86_400_000,))
    whole = lived(2_000, 5, LivesBehaviour(attack_rate=0.1), (device.of,))
    observed = after_warm_up(whole, (device,), IDLE_MS, keeps_fields=True)
    attacks = observed.take(np.flatnonzero(observed.labels == 1))
    encoding = Encoding(observed.names, 3, signals=(device,))

    def codes(changed: list[Session]) -> Any:
        return in_history(whole, Sessions.of(changed), encoding, 1_800_000).signals

    rows = list(attacks.rows())
    assert np.array_equal(codes(rows), attacks.signals)  # type: ignore[arg-type]  # there are some
    others = [structs.replace(one, fields={device.of: (one.session_id,) * len(one.actions)}) for one in rows]
    assert np.mean(codes(others) == FIRST) > 0.95, "but for accounts without a history"
