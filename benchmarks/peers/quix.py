"""The same work in Quix Streams: a window a session in its state, every event scored, alerts, exactly once.

    python quix.py BOOTSTRAP_SERVERS TOPIC GROUP EVENTS MODEL COMMIT_EVERY

Prints events a second, from the first event until the last checkpoint is committed: without it, the state and alerts
of the last seconds would be free. COMMIT_EVERY is the most events a checkpoint, 0 for the library's default, 5 s. Runs in an environment of its own and imports nothing of ours.
"""

import json
import logging
import sys
import tempfile
import time
from typing import Any

import numpy as np
import onnxruntime
from quixstreams import Application, State
from quixstreams.checkpointing import Checkpoint

SERVERS, TOPIC, GROUP, EVENTS, MODEL, COMMIT_EVERY = sys.argv[1:7]
WINDOW = 10

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
model = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
metadata = next(
    json.loads(text) for text in model.get_modelmeta().custom_metadata_map.values() if "vocabulary" in text
)
codes = {action: code for code, action in enumerate(metadata["vocabulary"], start=1)}
times_s: list[float] = []
checkpoints_s: list[float] = []
commit = Checkpoint.commit


def timed_commit(checkpoint: Checkpoint, *arguments: Any, **options: Any) -> None:
    """Commit, and note when it was done."""
    commit(checkpoint, *arguments, **options)
    checkpoints_s.append(time.monotonic())


Checkpoint.commit = timed_commit


def score(event: dict[str, Any], state: State) -> dict[str, Any]:
    """Score the session's last actions."""
    actions = [*state.get("actions", []), codes[event["action"]]][-WINDOW:]
    blocked = state.get("blocked", False)
    window = np.zeros((1, WINDOW), np.int32)
    window[0, : len(actions)] = actions
    risk = float(model.run(["score"], {"actions": window})[0][0])
    alert = risk >= metadata["threshold"] and not blocked
    state.set("actions", [] if event["action"] == "LOGOUT" else actions)
    state.set("blocked", (blocked or alert) and event["action"] != "LOGOUT")
    times_s.append(time.monotonic())
    if len(times_s) == int(EVENTS):
        application.stop()  # commits what is open
    return {"session_id": event["session_id"], "score": risk, "alert": alert}


with tempfile.TemporaryDirectory() as folder:
    application = Application(
        broker_address=SERVERS,
        consumer_group=GROUP,
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_every=int(COMMIT_EVERY),
        state_dir=folder,
        loglevel=logging.ERROR,
    )
    rows = application.dataframe(application.topic(TOPIC, value_deserializer="json"))
    rows = rows.apply(score, stateful=True)
    rows = rows[rows["alert"]]
    rows.to_topic(application.topic(f"{GROUP}-alerts", value_serializer="json"))
    application.run(timeout=120)
if len(times_s) < int(EVENTS) or not checkpoints_s or checkpoints_s[-1] < times_s[-1]:
    sys.exit(
        f"{len(times_s)} events and {len(checkpoints_s)} checkpoints: expected {EVENTS} events, committed"
    )
sys.stdout.write(f"{len(times_s) / (checkpoints_s[-1] - times_s[0])}\n")
