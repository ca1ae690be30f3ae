"""What is typed and printed about the registry, against a real ZooKeeper."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from fixtures.processes import ROOT
from fixtures.registry_fleet import Fleet
from fixtures.zookeeper_process import one_server
from typer.testing import CliRunner

from dl_inference import cli
from dl_inference.registry.schema import MAX_DOCUMENT_BYTES, EndpointDocument, endpoint_path, release_path

NODEFILE = """\
# the tasks of last year
69=800,10.0.0.1:8500,10.0.0.2:8500*2
digits=500,10.0.0.3:5000
"""


@pytest.fixture(scope="module")
def zookeeper(tmp_path_factory):
    with one_server(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture
def fleet(zookeeper, monkeypatch):
    """Give a registry that the commands use, with nothing in it."""
    found = Fleet(zookeeper.address)
    monkeypatch.setenv("DL_INFERENCE_REGISTRY", found.url)
    yield found
    found.close()


@pytest.fixture
def nodefile(tmp_path):
    path = tmp_path / "nodefile.txt"
    path.write_text(NODEFILE)
    return path


def registry(*arguments, code=0):
    """Run the command; return what it printed, its lines joined and its blanks alike."""
    result = CliRunner().invoke(cli.app, ["registry", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return re.sub(r"\s+", " ", result.output)


def listed(*arguments):
    return json.loads(registry("ls", *arguments, "--json"))


def document(fleet, model, address):
    return EndpointDocument.parse(fleet.get(endpoint_path(model, address)))


# --- import


def test_an_import_lists_the_endpoints_of_the_file_for_good(fleet, nodefile):
    said = registry("import", nodefile, "--protocol", "seldon", "--model-version", "3")
    assert "added: 69 10.0.0.2:8500 (seldon, weight 2)" in said
    assert "3 added" in said
    found = document(fleet, "69", "10.0.0.2:8500")
    assert (found.protocol, found.weight, found.version, found.state) == ("seldon", 2, "3", "ready")
    assert {each["ephemeral"] for each in listed()} == {False}
    assert "69 3 10.0.0.2:8500 seldon 2 ready dl-inference registry import" in registry("ls")


def test_timeouts_are_not_imported_and_it_says_so(fleet, nodefile):
    assert "note: timeouts are not listed (69: 800 ms, digits: 500 ms)" in registry("import", nodefile)


def test_a_dry_run_says_what_would_be_and_writes_nothing(fleet, nodefile):
    said = registry("import", nodefile, "--dry-run")
    assert "would be added: digits 10.0.0.3:5000" in said
    assert "nothing is done; would be: 3 added" in said
    assert fleet.names("/models") == []


def test_imported_again_only_what_changed_is_written(fleet, nodefile):
    registry("import", nodefile, "--model-version", "3")
    path = endpoint_path("digits", "10.0.0.3:5000")
    newer = json.loads(fleet.get(path)) | {"zone": "b"}
    fleet.put(path, json.dumps(newer).encode())
    version = fleet.kazoo.get(fleet.place.chroot + endpoint_path("69", "10.0.0.1:8500"))[1].version
    nodefile.write_text(NODEFILE.replace("3:5000", "3:5000*7"))
    said = registry("import", nodefile)
    assert "changed: digits 10.0.0.3:5000 (weight 1 -> 7)" in said
    assert "1 changed, 2 as it was" in said
    found = document(fleet, "digits", "10.0.0.3:5000")
    assert (found.weight, found.version, found.model_extra) == (7, "3", {"zone": "b"})
    assert fleet.kazoo.get(fleet.place.chroot + endpoint_path("69", "10.0.0.1:8500"))[1].version == version


def test_what_is_gone_from_the_file_goes_with_prune_only(fleet, nodefile):
    registry("import", nodefile)
    fleet.put(
        endpoint_path("69", "10.0.0.8:1"), b'{"address":"10.0.0.8:1","protocol":"tfs","model":"69","program":"x"}'
    )
    nodefile.write_text("69=800,10.0.0.1:8500\n")
    registry("import", nodefile)
    assert len(listed()) == 4
    said = registry("import", nodefile, "--prune")
    assert "removed: 69 10.0.0.2:8500" in said
    assert "removed: digits 10.0.0.3:5000" in said
    assert fleet.names("/models/69/endpoints") == ["10.0.0.1:8500", "10.0.0.8:1"]


def test_what_a_running_server_announces_is_never_touched(fleet, nodefile):
    fleet.announce("digits", "4", "10.0.0.3:5000", weight=9)
    fleet.announce("digits", "4", "10.0.0.4:5000")
    before = fleet.get(endpoint_path("digits", "10.0.0.3:5000"))
    said = registry("import", nodefile, "--prune", "--force")
    assert "left: digits 10.0.0.3:5000 (a running server announces it)" in said
    assert fleet.get(endpoint_path("digits", "10.0.0.3:5000")) == before
    assert fleet.names("/models/digits/endpoints") == ["10.0.0.3:5000", "10.0.0.4:5000"]


def test_an_import_of_another_protocol_than_running_servers_speak_is_refused_unless_forced(fleet, nodefile):
    fleet.announce("digits", "3", "10.0.0.9:5000", protocol="seldon")
    said = registry("import", nodefile, code=1)
    assert "left: digits 10.0.0.3:5000 (running servers of digits speak seldon, not tfs: import it with" in said
    assert "--protocol seldon, or with --force" in said
    assert fleet.names("/models/digits/endpoints") == ["10.0.0.9:5000"]
    assert len(fleet.names("/models/69/endpoints")) == 2, "the other lines are listed"
    registry("import", nodefile, "--force")
    assert document(fleet, "digits", "10.0.0.3:5000").protocol == "tfs"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("no line at all", "nodefile.txt:4: 'no line at all' has no '='"),
        ("m=100,host name:1", "nodefile.txt:4: m: 'host name:1' is skipped"),
        ("m=100,unix:/run/m.sock", "a unix socket cannot be called from another machine"),
        ("m=100,0.0.0.0:8500", "0.0.0.0 and [::] are not addresses that others can call"),
    ],
)
def test_what_is_no_line_is_refused_and_skipped_with_force_only(fleet, nodefile, line, words):
    nodefile.write_text(f"{NODEFILE}{line}\n")
    said = registry("import", nodefile, code=1)
    assert words in said
    assert "nothing is imported" in said
    assert fleet.names("/models") == []
    assert "would be removed" in registry("import", nodefile, "--force", "--prune", code=1)
    assert "3 added" in registry("import", nodefile, "--force")


def test_a_file_that_is_missing_or_another_is_said(fleet, tmp_path):
    assert "cannot be read: No such file" in registry("import", tmp_path / "missing", code=1)
    (tmp_path / "empty").write_text("# nothing\n")
    assert "no line `key=timeout_ms,host:port,...` in it" in registry("import", tmp_path / "empty", code=1)
    assert "'http' is not a protocol" in registry("import", tmp_path / "empty", "--protocol", "http", code=2)


def test_what_is_in_the_place_and_no_endpoint_is_replaced_with_force_only(fleet, nodefile):
    fleet.put(endpoint_path("digits", "10.0.0.3:5000"), b"garbage")
    said = registry("import", nodefile, code=1)
    assert "left: digits 10.0.0.3:5000 (the node is not an endpoint" in said
    assert "2 added, 1 left" in said
    assert fleet.get(endpoint_path("digits", "10.0.0.3:5000")) == b"garbage"
    registry("import", nodefile, "--force")
    assert document(fleet, "digits", "10.0.0.3:5000").weight == 1


def test_an_import_of_1200_endpoints_takes_a_few_transactions(fleet, nodefile):
    lines = [f"m{model}=100,{','.join(f'10.1.{model}.{host}:8500' for host in range(100))}" for model in range(12)]
    nodefile.write_text("\n".join(lines))
    assert "1200 added" in registry("import", nodefile)
    assert "1200 as it was" in registry("import", nodefile)
    assert len(listed()) == 1200
    assert "removed /models/m7" in registry("rm", "m7")
    assert len(listed()) == 1100


# --- ls


def test_ls_shows_who_announces_what_for_how_long(fleet, nodefile):
    registry("import", nodefile)
    fleet.announce("digits", "4", "10.0.0.4:5000", versions=("3",), state="draining", program="dl-inference 9")
    said = registry("ls", "digits")
    assert re.search(r"digits 10.0.0.3:5000 tfs 1 ready dl-inference registry import \d+ s removed", said)
    assert re.search(r"digits 4, \(3\) 10.0.0.4:5000 tfs 1 draining dl-inference 9 \d+ s its session ends", said)
    assert "10.0.0.1" not in said
    (first, second) = listed("digits")
    assert (first["ephemeral"], second["ephemeral"]) == (False, True)
    assert second["document"]["version"] == "4"


def test_ls_of_nothing_says_so_and_of_a_misspelt_model_names_the_nearest(fleet, nodefile):
    assert "no endpoints" in registry("ls")
    registry("import", nodefile)
    assert f"{fleet.url} has no model digit; there is digits" in registry("ls", "digit", code=1)


HOSTILE = {
    "bytes": (b"\xff\x00", "JSON"),
    "an address that is none": (b'{"model":"m","protocol":"tfs","address":"0.0.0.0:1"}', "not addresses that others"),
    "another's address": (b'{"model":"m","protocol":"tfs","address":"10.0.0.8:1"}', "its node is called"),
    "another model": (b'{"model":"x","protocol":"tfs","address":"10.0.0.9:1"}', "among the endpoints of m"),
    "escapes": (b'{"model":"\x1b[31m"}', "cannot be used"),
    "too large": (b" " * (MAX_DOCUMENT_BYTES + 1), f"at most {MAX_DOCUMENT_BYTES}"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_cannot_be_used_is_named_beside_the_rest(fleet, case):
    data, words = HOSTILE[case]
    fleet.announce("m", "1", "10.0.0.1:1")
    fleet.put("/models/m/endpoints/10.0.0.9:1", data)
    result = CliRunner().invoke(cli.app, ["registry", "ls"])
    assert "\x1b" not in result.output
    assert words in re.sub(r"\s+", " ", result.output)
    assert "10.0.0.1:1" in result.output
    assert [each["problem"] is None for each in listed()] == [True, False]


def test_an_endpoint_that_may_not_be_read_is_named_and_everything_else_is_listed_and_imported(fleet, nodefile):
    fleet.announce("digits", "3", "10.0.0.3:5000")
    fleet.announce("digits", "3", "10.0.0.4:5000")
    fleet.close_to_others("/models/digits/endpoints/10.0.0.3:5000")
    closed, other = listed()
    assert "not allowed: log in" in closed["problem"]
    assert (closed["path"], closed["ephemeral"]) == ("/models/digits/endpoints/10.0.0.3:5000", True)
    assert other["document"]["address"] == "10.0.0.4:5000"
    assert "2 added, 1 left" in registry("import", nodefile)
    assert "10.0.0.3:5000: cannot be used: " in registry("ls")


def test_a_model_whose_endpoints_may_not_be_listed_is_named_and_the_others_are_listed(fleet, caplog):
    fleet.announce("closed", "3", "10.0.0.3:5000")
    fleet.announce("digits", "3", "10.0.0.4:5000")
    fleet.close_to_others("/models/closed/endpoints")
    assert [each["model"] for each in listed()] == ["digits"]
    assert "/models/closed/endpoints is skipped" in caplog.text


def test_a_model_with_a_hostile_name_is_named_too(fleet):
    fleet.put("/models/..%2Fetc/endpoints/10.0.0.1:1", b'{"model":"m","protocol":"tfs","address":"10.0.0.1:1"}')
    assert "'..%2Fetc' is not a model's name" in registry("ls")


# --- rm


def test_rm_takes_an_imported_endpoint_away_and_a_model_with_its_releases(fleet, nodefile):
    registry("import", nodefile, "--model-version", "3")
    fleet.put(release_path("69"), b"{}")
    assert "removed /models/69/endpoints/10.0.0.1:8500" in registry("rm", "69", "10.0.0.1:8500")
    assert fleet.names("/models/69/endpoints") == ["10.0.0.2:8500"]
    assert "removed /models/69/release" in registry("rm", "69")
    assert fleet.names("/models") == ["digits"]


def test_rm_refuses_what_a_running_server_announces_without_force(fleet):
    fleet.announce("m", "1", "10.0.0.1:1")
    for arguments in (["m"], ["m", "10.0.0.1:1"]):
        assert "running servers announce 10.0.0.1:1 of m: stop them" in registry("rm", *arguments, code=1)
    assert len(listed()) == 1
    registry("rm", "m", "--force")
    assert fleet.names("/models") == []


def test_rm_of_what_is_not_there_is_said(fleet):
    fleet.announce("m", "1", "10.0.0.1:1")
    assert "m has no endpoint 10.0.0.2:1" in registry("rm", "m", "10.0.0.2:1", code=1)
    assert "has no model n" in registry("rm", "n", code=1)


# --- watch


@pytest.fixture
def watching(fleet, run):
    """Start `registry watch` in a process of its own, once it follows."""

    def start(*arguments):
        command = [sys.executable, "-m", "dl_inference.cli", "registry", "watch", *arguments]
        process = run(command, env={"DL_INFERENCE_REGISTRY": fleet.url, "PYTHONPATH": os.environ.get("PYTHONPATH", "")})
        process.wait_line("following", timeout_s=60)
        return process

    return start


def test_watch_tells_what_appears_changes_and_goes_until_interrupted(fleet, watching):
    process = watching()
    fleet.announce("digits", "4", "10.0.0.4:5000")
    process.wait_line("appeared digits 10.0.0.4:5000 version 4, tfs, weight 1")
    fleet.announce("digits", "4", "10.0.0.4:5000", weight=7)
    process.wait_line("changed digits 10.0.0.4:5000 weight 1 -> 7")
    fleet.announce("digits", "4", "10.0.0.5:5000", state="draining")
    fleet.announce("digits", "4", "10.0.0.4:5000", state="draining")
    process.wait_line("draining digits 10.0.0.4:5000")
    text = b'{"schema":1,"model":"digits","revision":3,"author":"ada","releases":{"4":{"phase":"production"}}}'
    fleet.put(release_path("digits"), text)
    process.wait_line("released digits revision 3 by ada: version 4: released, production")
    fleet.put(release_path("digits"), text.replace(b"production", b"canary"))
    process.wait_line("released digits revision 3 by ada: version 4: production -> canary")
    fleet.announce("digits", "4", "10.0.0.6:5000")
    process.wait_line("appeared digits 10.0.0.6:5000")
    fleet.leave("digits", "10.0.0.6:5000")
    process.wait_line("went digits 10.0.0.6:5000")
    fleet.put(endpoint_path("digits", "10.0.0.4:5000"), b"garbage")
    process.wait_line("problem /models/digits/endpoints/10.0.0.4:5000: ")
    registry("rm", "digits", "--force")
    process.wait_line("released digits: its release document was removed")
    process.signal(signal.SIGINT)
    assert process.wait() == 0


def test_watch_of_one_model_for_programs_begins_before_there_is_one(fleet, watching):
    process = watching("m", "--json")
    fleet.announce("other", "1", "10.0.0.2:1")
    fleet.announce("m", "1", "10.0.0.1:1")
    event = json.loads(process.wait_line("^.*appeared.*$")[0])
    assert (event["model"], event["address"], event["document"]["version"]) == ("m", "10.0.0.1:1", "1")
    process.signal(signal.SIGINT)
    assert process.wait() == 0
    assert "other" not in process.log


def test_watch_goes_on_after_a_registry_that_was_away(zookeeper, fleet, watching):
    fleet.put(endpoint_path("m", "10.0.0.1:1"), b'{"model":"m","protocol":"tfs","address":"10.0.0.1:1"}')
    process = watching()
    server = zookeeper
    server.kill()
    process.wait_line("zk://.*: unreachable since", timeout_s=30)
    server.restart()
    server.await_ready()
    process.wait_line("connected again", timeout_s=60)
    registry("rm", "m", "10.0.0.1:1")
    process.wait_line("went m 10.0.0.1:1", timeout_s=60)


@pytest.mark.parametrize("command", [["ls"], ["watch"], ["rm", "m"]])
def test_a_registry_that_is_down_is_said_in_time(free_port, command):
    url = f"zk://127.0.0.1:{free_port()}/x"
    began = time.monotonic()
    said = registry(*command, "--registry", url, "--registry-timeout-ms", "500", code=1)
    assert f"{url}" in said
    assert "Connection refused" in said
    assert time.monotonic() - began < 10


def test_without_kazoo_the_program_starts_and_says_what_to_install(tmp_path):
    (tmp_path / "kazoo.py").write_text("raise ModuleNotFoundError('no', name='kazoo')")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    for command in (["ls"], ["watch"]):
        line = [sys.executable, "-m", "dl_inference.cli", "registry", *command, "--registry", "zk://127.0.0.1:1"]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 1
        assert "kazoo is not installed: pip install 'dl-inference[zookeeper]'" in done.stderr
