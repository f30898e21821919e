"""Lag: what waits is seen from outside, above all when nothing is committed."""

import urllib.request
from collections.abc import Callable

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from prometheus_client.parser import text_string_to_metric_families

from tests.runtime.stack import Stack, Worker, metrics_address, wait_for
from tests.runtime.test_end_to_end import records, sessions


def exposed(worker: Worker, name: str) -> float | None:
    """Return the sum of a series over its labels, None if there is none."""
    with urllib.request.urlopen(f"http://{metrics_address(worker)}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        found = [sample.value for family in families for sample in family.samples if sample.name == name]
    return sum(found) if found else None


def test_what_waits_is_exposed_while_no_commit_succeeds(make_stack: Callable[..., Stack]) -> None:
    """A partition shows itself once restored, and events whose transaction fails count as lag."""
    stack = make_stack(partitions=1, metrics_port=0)
    admin = KafkaAdminClient(bootstrap_servers=stack.config.bootstrap_servers)

    def clean_up_by(value: str) -> None:
        topic = ConfigResource(ConfigResourceType.TOPIC, stack.config.state_topic, {"cleanup.policy": value})
        admin.alter_configs([topic])

    with stack.worker() as worker:
        wait_for(lambda: exposed(worker, "detector_lag_events") == 0, "the partition")
        clean_up_by("compact")  # which takes no record without a key, as those of the state are
        published = stack.publish(records(sessions(20)))
        wait_for(lambda: exposed(worker, "detector_lag_events") == published, "what waits")
        assert exposed(worker, "detector_scores_total") == 0
        worker.kill()
    clean_up_by("delete")
    with stack.worker() as mended:
        wait_for(lambda: exposed(mended, "detector_scores_total") == published, "the end of it")
        assert exposed(mended, "detector_lag_events") == 0
    admin.close()
