"""Signals of sessions: histories that are lost, that are in other parts or sessions; and the fields that they read."""

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from detector.core.encoding import Encoding
from detector.core.plan import largest_bytes
from detector.core.profile import Profile, tag_of
from detector.core.signals import ABSENT, FIRST, UNKNOWN, Kind, Signal, Signals
from producer.behaviour.lives import stream as lives
from producer.behaviour.lives.stream import LivesBehaviour
from trainer.commands.options import Own
from trainer.data.declared import DEFAULT_SIGNALS
from trainer.data.description import Description, described, read_description
from trainer.data.loading import load
from trainer.data.observing import Loss, in_history, told_of_signals, with_signals
from trainer.data.sessions import DataError, Session, Sessions
from trainer.data.simulated import after_warm_up, lived
from trainer.data.windows import pack
from trainer.training.defaults import encoding_for

IDLE_MS = 1_800_000
DAY_MS = 86_400_000
BEGIN_MS = 1_767_571_200_000
DEVICE = Signal(name="device", kind=Kind.NOVELTY, of="attributes.device", bounds=(DAY_MS,))
AMOUNT = Signal(name="amount", kind=Kind.MAGNITUDE, of="amount", bounds=(100,))
ENCODING = Encoding(["LOGIN", "PAY"], 4, signals=(DEVICE, AMOUNT))


def _visit(number: int, day: float, device: str, label: int = 0) -> Session:
    at_ms = BEGIN_MS + round(day * DAY_MS)
    return Session(
        session_id=f"s{number}",
        actions=("LOGIN", "PAY"),
        label=label,
        timestamps_ms=(at_ms, at_ms + 5_000),
        account_id="a",
        fields={"attributes.device": (device, device), "amount": (None, 50.0)},
    )


VISITS = [_visit(number, number, "phone") for number in range(4)] + [_visit(4, 4.0, "other", 1)]


def _novelty(sessions: Sessions) -> list[int]:
    assert sessions.signals is not None
    return list(map(int, sessions.signals[:, 0]))


def test_what_was_before_decides() -> None:
    """The first session knows nothing, the second a device since yesterday, and an attacker's is new."""
    seen = with_signals(Sessions.of(VISITS), ENCODING, IDLE_MS)
    assert _novelty(seen) == [UNKNOWN] * 2 + [FIRST + 2] * 6 + [FIRST] * 2
    assert seen.signals is not None
    assert seen.signals[:2, 1].tolist() == [ABSENT, FIRST]
    assert not seen.fields, "they are not needed any more"


def test_history_may_be_unlabelled_and_in_another_part() -> None:
    """Sessions of which nobody knows anything are history, and no examples; what is taken keeps its signals."""
    sessions = Sessions.of(VISITS)
    sessions.targets[: sessions.starts[3]] = -1
    seen = with_signals(sessions, ENCODING, IDLE_MS)
    assert seen.ids.tolist() == ["s3", "s4"]
    attack = seen.take(np.array([1]))
    assert pack(attack, ENCODING, IDLE_MS).steps["signals"][:, 0].tolist() == [FIRST, FIRST]


def test_a_model_knows_repeats_as_far_back_as_its_signals_did() -> None:
    """An event that comes again after more actions than that is scored: a model of another window would be served others."""
    sessions = Own(Sessions.of(VISITS), ENCODING, IDLE_MS).sessions()
    assert encoding_for(sessions.take(np.array([0, 1])), signals=ENCODING.signals.declared).window == 4
    assert encoding_for(Sessions.of(VISITS)).window == 2, (
        "what 95 % of the sessions have, where nobody has chosen"
    )


def test_lost_histories() -> None:
    """An account whose history is always lost is met as a new one each time; one that loses nothing, as it was."""
    sessions = Sessions.of(VISITS)
    assert set(_novelty(with_signals(sessions, ENCODING, IDLE_MS, Loss(1.0, 0, 1.0)))) == {UNKNOWN}
    kept = with_signals(sessions, ENCODING, IDLE_MS, Loss(0.0))
    assert _novelty(kept) == _novelty(with_signals(sessions, ENCODING, IDLE_MS))


def test_an_account_long_unseen_is_a_new_one() -> None:
    """As in the detector, which forgets it after half a year."""
    late = Sessions.of([*VISITS[:2], _visit(9, 200.0, "phone")])
    assert _novelty(with_signals(late, ENCODING, IDLE_MS))[-2:] == [UNKNOWN, UNKNOWN]


def test_a_changed_attack_is_seen_in_its_accounts_history() -> None:
    """Unchanged, it has the very signals that it had, whatever else its account did meanwhile."""
    whole = lived(1_000, 3, LivesBehaviour(attack_rate=0.1), Signals(DEFAULT_SIGNALS).fields)
    seen = after_warm_up(whole, DEFAULT_SIGNALS, IDLE_MS, keeps_fields=True)
    attacks = np.flatnonzero(seen.labels == 1)[:50]
    encoding = Encoding(whole.names, 4, signals=DEFAULT_SIGNALS)
    alone = Sessions.of(list(seen.take(attacks).rows()))
    again = in_history(whole, alone, encoding, IDLE_MS)
    assert len(again) == 50
    expected = seen.take(attacks).signals
    assert again.signals is not None
    assert expected is not None
    assert np.array_equal(again.signals, expected)


def test_a_typical_account_takes_256_bytes() -> None:
    """Of the signals by default, after two months of life; and none can take more than 1 KiB."""
    signals = Signals(DEFAULT_SIGNALS)
    stream = lives.sessions(days=60, customers=150, seed=4, start_ms=BEGIN_MS)
    profiles: dict[str, Profile] = {}
    for begins_ms, session in stream:
        profile = profiles.setdefault(session.account_id, Profile(signals))
        gap_ms = None
        for event in session.events(BEGIN_MS + begins_ms):
            fields = [
                event.amount if field == "amount" else event.attributes.get(field.removeprefix("attributes."))
                for field in signals.fields
            ]
            tag = tag_of(event.session_id)
            profile.observe(tag, event.account_id, event.action, event.occurred_at_ms, gap_ms, tuple(fields))
            gap_ms = 0
    assert np.median([len(profile.packed()) for profile in profiles.values()]) <= 256
    assert largest_bytes(signals) <= 1_024


EVENTS = [
    {
        "session_id": "s",
        "account_id": "a",
        "action": "PAY",
        "occurred_at_ms": BEGIN_MS + number,
        "label": 0,
        "amt": amount,
        "attributes": {"device": device, "flag": True},
    }
    for number, (amount, device) in enumerate([(1.5, "x"), (None, "y"), (20, None)])
]
DESCRIBED = {
    "fields": {"amount": "amt"},
    "signals": [
        {"name": "amount", "kind": "magnitude", "of": "amount", "bounds": [10]},
        {"name": "device", "kind": "novelty", "of": "attributes.device", "bounds": [DAY_MS]},
        {"name": "flag", "kind": "level", "of": "attributes.flag", "values": ["true"]},
    ],
}
VALUES = {
    "amount": [1.5, None, 20.0],
    "attributes.device": ["x", "y", None],
    "attributes.flag": ["true"] * 3,
}


def _read(path: Path) -> dict[str, list[object]]:
    return {
        name: column.tolist() for name, column in load(path, described(DESCRIBED)).sessions.fields.items()
    }


def test_every_source_gives_the_same_fields(tmp_path: Path) -> None:
    """Of events and of whole sessions, in columns, nested or with a dot in their name; a CSV has texts."""
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, EVENTS)))
    assert _read(tmp_path / "events.jsonl") == VALUES
    pl.DataFrame(EVENTS).write_parquet(tmp_path / "events.parquet")
    assert _read(tmp_path / "events.parquet") == VALUES
    whole = {
        "session_id": "s",
        "account_id": "a",
        "actions": ["PAY"] * 3,
        "timestamps_ms": [BEGIN_MS, BEGIN_MS + 1, BEGIN_MS + 2],
        "label": 0,
        "amt": [1.5, None, 20],
        "attributes": {"device": ["x", "y", None], "flag": True},
    }
    (tmp_path / "sessions.jsonl").write_text(json.dumps(whole))
    assert _read(tmp_path / "sessions.jsonl") == VALUES
    flat = pl.DataFrame(EVENTS).with_columns(
        pl.col("attributes").struct.field("device").alias("attributes.device"),
        pl.lit("true").alias("attributes.flag"),
    )
    flat.drop("attributes").write_csv(tmp_path / "events.csv")
    assert _read(tmp_path / "events.csv") == VALUES | {"amount": ["1.5", None, "20.0"]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fields": {"amuont": "amt"}}, "says fields.amuont, which no signal reads: amount was probably meant"),
        ({"fields": {"amount": 7}}, "fields.amount = 7: expected a column's name"),
        ({"signals": [{"name": "a", "kind": "level", "of": "amount", "valeus": []}]}, "values was probably meant"),
        ({"signals": [{"name": "a", "kind": "levle", "of": "amount"}]}, "level was probably meant"),
        ({"signals": [{"name": "a", "kind": "magnitude", "of": "amount"}]}, "has 0 bounds: expected some"),
        ({"fields": {"amount": "attributes.device.cost"}}, "attributes.device.cost: expected no field within"),
        ({"signals": [
            {"name": str(n), "kind": "novelty", "of": f"attributes.{n}", "bounds": [1], "most": 32} for n in range(5)
        ], "fields": {}}, "profile of an account takes up to 1605 bytes: expected at most 1024"),
    ],
)  # fmt: skip
def test_what_a_description_gets_wrong_is_told(tmp_path: Path, changes: dict[str, object], told: str) -> None:
    """With what was seen, and what was probably meant."""
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, EVENTS)))
    with pytest.raises(DataError, match=told):
        load(tmp_path / "events.jsonl", described(DESCRIBED | changes))


def test_the_ready_made_declaration_is_the_default() -> None:
    """docs/examples/signals.toml is a whole description, and declares what lives are read by."""
    path = Path(__file__).parents[2] / "docs" / "examples" / "signals.toml"
    assert read_description(path) == Description(signals=DEFAULT_SIGNALS)


def test_what_signals_read_is_told(tmp_path: Path) -> None:
    """Of each field how many events have it, a number or a text; then which signals are read, and that some lose histories."""
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, EVENTS)))
    assert (
        "signals read amount (amt): 2 of 3 events; attributes.device (attributes.device): 2 of 3 events; "
        "attributes.flag (attributes.flag): 3 of 3 events"
    ) in load(tmp_path / "events.jsonl", described(DESCRIBED)).told
    assert told_of_signals(Signals([DEVICE])) == [
        "reads the signals device (novelty); 20% of the accounts trained on lose their history again and again"
    ]
    assert told_of_signals(Signals([AMOUNT])) == ["reads the signals amount (magnitude)"]
    assert not told_of_signals(Signals(()))


def test_what_is_history_alone_is_told(tmp_path: Path) -> None:
    """Sessions without a label are counted with those that are read, and named as what they are."""
    events = [
        {
            "session_id": f"s{number}",
            "account_id": "a",
            "action": "PAY",
            "occurred_at_ms": BEGIN_MS,
            "label": label,
        }
        for number, label in enumerate([1, 0, None])
    ]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, events)))
    asked = {"unlabelled": "leave-out"}
    *_, told = load(tmp_path / "events.jsonl", described(DESCRIBED | asked)).told
    assert told == "3 sessions of 3 actions: 1 are attacks, 1 without a label are history alone"
    *_, told = load(tmp_path / "events.jsonl", described(asked)).told
    assert told == "2 sessions of 2 actions: 1 are attacks"


def test_what_the_source_lacks_is_told(tmp_path: Path) -> None:
    """A field that no event has is said; a column that was named must be there, and times, where there is history."""
    events = [{"session_id": "s", "action": "PAY", "label": 0, "occurred_at_ms": BEGIN_MS}]
    (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, events)))
    told = load(tmp_path / "events.jsonl", described(DESCRIBED)).told
    assert any("no event has amount (amt), attributes.device (attributes.device)" in one for one in told)
    assert any("no account is named" in one for one in told)
    pl.DataFrame(events).write_parquet(tmp_path / "events.parquet")
    with pytest.raises(DataError, match="there is no column amt"):
        load(tmp_path / "events.parquet", described(DESCRIBED))
    pl.DataFrame(events).drop("occurred_at_ms").write_parquet(tmp_path / "events.parquet")
    with pytest.raises(DataError, match="has no times, and signals"):
        load(tmp_path / "events.parquet", Description(signals=(DEVICE,)))


def test_descriptions_in_the_how_to_are_some() -> None:
    """Each of its pieces of TOML can be read."""
    page = Path(__file__).parents[2] / "docs" / "how-to" / "own-data.md"
    pieces = re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert [len(described(tomllib.loads(one)).signals) for one in pieces] == [0, 3]
