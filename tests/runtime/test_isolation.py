"""What can't be processed or published fails alone, on a real broker: the rest goes on, and it comes back once mended."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from kafka import TopicPartition
from onnx import TensorProto, helper, numpy_helper

from broker import Broker
from detector.contract.actions import Action
from detector.contract.alerts import Alert, encode_alert
from detector.contract.listings import AccountListing, Listing
from detector.model.artifact import load_model
from detector.runtime.config import DetectorConfig
from detector.runtime.listing import ListedAccounts
from detector.runtime.processing import processor_of
from detector.runtime.recovery import RecordRefusedError
from detector.runtime.replaying import batches_of_topic, replay
from detector.runtime.transaction import OutputRecord, Transactor
from tests.conftest import CreateTopic, UniqueName
from tests.model.models import VOCABULARY, WINDOW, metadata, with_canaries
from tests.runtime.conftest import SetTopic
from tests.runtime.stack import Stack, alerts_in, without_clock
from tests.runtime.test_end_to_end import records, sessions
from tests.runtime.test_redrive import event, headers_of, redrive
from trainer.training.export import OPSET, model_file

MakeStack = Callable[..., Stack]
POISON = Action.CHANGE_PASSWORD.value
LIMIT = "max.message.bytes"


def write_models(folder: Path) -> tuple[Path, Path]:
    """Write a model that answers NaN to every window with a changed password, and the same one mended.

    Their score is the sum of one risk an action: of a window of ten at most 0.7. All are multiples of 1/128, whose sums
    are exact: others differ in the last bit by the order that they are added up in, and that by the size of the batch.
    """
    paths = []
    for name, of_poison in (("broken", np.nan), ("mended", 1 / 128)):
        risk = np.full(len(VOCABULARY) + 1, 1 / 128, np.float32)
        risk[[0, 1 + VOCABULARY.index("TRANSFER_LARGE"), 1 + VOCABULARY.index(POISON)]] = (
            0,
            8 / 128,
            of_poison,
        )
        graph = helper.make_model(
            helper.make_graph(
                [
                    helper.make_node("Gather", ["risk", "actions"], ["of_actions"]),
                    helper.make_node("ReduceSum", ["of_actions", "axis"], ["score"], keepdims=0),
                ],
                "sum",
                [helper.make_tensor_value_info("actions", TensorProto.INT32, ["n", WINDOW])],
                [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
                [
                    numpy_helper.from_array(risk, "risk"),
                    numpy_helper.from_array(np.array([1], np.int64), "axis"),
                ],
            ),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=8,
        )
        told = with_canaries(graph, metadata(name=name, threshold=0.08))
        canaries = [one for one in told.canaries if not np.isnan(one.score)]
        assert canaries
        paths.append(folder / f"{name}.onnx")
        paths[-1].write_bytes(model_file(graph, msgspec.structs.replace(told, canaries=canaries)))
    return paths[0], paths[1]


def oracle(stack: Stack, path: Path) -> tuple[list[Alert], Counter[tuple[str, int]]]:
    """Return what an offline pass makes of the input: alerts, and the dead letters by reason and offset."""
    made = list(replay(batches_of_topic(stack.config), processor_of(load_model(path), stack.config)))
    return alerts_in(made), Counter((one.reason.value, one.offset) for each in made for one in each.letters)


def letters(stack: Stack) -> list[dict[str, str]]:
    """Return the headers of all dead letters."""
    return [headers_of(one) for one in stack.read(stack.config.dead_letter_topic)]


def test_a_model_that_answers_nan_costs_the_events_it_fails_on_alone(
    make_stack: MakeStack, tmp_path: Path
) -> None:
    """They are dead letters with the model's answer, a denied account's among them; the mended model scores them."""
    broken, mended = write_models(tmp_path)
    stack = make_stack(partitions=1)
    ListedAccounts(stack.config).publish([listing("denied")])
    log = list(records(sessions(220)))
    stack.publish(
        [
            *log[:300],
            event("d", 1, POISON, account_id="denied"),
            *log[300:],
            event("d", 2, "LOGIN", account_id="denied"),
        ]
    )
    with stack.worker("--model", str(broken)):
        stack.wait_until_processed()
    found, failed = stack.alerts(), letters(stack)
    expected, letters_expected = oracle(stack, broken)
    assert without_clock(found) == without_clock(expected) != []
    assert [one.session_id for one in found if one.cause.value == "deny_list"] == ["d"]
    assert {one["dlq-reason"] for one in failed} == {"processing"}
    assert all("scored nan: expected a number from 0 to 1" in one["dlq-detail"] for one in failed)
    assert Counter((one["dlq-reason"], int(one["dlq-source-offset"])) for one in failed) == letters_expected

    assert redrive(stack).startswith(f"{len(failed)} redriven")
    with stack.worker("--model", str(mended)):
        stack.wait_until_processed()
    assert len(letters(stack)) == len(failed)


def listing(account: str) -> AccountListing:
    """Deny an account."""
    return AccountListing(account_id=account, listing=Listing.DENY)


def test_a_failure_can_be_told_to_stop_the_worker(make_stack: MakeStack, tmp_path: Path) -> None:
    """With --on-processing-failure stop it ends with exit code 1 and the place, and nothing of the batch is committed."""
    broken, mended = write_models(tmp_path)
    stack = make_stack(partitions=1)
    stack.publish([event("s", 0, "LOGIN"), event("s", 1, POISON), event("s", 2, "TRANSFER_LARGE")])
    told = stack.start("--model", str(broken), "--on-processing-failure", "stop").last_words()
    assert "scored nan" in told
    assert "--on-processing-failure" in told
    assert stack.read(stack.config.dead_letter_topic) == []
    with stack.worker("--model", str(mended)):
        stack.wait_until_processed()
    assert without_clock(stack.alerts()) == without_clock(oracle(stack, mended)[0])


@pytest.mark.parametrize("topic", ["alerts_topic", "dead_letter_topic"])
def test_what_a_topic_refuses_fails_alone(make_stack: MakeStack, set_topic: SetTopic, topic: str) -> None:
    """An event whose alert its topic refuses is a dead letter, a letter that is refused goes without its value; the rest goes on."""
    stack = make_stack(partitions=1)
    attack = ("LOGIN", "ADD_RECIPIENT", "TRANSFER_LARGE")
    large = "s" * 250
    garbage = (b"a", b"x" * 10_000)
    log = [
        one
        for name in ("small", large, "last")
        for one in (event(name, number, action) for number, action in enumerate(attack))
    ]
    stack.publish([log[0], garbage, *log[1:]] if topic == "dead_letter_topic" else log)
    least_bytes = min(len(encode_alert(alert)) for alert in stack.expected()[0])
    # Headers and key are some 400 bytes more with a short session id, and the other alert as a whole some 1,700.
    set_topic(getattr(stack.config, topic), LIMIT, str(least_bytes + 1_000))
    with stack.worker():
        stack.wait_until_processed()
    failed = stack.read(stack.config.dead_letter_topic)
    told = [headers_of(one) for one in failed]
    assert {one.value for one in failed} == {None}
    if topic == "dead_letter_topic":
        (letter,) = told
        assert (letter["dlq-reason"], letter["dlq-value-bytes"]) == ("malformed", "10000")
        assert letter["dlq-source-offset"] == "1"
        assert without_clock(stack.alerts()) == without_clock(stack.expected()[0]) != []
    else:
        assert {one["dlq-reason"] for one in told} == {"production"}
        assert all(stack.config.alerts_topic in one["dlq-detail"] for one in told)
        # Without the one that decides, the next one of the session does.
        assert [one["dlq-source-offset"] for one in told] == ["4", "5"]
        assert [alert.session_id for alert in stack.alerts()] == ["small", "last"]
        set_topic(stack.config.alerts_topic, LIMIT, "1000000")
        assert redrive(stack).startswith("2 redriven")
        with stack.worker():
            stack.wait_until_processed()
        assert [alert.session_id for alert in stack.alerts()] == ["small", "last", large]


def test_all_that_a_topic_refuses_is_left_out_at_once(make_stack: MakeStack, set_topic: SetTopic) -> None:
    """Each attempt takes a new producer: a batch of many refused letters takes one, not one a letter."""
    stack = make_stack(partitions=1)
    set_topic(stack.config.dead_letter_topic, LIMIT, "20000")
    garbage = [(b"k", b"x" * size) for size in (30_000, 15_000, 50_000, 40_000, 30_001, 60_000)]
    stack.publish([event("s", 0, "LOGIN"), *garbage, event("s", 1, "LOGIN")])
    with stack.worker() as worker:
        stack.wait_until_processed()
        assert worker.log.read_text().count("RecordRefusedError") == 1
    sizes = [
        None if one.value is None else len(one.value) for one in stack.read(stack.config.dead_letter_topic)
    ]
    assert sizes == [None, 15_000, None, None, None, None]


def test_who_is_refused_is_told_from_who_was_still_to_be_sent(
    kafka: Broker, create_topic: CreateTopic, unique_name: UniqueName
) -> None:
    """The first refusal fails what waits with the same exception: alerts in a batch to be split, say, which fit."""
    alerts, letters = (
        create_topic(name, partitions=1, configs={LIMIT: "500000"}) for name in ("alerts", "letters")
    )
    source = TopicPartition("actions", 0)
    sound = [OutputRecord(alerts, b"s", b"a" * 30_000, [], 0, (source, number)) for number in range(30)]
    large = [
        OutputRecord(letters, b"k", b"x" * size, [], 0, (source, size)) for size in (600_000, 100, 700_000)
    ]
    config = DetectorConfig(bootstrap_servers=kafka.bootstrap_servers)
    with Transactor(config, unique_name()) as transactor, pytest.raises(RecordRefusedError) as refused:
        transactor.commit([*sound, *large], {}, None)
    assert refused.value.least_bytes.keys() == {letters}
    assert refused.value.least_bytes[letters] in {large[0].size_bytes, large[2].size_bytes}
