"""One broker with TLS, SASL and ACLs for all tests here; its plain listener is the administrator's."""

import base64
import json
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    ResourcePattern,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from broker import EmbeddedBroker
from broker.probe import free_ports
from detector.runtime.permissions import Permission

PASSWORD = "correct-horse-battery"  # noqa: S105  of a broker that lives as long as the tests


def acl_of(user: str, permission: Permission) -> ACL:
    """Return a permission as Kafka has it."""
    kind = ACLResourcePatternType.PREFIXED if permission.prefixed else ACLResourcePatternType.LITERAL
    return ACL(
        f"User:{user}",
        "*",
        ACLOperation[re.sub(r"(?<=[a-z])(?=[A-Z])", "_", permission.operation).upper()],
        ACLPermissionType.ALLOW,
        ResourcePattern(ResourceType[permission.resource.name], permission.name, kind),
    )


@dataclass(frozen=True)
class SecuredBroker:
    """Where it listens, and what a client needs.

    Attributes:
        plain: administrator's listener; its anonymous user is a super user.
        sasl: SASL_SSL.
        tls: SSL, which asks for a client's certificate.
        folder: ca.pem, other-ca.pem, client.pem, token.
        broker: the process.
    """

    plain: str
    sasl: str
    tls: str
    folder: Path
    broker: EmbeddedBroker

    def administrator(self) -> closing[KafkaAdminClient]:
        """Return a client that may do anything, for a with statement."""
        return closing(KafkaAdminClient(bootstrap_servers=self.plain))

    def set_password(
        self, user: str, password: str, mechanism: ScramMechanism = ScramMechanism.SCRAM_SHA_512
    ) -> None:
        """Give a user a password; it counts for new connections."""
        change = UserScramCredentialUpsertion(user, mechanism, password=password)
        with self.administrator() as admin:
            assert admin.alter_user_scram_credentials([change]) == {user: None}

    def allow(self, user: str, permissions: Sequence[Permission]) -> None:
        """Allow a user these things, too."""
        acls = [acl_of(user, one) for one in permissions]
        with self.administrator() as admin:
            assert len(admin.create_acls(acls)["succeeded"]) == len(acls)

    def forbid(self, user: str, permission: Permission) -> None:
        """Take a right away that the user was given."""
        acl = acl_of(user, permission)
        given = ACLFilter(acl.principal, acl.host, acl.operation, acl.permission_type, acl.resource_pattern)
        with self.administrator() as admin:
            ((_, deleted, _),) = admin.delete_acls([given])
        assert len(deleted) == 1

    def sasl_environment(self, mechanism: str, user: str = "detector") -> dict[str, str]:
        """Return the variables of a client of the SASL listener."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.sasl,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SSL_CA_FILE": str(self.folder / "ca.pem"),
            "KAFKA_SASL_MECHANISM": mechanism,
        } | (
            {"KAFKA_SASL_TOKEN_FILE": str(self.folder / "token")}
            if mechanism == "OAUTHBEARER"
            else {"KAFKA_SASL_USERNAME": user, "KAFKA_SASL_PASSWORD": PASSWORD}
        )


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredBroker]:
    """A broker whose users have no rights but those that a test gives them."""
    folder = tmp_path_factory.mktemp("secured")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other-ca.pem")
    broker_certificate = authority.issue_cert("127.0.0.1")
    key = serialization.load_pem_private_key(broker_certificate.private_key_pem.bytes(), None)
    pkcs8 = key.private_bytes(  # the one form of a key that Kafka takes
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = b"".join(one.bytes() for one in broker_certificate.cert_chain_pems)
    (folder / "broker.pem").write_bytes(pkcs8 + chain)
    authority.issue_cert("client.test", common_name="detector").private_key_and_cert_chain_pem.write_to_path(
        folder / "client.pem"
    )
    (folder / "token").write_text(_unsecured_token("detector"))
    plain, sasl, tls, controller = (f"127.0.0.1:{port}" for port in free_ports(4))
    jaas = "listener.name.sasl_ssl.{}.sasl.jaas.config"
    login = "org.apache.kafka.common.security.{} required"
    properties = {
        "listeners": f"PLAINTEXT://{plain},SASL_SSL://{sasl},SSL://{tls},CONTROLLER://{controller}",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL"
        ),
        "controller.quorum.voters": f"1@{controller}",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.ssl.ssl.client.auth": "required",
        "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]*).*$/$1/",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
        jaas.format("plain"): login.format("plain.PlainLoginModule") + f' user_detector="{PASSWORD}";',
        jaas.format("scram-sha-256"): login.format("scram.ScramLoginModule") + ";",
        jaas.format("scram-sha-512"): login.format("scram.ScramLoginModule") + ";",
        jaas.format("oauthbearer"): login.format("oauthbearer.OAuthBearerLoginModule")
        + ' unsecuredLoginStringClaim_sub="broker";',
    }
    with EmbeddedBroker(port=int(plain.rpartition(":")[2]), properties=properties) as broker:
        secured = SecuredBroker(plain, sasl, tls, folder, broker)
        for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            secured.set_password("detector", PASSWORD, mechanism)
        yield secured


def _unsecured_token(subject: str) -> str:
    """Return a JWS without signature (RFC 7515, appendix A.5), which Kafka's validator for development takes."""
    now_s = int(time.time())
    parts = ({"alg": "none"}, {"sub": subject, "iat": now_s - 60, "exp": now_s + 3_600})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, ""])
