"""Reads the alerts and acts on each once: what a service of your own needs, with kafka-python and nothing of ours."""  # noqa: INP001

import json
import os

import click
from kafka import KafkaConsumer


@click.command()
@click.option("--topic", envvar="DETECTOR_ALERTS_TOPIC", default="session-alerts", show_default=True)
@click.option("--max", "most", type=int, help="End after so many alerts.")
def main(topic: str, most: int | None) -> None:
    """Print what would be done about each alert."""
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
        group_id="account-locks",
        isolation_level="read_committed",  # else alerts of aborted transactions are seen, too
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    done: set[str] = set()  # in life a unique column of your database
    for number, record in enumerate(consumer, start=1):
        alert = json.loads(record.value)
        if alert["alert_id"] not in done:
            done.add(alert["alert_id"])
            verb = "lock" if alert["decision"] == "BLOCK" else "look at"
            click.echo(
                f"{verb} session {alert['session_id']} of {alert['account_id']}: {alert['explanation']}"
            )
        consumer.commit()  # after acting: a crash in between repeats the alert, and its id tells
        if number == most:
            break
    consumer.close()


if __name__ == "__main__":
    main()
