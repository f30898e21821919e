"""What one writes first: kafka-python, json, and `model.predict` for every event. At least once, state in a dict.

    python newcomer.py BOOTSTRAP_SERVERS TOPIC GROUP EVENTS MODEL

Prints events a second from the first to the last. The network has the seed model's shape and untrained weights.
"""

import json
import sys
import time
from collections import defaultdict

import numpy as np
import tensorflow as tf
from kafka import KafkaConsumer, KafkaProducer

SERVERS, TOPIC, GROUP, EVENTS, _MODEL = sys.argv[1:6]
ACTIONS = [
    "LOGIN", "VIEW_BALANCE", "CHANGE_PASSWORD", "ADD_RECIPIENT", "TRANSFER_SMALL", "TRANSFER_LARGE", "LOGOUT"
]  # fmt: skip

model = tf.keras.Sequential(
    [
        tf.keras.layers.Embedding(9, 32),
        tf.keras.layers.LSTM(64),
        tf.keras.layers.Dense(1, activation="sigmoid"),
    ]
)
model.predict(np.zeros((1, 10), np.int32), verbose=0)
consumer = KafkaConsumer(TOPIC, bootstrap_servers=SERVERS, group_id=GROUP, auto_offset_reset="earliest")
producer = KafkaProducer(bootstrap_servers=SERVERS)
sessions: dict[str, list[int]] = defaultdict(list)
seen, began_s = 0, 0.0
for record in consumer:
    event = json.loads(record.value)
    window = sessions[event["session_id"]]
    window.append(ACTIONS.index(event["action"]) + 1 if event["action"] in ACTIONS else 8)
    padded = (window[-10:] + [0] * 10)[:10]
    risk = float(model.predict(np.array([padded]), verbose=0)[0, 0])
    if risk >= 0.8:  # noqa: PLR2004
        producer.send(
            f"{GROUP}-alerts", json.dumps({"session_id": event["session_id"], "score": risk}).encode()
        )
    seen += 1
    if seen == 1:
        began_s = time.monotonic()
    if seen == int(EVENTS):
        break
print((seen - 1) / (time.monotonic() - began_s))
