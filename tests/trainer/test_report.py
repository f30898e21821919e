"""The report: one card, as Markdown and as a page, that says of which data it is."""

from pathlib import Path

import numpy as np
import pytest

from detector.core.evidence import Evidence
from detector.core.signals import Kind, Signal
from tests.model.models import metadata
from trainer.data.sessions import Session, Sessions
from trainer.data.windows import pack
from trainer.evaluation.figures import Figures, evaluate
from trainer.evaluation.report import Section, model_card, write_report
from trainer.evaluation.scoring import Scored
from trainer.training.defaults import encoding_for


@pytest.fixture(scope="module")
def scored() -> Scored:
    """Sessions whose attacks all score above the lawful ones, one family with a name like markup."""
    sessions = Sessions.of(
        [
            Session(
                session_id=str(number),
                actions=("A", "B"),
                label=number % 2,
                type="<b>x|y" if number % 2 else "",
            )
            for number in range(40)
        ]
    )
    packed = pack(sessions, encoding_for(sessions), 1_000)
    return Scored(sessions, packed, np.repeat(np.arange(40) % 2, 2).astype(np.float32) * 0.5 + 0.25)


def _written(
    tmp_path: Path, scored: Scored, figures: Figures, **training: int | str
) -> tuple[bytes, str, str]:
    said = metadata(training=training, evidence=Evidence(window_weight=1, bias=0, logit_weight=1, drift=0))
    more = [Section(("more", "tables"), [("than", "these")])]
    png, page, card = write_report(tmp_path / "model.onnx", said, figures, scored, more)
    return png.read_bytes(), page.read_text(), card.read_text()


def test_page_and_card_say_the_same(tmp_path: Path, scored: Scored) -> None:
    """Each table is a table in both, headings are headings, and a name is text, whatever it is made of."""
    png, page, card = _written(tmp_path, scored, evaluate(scored, 0.5))
    assert png.startswith(b"\x89PNG")
    assert page.count("<table>") == card.count("\n|---|") == 4
    assert "<h2>Figures</h2>" in page
    assert "## Figures\n\n|" in card
    assert "&lt;b&gt;x|y" in page
    assert r"| <b>x\|y | 20 |" in card
    assert "|---" not in page
    assert "## " not in page
    for told in ("Simulated by the preset", "adds up what they come to", "base rate above"):
        assert told in page
        assert told in card


def test_the_card_names_its_data(tmp_path: Path, scored: Scored) -> None:
    """Of one's own data: the source, how much of what is labelled, and how it was split."""
    told: dict[str, int | str] = {"source": "a.parquet", "labelled": 4_000, "attacks": 40, "split_by": "time"}
    *_, card = _written(tmp_path, scored, evaluate(scored, 0.5), unit="session", **told)
    assert (
        "a.parquet: 4,000 labelled sessions, 40 of them attacks, split by time. SHA-256 of the sessions"
        in card
    )


def test_the_card_says_what_the_model_reads(scored: Scored) -> None:
    """Each signal with its kind and field, and whether it knows what an account did before; or that it reads none."""
    figures = evaluate(scored, 0.5)

    def card(*signals: Signal) -> str:
        pieces = model_card(metadata(signals=signals), figures)
        return "\n".join(
            "|".join(row) for one in pieces for row in (one.rows if isinstance(one, Section) else [one])
        )

    amount = Signal(name="size", kind=Kind.MAGNITUDE, of="amount", bounds=(10.0,))
    device = Signal(name="known device", kind=Kind.NOVELTY, of="attributes.device", bounds=(10.0,))
    plain, within, known = card(), card(amount), card(amount, device)
    assert (
        "actions and their times alone, neither amounts nor devices, and nothing of earlier sessions" in plain
    )
    assert "size|magnitude|amount" in within
    assert "action, time, amount, and nothing else; nothing of earlier sessions" in within
    assert "known device|novelty|attributes.device" in known
    assert "and the signals below" in known
    assert "action, time, amount, attributes.device, and nothing else; of earlier sessions what the" in known
    assert "alone" not in within + known


def test_page_and_card_name_the_part(tmp_path: Path, scored: Scored) -> None:
    """Figures on what was learned from are not called held out, in the file as in the terminal."""
    assert "on the sessions held out" in _written(tmp_path, scored, evaluate(scored, 0.5))[1]
    for told in _written(tmp_path, scored, evaluate(scored, 0.5, part="of the part train"))[1:]:
        assert "on the sessions of the part train" in told
        assert "held out" not in told
