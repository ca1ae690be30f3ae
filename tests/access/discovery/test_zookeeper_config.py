"""The registry's part of the configuration, and what happens without any ZooKeeper."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fixtures.processes import ROOT
from fixtures.registry_hand import Followed

from access.check import check
from access.config.load import load
from access.discovery.zookeeper import ZookeeperConfig, ZookeeperResolver
from access.errors import ConfigError, DiscoveryError
from access.state import source_key


def test_starting_and_stopping_leaves_no_thread_behind():
    code = (
        "import sys, threading; from fixtures.registry_hand import Followed\n"
        "for _ in range(3):\n"
        "    with Followed('127.0.0.1:1', '/x', start_timeout_ms=1) as followed: print(followed.read())\n"
        "followed.resolver.stop()\n"
        "print(threading.active_count())"
    )
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT}/tests"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.splitlines()[-1] == "1"
    assert result.stdout.count("unreachable since") == 3
    assert not result.stderr


def test_nobody_there_is_said_after_the_start_timeout_and_only_waited_for_once(free_port):
    with Followed(f"127.0.0.1:{free_port()}", "/x", start_timeout_ms=300) as followed:
        begun = time.monotonic()
        with pytest.raises(DiscoveryError, match=r"^zk://127.*/x: unreachable since 20.*: .*Connection refused$"):
            followed.resolver.read()
        assert time.monotonic() - begun > 0.25
        begun = time.monotonic()
        with pytest.raises(DiscoveryError, match="unreachable since"):
            followed.resolver.read()
        assert time.monotonic() - begun < 0.2


def test_without_kazoo_the_extra_is_named(monkeypatch):
    ours = [f"dl_inference.registry.{name}" for name in ("follow", "reading", "pipeline", "session")]
    for name in [name for name in sys.modules if name.startswith("kazoo.") or name in ours]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kazoo", None)
    with Followed("127.0.0.1:1", "/x") as followed, pytest.raises(DiscoveryError, match=r"dl-inference\[zookeeper\]"):
        followed.resolver.read()


def configuration(tmp_path: Path, **keys: object) -> Path:
    path = tmp_path / "access.yaml"
    path.write_text(json.dumps({"discovery": [{"kind": "zookeeper", "hosts": "zk1:2181", **keys}]}))
    return path


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ({"hosts": "zk1:port"}, "'zk1:port'"),
        ({"hosts": "zk1:2181/dl"}, "'zk1:2181/dl'"),
        ({"path": "dl"}, "is not a path in ZooKeeper"),
        ({"path": "/"}, "is not a path in ZooKeeper"),
        ({"path": "/a/../b"}, "is not a path in ZooKeeper"),
        ({"password": "geheim", "password_file": "x"}, "`password` and a `password_file`"),
        ({"password": 815}, "a password is a text"),
        ({"ca_file": "ca.pem"}, "not `tls: true`"),
        ({"tls": True, "certificate_file": "c.pem"}, "go together"),
        ({"sasl": "PLAIN"}, "'PLAIN'"),
    ],
)
def test_a_wrong_key_is_named_and_no_password_is_shown(tmp_path, keys, named):
    with pytest.raises(ConfigError) as caught:
        load(configuration(tmp_path, **keys), environment={})
    assert named in str(caught.value)
    assert "geheim" not in str(caught.value)
    assert "815" not in str(caught.value)


def test_a_password_is_shown_nowhere(tmp_path, monkeypatch):
    path = configuration(tmp_path, username="fleet", password="geheim", start_timeout_ms=1, hosts="127.0.0.1:1")
    config = load(path, environment={}).config
    assert "geheim" not in f"{config!r}{config.model_dump()}{config.model_dump_json()}"
    resolver = ZookeeperResolver.create(config.discovery[0], tmp_path)
    assert "geheim" not in resolver.name
    resolver.start(lambda: None)
    with pytest.raises(DiscoveryError) as caught:
        resolver.read()
    resolver.stop()
    assert "geheim" not in str(caught.value)
    assert "geheim" not in str(check(path))


def test_another_password_is_another_source_when_the_configuration_is_read_again(tmp_path):
    keys = [
        source_key(
            load(configuration(tmp_path, username="fleet", password=password), environment={}).config.discovery[0]
        )
        for password in ("geheim", "geheim", "geheimer")
    ]
    assert keys[0] == keys[1] != keys[2]


def test_what_the_configuration_leaves_open_the_environment_says(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_INFERENCE_REGISTRY_USERNAME", "fleet")
    monkeypatch.setenv("DL_INFERENCE_REGISTRY_PASSWORD", "geheim")
    monkeypatch.setenv("DL_INFERENCE_REGISTRY_CA_FILE", "/etc/ca.pem")
    config = ZookeeperConfig(kind="zookeeper", hosts="zk1", tls=True, ca_file="other.pem")
    place = ZookeeperResolver.create(config, tmp_path)._place
    assert (place.username, place.password, place.ca_file) == ("fleet", "geheim", str(tmp_path / "other.pem"))
