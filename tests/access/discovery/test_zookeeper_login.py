"""Who may read and write the registry: digest and ACLs, SASL, TLS; and what is said when somebody may not."""

import re
import socket
import subprocess

import pytest
from fixtures.processes import Process
from fixtures.registry_hand import LIMIT_S, Followed, addresses
from fixtures.zookeeper_process import start_ensemble
from kazoo.security import make_digest_acl

from access.errors import DiscoveryError
from dl_inference.registry.announcing.announcer import Announcer
from dl_inference.registry.schema import EndpointDocument
from dl_inference.registry.zookeeper import parse_url

SOON_S = 0.1


@pytest.fixture(scope="module")
def started():
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.kill()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Certificates: of an authority, of the server (also as Java wants them) and of a client; and SASL's users."""
    folder = tmp_path_factory.mktemp("login")

    def openssl(*words: object) -> None:
        subprocess.run(["openssl", *map(str, words)], cwd=folder, check=True, capture_output=True, timeout=60)

    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30"]
    openssl("req", "-x509", *new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority")
    openssl("req", "-x509", *new, "-keyout", "other.key", "-out", "other.pem", "-subj", "/CN=another authority")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl("req", *new[:5], "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ["x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]
        openssl(*signed, "-extfile", "names", "-days", "30", "-out", f"{name}.pem")
    (folder / "keystore.pem").write_text((folder / "server.key").read_text() + (folder / "server.pem").read_text())
    (folder / "jaas.conf").write_text(
        'Server { org.apache.zookeeper.server.auth.DigestLoginModule required user_fleet="secret"; };\n'
    )
    return folder


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory, started, folder):
    """One server that knows every way in: its secure port is `secure`."""
    secure = tmp_path_factory.mktemp("port")
    options = f"-Djava.security.auth.login.config={folder}/jaas.conf"

    def start(command):
        started.append(Process(command, env={"JAVA_TOOL_OPTIONS": options}))
        return started[-1]

    settings = {
        "authProvider.sasl": "org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
        "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
        "secureClientPort": _free_port(),
        "ssl.keyStore.location": folder / "keystore.pem",
        "ssl.keyStore.type": "PEM",
        "ssl.trustStore.location": folder / "ca.pem",
        "ssl.trustStore.type": "PEM",
        "ssl.clientAuth": "need",
    }
    ensemble = start_ensemble(start, secure, 1, settings)
    ensemble.secure = f"127.0.0.1:{settings['secureClientPort']}"
    return ensemble


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def _soon(monkeypatch):
    monkeypatch.setattr("dl_inference.registry.following.follower.RETRY_S", SOON_S)
    monkeypatch.setattr("dl_inference.registry.following.reading.DENIED_RETRY_S", SOON_S)


FLEET = [make_digest_acl("fleet", "secret", all=True)]


@pytest.mark.usefixtures("_soon")
def test_a_registry_for_members_only_is_read_with_the_password_and_refused_without(hand, tmp_path):
    hand.announce("m", "a:1")
    hand.client.set_acls(f"{hand.chroot}/models", FLEET)
    with Followed(hand.hosts, hand.chroot) as followed, pytest.raises(DiscoveryError, match="check username and pass"):
        followed.resolver.read()
    with Followed(hand.hosts, hand.chroot, username="fleet", password="secret") as followed:
        assert addresses(followed.resolver.read(), "m") == ["a:1"]
    # A password that is corrected in its file counts without a restart.
    (tmp_path / "password").write_text("wrong\n")
    with Followed(hand.hosts, hand.chroot, tmp_path, username="fleet", password_file="password") as followed:
        with pytest.raises(DiscoveryError, match="ACL does not let this login read it"):
            followed.resolver.read()
        (tmp_path / "password").unlink()
        followed.wait_error("password_file: ")
        (tmp_path / "password").write_text("secret\n")
        followed.wait(lambda said: addresses(said, "m") == ["a:1"])


@pytest.mark.usefixtures("_soon")
def test_an_acl_that_denies_one_node_hurts_nobody_else_and_what_was_known_stays(hand):
    closed = hand.announce("m", "a:1")
    hand.announce("m", "b:1")
    endpoints = hand.announce("n", "c:1").rpartition("/")[0]
    release = hand.release("n", 1, v3=1)
    everybody = hand.client.get_acls(closed)[0]
    hand.client.add_auth("digest", "fleet:secret")
    hand.client.set_acls(closed, FLEET)
    with Followed(hand.hosts, hand.chroot) as followed:
        said = followed.resolver.read()
        assert addresses(said, "m") == ["b:1"]
        assert [each.place for each in said.warnings] == [closed]
        hand.client.set_acls(closed, everybody)
        followed.wait(lambda said: addresses(said, "m") == ["a:1", "b:1"] and not said.warnings)
        # Closed while followed: no watch tells of it, so the next connection finds it.
        for path in (closed, endpoints, release):
            hand.client.set_acls(path, FLEET)
        hand.announce("m", "a:1", weight=5)
        hand.announce("n", "d:1")
        hand.release("n", 2, v3=1)
        followed.resolver._follower._session._handler._connection.shutdown(socket.SHUT_RDWR)
        followed.wait_error()
        said = followed.wait(lambda said: len(said.warnings) == 3)
        assert addresses(said, "m") == ["a:1", "b:1"]
        assert addresses(said, "n") == ["c:1"]
        assert said.entries["n"].release.revision == 1
        for path in (closed, endpoints, release):
            hand.client.set_acls(path, everybody)
        said = followed.wait(lambda said: not said.warnings)
        assert said.entries["m"].endpoints[0].weight == 5
        assert addresses(said, "n") == ["c:1", "d:1"]
        assert said.entries["n"].release.revision == 2


@pytest.mark.usefixtures("_soon")
def test_sasl_lets_in_with_the_password_and_says_at_once_that_it_is_wrong(hand, tmp_path):
    hand.announce("m", "a:1")
    options = {"sasl": "DIGEST-MD5", "username": "fleet", "start_timeout_ms": 20_000}
    with Followed(hand.hosts, hand.chroot, password="secret", **options) as followed:
        assert addresses(followed.resolver.read(), "m") == ["a:1"]
    (tmp_path / "password").write_text("wrong")
    with Followed(hand.hosts, hand.chroot, tmp_path, password_file="password", **options) as followed:
        with pytest.raises(DiscoveryError, match="AUTH_FAILED"):
            followed.resolver.read()
        told = len(followed.said)
        followed.wait_error("AUTH_FAILED")
        (tmp_path / "password").write_text("secret")
        followed.wait(lambda said: addresses(said, "m") == ["a:1"])
        errors = {str(said) for said in followed.said[told:] if isinstance(said, DiscoveryError)}
        assert len(errors) <= 1  # the same words at every attempt


def test_tls_with_a_certificate_of_our_own_works(ensemble, hand, folder):
    hand.announce("m", "a:1")
    keys = {"ca_file": "ca.pem", "certificate_file": "client.pem", "key_file": "client.key"}
    with Followed(ensemble.secure, hand.chroot, folder, tls=True, **keys) as followed:
        assert addresses(followed.resolver.read(), "m") == ["a:1"]
        hand.announce("m", "b:1")
        followed.wait(lambda said: addresses(said, "m") == ["a:1", "b:1"])


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"ca_file": "other.pem"}, "certificate verify failed"),
        ({"ca_file": "missing.pem"}, "missing.pem cannot be read"),
        ({"ca_file": "ca.pem"}, "(?i)certificate|broken|reset|eof"),  # the server wants one of ours
        ({"tls": False}, "(?i)broken|reset|timed? ?-?out"),
    ],
)
def test_why_tls_fails_is_said(ensemble, hand, folder, keys, reason):
    with Followed(ensemble.secure, hand.chroot, folder, start_timeout_ms=60_000, **{"tls": True, **keys}) as followed:
        assert re.search(reason, followed.wait_error(": unreachable since"))


@pytest.mark.parametrize("way", ["tls", "sasl"])
def test_an_endpoint_that_is_announced_by_a_guarded_way_is_followed_by_it(ensemble, hand, folder, way):
    files = {"ca_file": "ca.pem", "certificate_file": "client.pem", "key_file": "client.key"}
    keys = {name: str(folder / file) for name, file in files.items()}
    login = {"sasl": "DIGEST-MD5", "username": "fleet", "password": "secret"}
    scheme, hosts, fields = ("zks", ensemble.secure, keys) if way == "tls" else ("zk", ensemble.hosts, login)
    variables = {f"DL_INFERENCE_REGISTRY_{name.upper()}": value for name, value in fields.items()}
    announcer = Announcer(parse_url(f"{scheme}://{hosts}{hand.chroot}", variables), program="test 1")
    announcer.announce([EndpointDocument(address="a:1", protocol="tfs", model="m")])
    with Followed(hosts, hand.chroot, tls=way == "tls", **fields) as followed:
        followed.wait(lambda said: addresses(said, "m") == ["a:1"])
        assert announcer.goodbye(LIMIT_S)
        followed.wait(lambda said: addresses(said, "m") == [])
    assert announcer.close(LIMIT_S)
    assert not hand.client.exists(hand.path("m", "a:1"))
