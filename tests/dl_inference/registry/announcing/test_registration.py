"""What a server is told about the registry: options, environment, and the address that others call it by."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.serve_process import write_model
from typer.testing import CliRunner

from dl_inference import cli
from dl_inference.registry.announcing import registration
from dl_inference.registry.announcing.reachable import host
from dl_inference.registry.announcing.registration import Announcement, Served, read
from dl_inference.registry.zookeeper import RegistryError, Zookeeper
from dl_inference.serving.options import ServeOptions
from torch_predict import server

HERE = Zookeeper("127.0.0.1:2181")
MODEL = Served(("m", "39"), "seldon", "1")


@pytest.fixture(autouse=True)
def _logging_as_it_was():
    """A command run in here sets up the log of this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


# --- options and environment


def test_without_a_registry_nothing_is_read_and_nothing_imported():
    assert read({"DL_INFERENCE_WEIGHT": "3", "DL_INFERENCE_ADVERTISE": "a:1"}) is None
    text = """
import sys
from dl_inference.registry.announcing.registration import Announcement, Served, read
nothing = Announcement(read({}), "p")
nothing.check(["unix:/x"])
nothing.open(["unix:/x"])
nothing.tell([Served(("m",), "tfs", "1")])
assert not nothing.say_goodbye() and not nothing.goodbye_s
nothing.close()
assert "kazoo" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", text], check=True, timeout=60, cwd=Path(registration.__file__).parents[3])


def test_an_option_wins_over_the_environment_and_the_environment_over_the_default():
    environment = {
        "DL_INFERENCE_REGISTER": "zk://a,b:22/x",
        "DL_INFERENCE_WEIGHT": "3",
        "DL_INFERENCE_CAPACITY": "",
        "DL_INFERENCE_GOODBYE_MS": "50",
        "DL_INFERENCE_REGISTRY_USERNAME": "fleet",
        "DL_INFERENCE_REGISTRY_PASSWORD": "secret",
    }
    found = read(environment, weight=4, advertise="[2001:db8::1]:80", register=None)
    assert found is not None
    assert (found.weight, found.capacity, found.goodbye_ms, found.advertise) == (4, None, 50, "[2001:db8::1]:80")
    assert (found.place.hosts, found.place.chroot, found.place.username) == ("a,b:22", "/x", "fleet")
    assert found.place.servers == (("a", 2181), ("b", 22))
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("environment", "flags", "said"),
    [
        ({}, {"register": "http://a"}, "'http://a' is not a registry: write zk://"),
        ({"DL_INFERENCE_REGISTER": "zk://a:b"}, {}, "'a:b'"),
        ({}, {"advertise": "a:1"}, "--advertise says something about the registry: name it with --register"),
        ({}, {"register": "zk://a", "weight": 0}, "--weight=0: Input should be greater than or equal to 1"),
        ({"DL_INFERENCE_CAPACITY": "many"}, {"register": "zk://a"}, "DL_INFERENCE_CAPACITY=many: "),
        (
            {},
            {"register": "zk://a", "advertise": "0.0.0.0:1"},
            "--advertise=0.0.0.0:1: 0.0.0.0 and [::] are not addresses",
        ),
        ({}, {"register": "zk://a", "advertise": "unix:/x"}, "--advertise=unix:/x: a unix socket cannot be called"),
        ({"DL_INFERENCE_GOODBYE_MS": "-1"}, {"register": "zk://a"}, "DL_INFERENCE_GOODBYE_MS=-1: "),
    ],
)
def test_what_does_not_fit_is_named(environment, flags, said):
    with pytest.raises(RegistryError) as caught:
        read(environment, **flags)
    assert said in str(caught.value)


def test_a_missing_kazoo_is_named_with_its_extra(monkeypatch):
    loaded = ("kazoo", "dl_inference.registry.announcing.announcer")
    for name in [name for name in sys.modules if name.startswith(loaded)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kazoo", None)
    with pytest.raises(RegistryError, match=r"kazoo is not installed: pip install 'dl-inference\[zookeeper\]'"):
        Announcement(read({}, register="zk://a"), "p")


# --- the address


@pytest.mark.parametrize(
    ("listening", "found"),
    [
        (["10.0.0.1:5000"], ("10.0.0.1", 0)),
        (["unix:/x", "[2001:db8::1]:5000", "10.0.0.1:1"], ("[2001:db8::1]", 1)),
        (["models.example:0"], ("models.example", 0)),
        (["0.0.0.0:5000"], ("127.0.0.1", 0)),
        (["unix:/x", "[::]:5000"], ("127.0.0.1", 1)),
    ],
)
def test_others_call_the_address_listened_on_or_the_one_that_leads_to_the_registry(listening, found):
    assert host(listening, HERE) == found


def test_the_first_server_of_the_registry_that_can_be_found_decides():
    assert host(["0.0.0.0:1"], Zookeeper("nowhere.invalid,127.0.0.1:2181")) == ("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("listening", "hosts", "said"),
    [
        (["unix:/x"], "127.0.0.1", "a unix socket cannot be called from another machine"),
        (["0.0.0.0:5000"], "nowhere.invalid", "it listens on 0.0.0.0:5000: say --advertise HOST:PORT"),
        (["0.0.0.0:5000"], "[::1]", "it has IPv6 addresses only"),
    ],
)
def test_an_address_that_cannot_be_found_is_said_with_the_remedy(listening, hosts, said):
    with pytest.raises(RegistryError) as caught:
        host(listening, Zookeeper(hosts))
    assert said in str(caught.value)
    assert "--advertise HOST:PORT" in str(caught.value)


def test_a_name_that_the_registry_does_not_take_is_said_before_anything_loads():
    announcement = Announcement(read({}, register="zk://127.0.0.1"), "p")
    announcement.check(["127.0.0.1:0"], MODEL)
    with pytest.raises(RegistryError, match="'my model' cannot be announced as model: use letters"):
        announcement.check(["127.0.0.1:0"], Served(("my model",), "tfs", "1"))


def test_an_address_that_only_this_machine_can_call_is_warned_of_where_the_registry_is_elsewhere(caplog):
    for url, warns in (("zk://127.0.0.1,localhost", False), ("zk://127.0.0.1,198.51.100.1", True)):
        caplog.clear()
        announcement = Announcement(read({}, register=url), "p")
        announcement.check(["127.0.0.1:0"])
        announcement.open(["127.0.0.1:5000", "127.0.0.1:5002"])
        assert ("can be called from this machine only" in caplog.text) is warns


# --- the commands


def test_a_server_that_has_a_unix_socket_only_does_not_start(tmp_path, caplog):
    caplog.set_level(logging.ERROR)
    folder = write_model(tmp_path / "m", "A")
    place = read({}, register="zk://127.0.0.1:1")
    assert server.serve(ServeOptions(model_dir=folder, listen=[f"unix:{tmp_path}/s"], registration=place)) == 1
    assert "a unix socket cannot be called" in caplog.text


@pytest.mark.parametrize("command", ["predict", "serve"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--register", "zookeeper"], "'zookeeper' is not a registry"),
        (["--capacity", "5"], "--capacity says something about the registry"),
    ],
)
def test_a_command_says_what_is_wrong_with_its_options(tmp_path, command, options, said):
    write_model(tmp_path / "m", "A")
    folder = tmp_path / "m" if command == "predict" else tmp_path
    result = CliRunner().invoke(cli.app, [command, str(folder), "--listen", "127.0.0.1:0", *options])
    assert result.exit_code == 1
    assert said in result.stderr
