"""The Kubernetes manifests fit Kubernetes' own schemas, the detector's settings, and each other."""

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import PurePosixPath
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from detector.cli import run
from detector.connection import KafkaSecurity
from detector.runtime.config import DetectorConfig
from detector.runtime.settings import environment_variable_of
from detector.runtime.transaction import _CLOSE_TIMEOUT_S, _FLUSH_TIMEOUT_S
from detector.verdicts import relay_verdicts
from tests.deploy.compose import ROOT
from tests.deploy.test_compose import config_of

FOLDER = ROOT / "deploy" / "kubernetes"
OLDEST, NEWEST = "1.27", kubernetes_validate.latest_version()
OF_KEDA = "keda.sh/v1alpha1"
OF_KAFKA_SCALER = {
    *(
        "bootstrapServers",
        "consumerGroup",
        "topic",
        "lagThreshold",
        "offsetResetPolicy",
        "allowIdleConsumers",
    ),
    *("sasl", "tls"),
}
"""Of the parameters that KEDA 2.21.0 reads in pkg/scalers/kafka_scaler.go, those that are used."""
KEDA_SCHEMAS: dict[str, Any] = json.loads(
    (ROOT / "tests/deploy/vendored/keda-2.21.0.schemas.json").read_text(encoding="utf-8")
)

Document = dict[str, Any]


def documents() -> Iterator[Document]:
    """Yield every manifest that the kustomization lists."""
    for name in yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]:
        yield from yaml.safe_load_all((FOLDER / name).read_text())


def one(kind: str) -> Document:
    """Return the only manifest of a kind."""
    (found,) = (document for document in documents() if document["kind"] == kind)
    return found


WORKLOADS = ("StatefulSet", "Deployment")
"""Those of the workers and of the relay."""


def container(kind: str = "StatefulSet") -> Document:
    """Return the container of a workload, the detector's by default."""
    (found,) = one(kind)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_every_file_is_listed() -> None:
    """No manifest lies about that nobody applies."""
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(
        path.name for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml"
    )


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize(
    "document",
    [document for document in documents() if document["apiVersion"] != OF_KEDA],
    ids=lambda document: document["kind"],
)
def test_manifests_fit_the_schemas_of_kubernetes(document: Document, version: str) -> None:
    """Each is valid, with no field unknown, for the oldest and the newest version that is meant. KEDA's are not its."""
    kubernetes_validate.validate(document, version, strict=True)


def test_a_wrong_manifest_is_noticed() -> None:
    """The check above can fail: a field that does not exist is refused."""
    document = one("StatefulSet")
    document["spec"]["template"]["spec"]["containers"][0]["readinessProb"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, NEWEST, strict=True)


def strict(schema: Any) -> Any:
    """Return a schema of a custom resource that refuses unknown fields, as an API server does when asked to."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema:
        closed.setdefault("additionalProperties", False)
    return closed


@pytest.mark.parametrize("kind", KEDA_SCHEMAS)
def test_manifests_fit_the_schemas_of_keda(kind: str) -> None:
    """Both resources are valid by KEDA's own definitions, and one with a field that it does not know is not."""
    document = one(kind)
    assert document["apiVersion"] == OF_KEDA
    validator = jsonschema.Draft202012Validator(strict(KEDA_SCHEMAS[kind]))
    validator.validate(document)
    document["spec"]["minReplicas"] = 2
    assert not validator.is_valid(document)


def test_the_settings_are_the_detectors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable is one of the detector's or of its connection, and both take the values."""
    data = one("ConfigMap")["data"]
    ours = {environment_variable_of(field) for field in fields(DetectorConfig)}
    detector = {name: value for name, value in data.items() if name in ours}
    assert all(name.startswith("KAFKA_") for name in data.keys() - ours)
    config = config_of(run, detector, monkeypatch)
    assert not config.create_topics
    (port,) = container()["ports"]
    assert config.metrics_port == port["containerPort"]
    (mount,) = (volume for volume in container()["volumeMounts"] if volume["name"] == "credentials")
    files = [PurePosixPath(value) for name, value in data.items() if name.endswith("_FILE")]
    assert len(files) == 3
    assert all(path.parent == PurePosixPath(mount["mountPath"]) for path in files)
    monkeypatch.setattr("os.access", lambda *_: True)  # the files are the pod's
    security = KafkaSecurity.from_environment(data)
    assert security.protocol.tls
    assert security.mechanism is not None


def test_the_relay_reads_the_detectors_settings_under_a_name_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Topics, brokers and port are the detector's; user and password are another's, with fewer rights."""
    relay, data = container("Deployment"), one("ConfigMap")["data"]
    assert relay["command"] == ["python", "-m", "detector", "relay-verdicts"]
    config = config_of(relay_verdicts, data, monkeypatch)
    assert (config.input_topic, config.verdicts_topic) == ("session-actions", "session-verdicts")
    assert not config.create_topics
    assert [config.metrics_port] == [port["containerPort"] for port in relay["ports"]]
    (user,) = relay["env"]
    assert user["name"] == "KAFKA_SASL_USERNAME"
    assert user["value"] != data["KAFKA_SASL_USERNAME"]
    secrets = [
        volume["secret"]["secretName"]
        for kind in WORKLOADS
        for volume in one(kind)["spec"]["template"]["spec"]["volumes"]
        if "secret" in volume
    ]
    assert len(set(secrets)) == 2


def test_no_secret_is_in_a_manifest() -> None:
    """Secrets are mounted from Secrets that the operator makes: no manifest holds one."""
    assert not [document for document in documents() if document["kind"] == "Secret"]
    assert not [name for name in one("ConfigMap")["data"] if name.endswith(("PASSWORD", "TOKEN", "KEY"))]


@pytest.mark.parametrize("kind", WORKLOADS)
def test_pods_keep_to_the_restricted_standard(kind: str) -> None:
    """Pod Security Standards, restricted: no root, no privileges, no capabilities, default seccomp; nothing writable."""
    pod, detector = one(kind)["spec"]["template"]["spec"], container(kind)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 10001
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "USER 10001:10001" in (ROOT / "deploy/Dockerfile").read_text()
    assert detector["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert {kind for volume in pod["volumes"] for kind in volume} <= {"name", "emptyDir", "secret"}
    assert "limits" in detector["resources"]


@pytest.mark.parametrize("kind", WORKLOADS)
def test_probes_ask_what_the_detector_answers(kind: str) -> None:
    """Liveness is progress, readiness is membership; both at the port of the metrics."""
    detector = container(kind)
    assert detector["startupProbe"]["httpGet"] == detector["livenessProbe"]["httpGet"]
    assert detector["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "metrics"}
    assert detector["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "metrics"}


@pytest.mark.parametrize("kind", WORKLOADS)
def test_a_pod_has_time_to_leave_in_order(kind: str) -> None:
    """Between SIGTERM and SIGKILL is more time than a last flush, leaving the group and closing may take together."""
    leaving_s = 5  # Membership.close
    grace_s = one(kind)["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace_s > _FLUSH_TIMEOUT_S + leaving_s + _CLOSE_TIMEOUT_S


def test_the_instance_id_is_the_pods_name() -> None:
    """A restarted pod keeps its name, and so its place in the group and its transactional id."""
    (variable,) = container()["env"]
    assert variable["name"] == "DETECTOR_INSTANCE_ID"
    assert variable["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_workers_are_scaled_by_lag_up_to_the_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """KEDA's trigger names the detector's own topic and group, and no more workers are made than have partitions."""
    data, scaled = one("ConfigMap")["data"], one("ScaledObject")["spec"]
    config = config_of(run, data, monkeypatch)
    (trigger,) = scaled["triggers"]
    told = trigger["metadata"]
    assert trigger["type"] == "kafka"
    assert set(told) <= OF_KAFKA_SCALER
    assert all(isinstance(value, str) for value in told.values())
    assert (told["topic"], told["consumerGroup"]) == (config.input_topic, config.group)
    assert told["bootstrapServers"] == data["KAFKA_BOOTSTRAP_SERVERS"]
    assert told["allowIdleConsumers"] == "false"
    assert "cooldownPeriod" not in scaled  # it is about scaling to nothing, which never happens
    assert 2 <= scaled["minReplicaCount"] < scaled["maxReplicaCount"] == config.partitions
    assert scaled["scaleTargetRef"]["name"] == one("StatefulSet")["metadata"]["name"]
    assert trigger["authenticationRef"]["name"] == one("TriggerAuthentication")["metadata"]["name"]
    assert "replicas" not in one("StatefulSet")["spec"]  # an apply would put back what the scaler set


def test_selectors_select_the_pods() -> None:
    """Service, disruption budget and network policy are about the pods, and about nothing if misspelt."""
    pods = {kind: one(kind)["spec"]["template"] for kind in WORKLOADS}
    labels = {kind: pod["metadata"]["labels"].items() for kind, pod in pods.items()}
    for kind in WORKLOADS:
        selected = one(kind)["spec"]["selector"]["matchLabels"].items()
        assert [other for other in WORKLOADS if selected <= labels[other]] == [kind]
        assert one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels[kind]
        assert pods[kind]["spec"]["serviceAccountName"] == one("ServiceAccount")["metadata"]["name"]
    of_workers = one("StatefulSet")["spec"]["selector"]["matchLabels"]
    assert one("Service")["spec"]["selector"] == of_workers
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == of_workers
    assert one("StatefulSet")["spec"]["serviceName"] == one("Service")["metadata"]["name"]


def test_the_network_policy_lets_kafka_through_and_little_else() -> None:
    """Out to names and to the port of the brokers that the settings name; in to the metrics."""
    policy = one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    out = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    kafka = {int(server.rpartition(":")[2]) for server in _servers()}
    assert out == kafka | {53}
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["metrics"]
    assert all(rule["from"] for rule in policy["ingress"])
    assert all(rule["to"] for rule in policy["egress"])


def _servers() -> list[str]:
    servers: str = one("ConfigMap")["data"]["KAFKA_BOOTSTRAP_SERVERS"]
    return servers.split(",")
