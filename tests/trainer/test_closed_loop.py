"""From alert to verdict and back: a family of attacks that the model does not know is caught after the guide's retraining.

Everything runs as in production, by its own command on a real broker: the simulator, the detector, the relay, the guide's
script, the change of models. What the training learns is what analysts and customers say, and nothing else.
"""

import hashlib
import re
import shutil
from collections.abc import Collection
from pathlib import Path

import pytest

from broker import Broker
from detector.contract.alerts import Decision
from detector.contract.events import decode_event
from detector.contract.labels import SessionLabel, labels_of
from detector.contract.verdicts import Finding, Verdict, encode_verdict
from detector.model.artifact import load_model
from tests.conftest import UniqueName
from tests.runtime.stack import Stack, alerts_of, exposed
from tests.runtime.test_verdicts import figures_of, publish, where
from tests.runtime.test_verdicts import run as run_detector
from tests.trainer.test_retraining import ROOT, python, run
from tests.waiting import wait_for

UNKNOWN = "split"
"""What was taken by many small transfers, which a model that has never seen it takes for bills."""
BUDGET = 0.005
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
Truth = dict[str, SessionLabel]


class Share:
    """How many of some sessions were blocked, and how many were blocked or challenged."""

    def __init__(self, of: Collection[str], blocked: Collection[str], alerted: Collection[str]) -> None:
        self.count = len(of)
        self.blocked, self.alerted = (len(set(of) & set(one)) / len(of) for one in (blocked, alerted))

    def __str__(self) -> str:
        """Return the shares in per cent."""
        return f"{self.count:6,} sessions: {self.blocked:7.2%} blocked, {self.alerted:7.2%} alerted"


class Loop:
    """A detector in service, and what happens around it.

    Args:
        stack: its topics.
        folder: for files.
    """

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self._folder = stack, folder

    def traffic(self, sessions: int, seed: int, begins: str) -> Truth:
        """Let customers and attackers act, one attack in ten sessions; return the truth, which nobody knows yet."""
        labels, config = self._folder / f"{seed}.jsonl", self.stack.config
        done = run(
            *python("producer", "simulate", "--preset", "realistic", "--attack-rate", "0.1"),
            *("--sessions", str(sessions), "--live-sessions", "5", "--seed", str(seed)),
            *("--start-time", begins, "--labels", str(labels)),
            *("--topic", config.input_topic, "--bootstrap-servers", config.bootstrap_servers),
            cwd=self._folder,
        )
        assert done.returncode == 0, done.stderr
        self.stack.wait_until_processed()
        with labels.open("rb") as lines:
            return labels_of(lines, labels.name)

    def verdicts(self, truth: Truth) -> list[Verdict]:
        """Return what has been found out by the last event.

        Analysts look at each alert, within an hour. Of the frauds that raised none, nineteen customers of twenty find out, one
        to thirteen days later.
        """
        ends, now_ms = dict[str, tuple[str, int]](), 0
        for record in self.stack.read(self.stack.config.input_topic):
            event = decode_event(record.value)
            ends[event.session_id] = event.account_id, event.occurred_at_ms
            now_ms = max(now_ms, event.occurred_at_ms)
        alerts = {one.session_id: one for one in self.stack.alerts()}
        given = []
        for session_id, label in truth.items():
            account_id, ended_ms = ends[session_id]
            drawn = int(hashlib.sha256(session_id.encode()).hexdigest(), 16)
            alert = alerts.get(session_id)
            if alert is None and (not label.label or drawn % 20 == 0):
                continue
            decided_ms = (
                ended_ms + (1 + drawn % 13) * DAY_MS if alert is None else alert.occurred_at_ms + HOUR_MS
            )
            if decided_ms > now_ms:
                continue
            given.append(
                Verdict(
                    verdict_id=f"on-{session_id}",
                    account_id=account_id,
                    session_id=session_id,
                    alert_id=None if alert is None else alert.alert_id,
                    verdict=Finding.FRAUD if label.label else Finding.LAWFUL,
                    by="customer" if alert is None else "analyst",
                    decided_at_ms=decided_ms,
                )
            )
        return given

    def shares(self, truth: Truth, topic: str = "") -> tuple[Share, Share, Share]:
        """Return what became of the unknown family, of the others, and of lawful sessions."""
        alerts = alerts_of(self.stack.config, topic)
        blocked = {one.session_id for one in alerts if one.decision is Decision.BLOCK}
        alerted = {one.session_id for one in alerts}
        parts = (
            [one for one, label in truth.items() if label.label and label.type == UNKNOWN],
            [one for one, label in truth.items() if label.label and label.type != UNKNOWN],
            [one for one, label in truth.items() if not label.label],
        )
        family, others, lawful = (Share(of, blocked, alerted) for of in parts)
        return family, others, lawful


def tell(what: str, shares: tuple[Share, Share, Share]) -> None:
    """Print figures, for the guide."""
    for name, share in zip((UNKNOWN, "other attacks", "lawful"), shares, strict=True):
        print(f"{what:38} {name:14} {share}")  # noqa: T201  pytest -s shows them


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_family_that_the_model_does_not_know_is_caught_after_the_guides_retraining(
    kafka: Broker, unique_name: UniqueName, tmp_path: Path
) -> None:
    """Alerts and late reports become verdicts, verdicts labels, and the new model, once in service, catches the family.

    In shadow both models judge the same sessions. The new one keeps the budget of the one it replaces, and what that
    caught is still caught.
    """
    model, shadow = tmp_path / "model.onnx", tmp_path / "shadow.onnx"
    trained = run(
        *python("trainer", "train", "--preset", "realistic", "--leave-out", UNKNOWN, "--sessions", "12000"),
        *("--steps", "1000", "--batch-size", "128", "--target-fpr", str(BUDGET)),
        *("--no-report", "--out", str(model)),
        cwd=tmp_path,
    )
    assert trained.returncode == 0, trained.stderr
    stack = Stack(
        kafka.bootstrap_servers,
        unique_name("loop"),
        tmp_path,
        model=str(model),
        challenge_threshold=-1.0,
        model_watch_ms=200,
        metrics_port=0,
    )
    loop, config = Loop(stack, tmp_path), stack.config

    with stack.worker() as worker:
        truth = loop.traffic(16_000, 11, "2025-01-06")
        before = loop.shares(truth)
        verdicts = loop.verdicts(truth)
        by_hand, *others = verdicts
        said = run_detector(
            "verdict",
            *where(config, "alerts_topic"),
            *("--session", by_hand.session_id, "--account", by_hand.account_id),
            *("--by", "analyst", by_hand.verdict),
        )
        assert said.returncode == 0, said.stderr
        publish(config, [(one.account_id.encode(), encode_verdict(one)) for one in others])
        relayed = run_detector("relay-verdicts", *where(config, "input_topic"), "--max", str(len(verdicts)))
        assert relayed.stdout == f"{len(verdicts)} verdicts relayed, 0 refused\n", relayed.stderr
        stack.wait_until_processed()
        live = figures_of(worker)
    tell("the model that does not know it", before)
    family, known, lawful = before
    assert family.blocked < 0.25
    assert known.blocked > 0.6
    assert lawful.blocked < 2 * BUDGET
    assert live["BLOCK", "FRAUD"] > 9 * live["BLOCK", "LAWFUL"]

    retrained = run(
        *("sh", str(ROOT / "docs/examples/retrain.sh"), str(model), str(shadow)),
        cwd=tmp_path,
        KAFKA_BOOTSTRAP_SERVERS=config.bootstrap_servers,
        DETECTOR_INPUT_TOPIC=config.input_topic,
        DETECTOR_VERDICTS_TOPIC=config.verdicts_topic,
    )
    assert retrained.returncode == 0, retrained.stderr
    assert f"{len(verdicts):,} sessions have verdicts" in retrained.stderr
    old, new = (load_model(one).reference for one in (model, shadow))
    assert re.fullmatch("[0-9a-f]{8}", old.version)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", new.version)
    assert old.name == new.name
    assert f"verdicts in the history: on {len(verdicts):,} sessions; they are the labels" in retrained.stdout
    print(retrained.stdout)  # noqa: T201

    with stack.worker("--shadow-model", str(shadow)) as worker:
        truth = loop.traffic(8_000, 12, "2025-06-02")
        in_service, in_shadow = loop.shares(truth), loop.shares(truth, f"{config.alerts_topic}.shadow")
        tell("in service, the old one", in_service)
        tell("in shadow, the new one", in_shadow)

        shutil.copy(model, tmp_path / "previous.onnx")
        shutil.copy(shadow, tmp_path / "incoming.onnx")
        (tmp_path / "incoming.onnx").replace(model)
        wait_for(
            lambda: [one.labels["sha256"] for one in exposed(worker, "detector_model_info")] == [new.sha256],
            "the new model in service",
        )
        truth = loop.traffic(8_000, 13, "2025-09-01")
        after = loop.shares(truth)
    tell("in service, the new one", after)
    for found in (in_shadow, after):
        assert found[0].blocked > in_service[0].blocked + 0.4
        assert found[1].blocked > in_service[1].blocked - 0.05
        assert found[2].blocked < 3 * BUDGET
