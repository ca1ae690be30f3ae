"""What is typed and printed about releases, against a real ZooKeeper."""

from __future__ import annotations

import json
import re
import shlex
import time

import pytest
from fixtures.processes import ROOT
from fixtures.registry_fleet import Fleet
from fixtures.zookeeper_process import one_server
from typer.testing import CliRunner

from dl_inference import cli
from dl_inference.commands import console, release_view
from dl_inference.commands import release as release_command
from dl_inference.registry.schema import ReleaseDocument, release_path


@pytest.fixture(scope="module")
def zookeeper(tmp_path_factory):
    with one_server(tmp_path_factory.mktemp("zookeeper")) as server:
        yield server


@pytest.fixture
def fleet(zookeeper, monkeypatch):
    """Give a registry that the commands use, in which versions 3 and 4 of digits are announced."""
    found = Fleet(zookeeper.address)
    found.announce("digits", "3", "10.0.0.3:5000", protocol="seldon")
    found.announce("digits", "4", "10.0.0.4:5000", protocol="seldon")
    monkeypatch.setenv("DL_INFERENCE_REGISTRY", found.url)
    yield found
    found.close()


def release(*arguments, code=0):
    """Run the command; return what it printed, its lines joined and its blanks alike."""
    result = CliRunner().invoke(cli.app, ["release", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return re.sub(r"\s+", " ", result.output)


def document(fleet, model="digits"):
    return ReleaseDocument.parse(fleet.get(release_path(model)))


def test_a_canary_is_released_by_what_everybody_types_first(fleet):
    said = release("digits", "4", "--phase", "canary", "--weight", "5")
    assert "digits, revision 1, by " in said
    assert "first document: it takes over the versions that the endpoints announce" in said
    assert "3 - production 95.2 % 1: 10.0.0.3:5000" in said
    assert "4 - canary 4.8 % 1: 10.0.0.4:5000" in said
    assert "version 4: released, canary, weight 5" in said
    assert "to give version 4 every call: dl-inference release digits 4 --phase production" in said
    assert "to end it: dl-inference release digits 4 --remove" in said
    assert document(fleet).shares() == {"3": 100, "4": 5}


def test_what_may_not_be_read_is_named_and_releases_go_on_without_it(fleet, caplog):
    fleet.announce("digits", "4", "10.0.0.5:5000", protocol="seldon")
    fleet.apply("closed", digits=(1, "2026-01-01T00:00:00Z"))
    for path in ("/models/digits/endpoints/10.0.0.5:5000", "/access/closed"):
        fleet.close_to_others(path)
    release("digits", "4", "--phase", "canary", "--weight", "5")
    release("digits", "4", "--phase", "canary", "--weight", "7")
    fleet.close_to_others("/models/digits/history/0000000002")
    release("rollback", "digits", "--to", "1")
    assert document(fleet).shares() == {"3": 100, "4": 5}
    said = release("show", "digits")
    assert "10.0.0.4:5000" in said
    assert "not allowed: log in" in said
    assert "/models/digits/endpoints/10.0.0.5:5000 is skipped: " in caplog.text


def test_a_canary_is_promoted_and_the_release_before_it_ended_as_the_output_says(fleet):
    said = release("digits", "4", "--phase", "canary", "--weight", "5")
    promote, end = re.search(r"every call: dl-inference release (.*?) to end it", said)[1], "digits 3 --remove"
    said = release(*promote.split())
    assert "3 production 95.2 % staging, when asked for" in said
    assert "4 canary 4.8 % production 100 %" in said
    assert "version 3: production -> staging" in said
    assert "to undo this change: dl-inference release rollback digits" in said
    assert "version 3: no longer released" in release(*end.split())
    assert list(document(fleet).releases) == ["4"]


def test_options_may_come_first_and_a_model_may_be_called_like_a_command(fleet):
    fleet.announce("show", "3", "10.0.0.3:5000")
    release("--phase", "production", "digits", "3")
    said = release("deploy", "show", "3", "--phase", "production")
    release("set", "show", "--timeout-ms", "10")
    assert "show, revision 1" in said
    assert "show, revision 2" in release("show", "show")
    assert document(fleet, "show").timeout_ms == 10
    assert tuple(name for name in release_view.COMMANDS) == tuple(
        each.name or each.callback.__name__ for each in release_command.app.registered_commands
    )


def test_settings_of_a_release_and_of_a_model_go_into_the_document(fleet):
    release(
        "digits",
        "3",
        "--phase",
        "production",
        "--timeout-ms",
        "300",
        "--label",
        "stable",
        "--author",
        "ada",
        "--reason",
        "r",
    )
    release("digits", "3", "--attempt-timeout-ms", "100", "--priority", "high")
    said = release("set", "digits", "--timeout-ms", "800", "--weight", "50", "--label", "stable=", "--label", "old=3")
    assert "label stable: 3 -> none" in said
    assert "timeout_ms default -> 800" in said
    assert "weight default -> 50" in said
    found = document(fleet)
    assert found.releases["3"].model_dump(exclude_none=True) == {
        "phase": "production",
        "timeout_ms": 300,
        "attempt_timeout_ms": 100,
        "priority": "high",
    }
    assert (found.timeout_ms, found.weight, found.labels, found.revision) == (800, 50, {"old": "3"}, 3)
    shown = release("show", "digits")
    assert "for versions that say nothing else: weight 50, timeout_ms 800" in shown
    assert ", priority high" in shown
    history = release("history", "digits")
    assert re.search(
        r"1 \S+Z ada r version 3: released, production, timeout_ms 300; .*label stable: none -> 3", history
    )


USAGE = {
    "a version that is a word": (["digits", "four", "--phase", "canary"], "'four' is not a version"),
    "a priority that is none": (["digits", "4", "--priority", "urgent"], "high, normal, low, or inherit"),
    "a command misspelt": (["histroy", "digits"], "commands: deploy, set, show, history, rollback, clear"),
    "a model that is a path": (["../digits", "4", "--phase", "canary"], "'../digits' is not a model's name"),
    "a phase that is none": (
        ["digits", "4", "--phase", "prod"],
        "'prod' is not a phase: staging, canary or production",
    ),
    "a label that is a number": (["digits", "4", "--label", "3"], "'3' is a number: that would be a version"),
    "a label set to a word": (["set", "digits", "--label", "stable=new"], "write NAME=VERSION"),
    "a weight too large": (["digits", "4", "--weight", "65536"], "65535"),
    "a share in staging": (["digits", "4", "--phase", "staging", "--weight", "5"], "leave --weight out"),
    "an end with a phase": (["digits", "4", "--remove", "--phase", "canary"], "--remove ends a release"),
    "nothing to set": (["set", "digits"], "say what to set"),
}


@pytest.mark.parametrize("case", USAGE)
def test_what_cannot_be_meant_is_a_usage_error(fleet, case):
    arguments, words = USAGE[case]
    assert words in release(*arguments, code=2).replace("│ ", "")
    assert fleet.get(release_path("digits")) is None


def test_without_a_registry_it_says_where_to_name_one():
    said = release("show", "digits", code=2)
    assert "--registry zk://host1:2181,host2:2181/chroot, or DL_INFERENCE_REGISTRY" in said


REFUSED = {
    "an unknown version": (["digits", "9", "--phase", "canary", "--weight", "5"], "version 9 of digits is unknown"),
    "a dead version": (["digits", "2", "--phase", "canary", "--weight", "5"], "no endpoint of it is ready"),
    "a label to nowhere": (["set", "digits", "--label", "stable=7"], "label 'stable' is of version 7"),
    "no phase": (["digits", "4"], "is not released yet: say --phase"),
    "no share": (["digits", "4", "--phase", "canary"], "a canary needs a share: say --weight N"),
    "nobody gets calls": (["digits", "3", "--phase", "staging"], "has a weight above 0"),
    "the last one": (["digits", "3", "--remove"], "dl-inference release clear digits"),
    "not released": (["digits", "4", "--remove"], "version 4 of digits is not released (released: 3)"),
    "a revision before the first": (["rollback", "solo"], "solo has no revision before 1"),
    "a revision never written": (
        ["rollback", "digits", "--to", "7"],
        "revision 7 of digits is not in the history (there: 1, 2)",
    ),
    "no document": (
        ["set", "other", "--weight", "5"],
        "begin with dl-inference release other VERSION --phase production",
    ),
    "no history": (["history", "other"], "nothing of it was ever released"),
    "nothing known": (["show", "other"], "other has no release document"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_be_wrong_is_refused_and_nothing_is_written(fleet, case):
    fleet.announce("digits", "2", "10.0.0.2:5000", state="draining")
    release("digits", "3", "--phase", "production")
    release("digits", "4", "--remove")
    fleet.announce("solo", "1", "10.0.0.5:5000")
    release("solo", "1", "--phase", "production")
    before = document(fleet)
    arguments, words = REFUSED[case]
    assert words in release(*arguments, code=1)
    assert document(fleet) == before


def test_force_says_what_it_overrides(fleet):
    release("digits", "3", "--phase", "production")
    said = release("digits", "9", "--phase", "canary", "--weight", "5", "--force")
    assert "overridden by --force: version 9 of digits is unknown" in said
    assert "problem: version 9 of digits would get calls, but no endpoint of it is ready" in release("show", "digits")


def test_rollback_is_a_new_revision_with_the_old_content(fleet):
    release("digits", "3", "--phase", "production")
    release("digits", "4", "--phase", "production")
    said = release("rollback", "digits")
    assert "digits, revision 2 -> 3" in said
    assert "4 production 100 % - " in said or "staging" in said
    found = document(fleet)
    assert found.shares() == {"3": 100}
    assert found.reason == "rollback to revision 1"
    assert "to undo this change: dl-inference release rollback digits --to 2" in said
    again = release("rollback", "digits", code=1)
    assert "revision 3 of digits is itself the return to revision 1, from revision 2: say which to return to" in again
    assert document(fleet).revision == 3
    assert "digits, revision 3 -> 4" in release("rollback", "digits", "--to", "2", "--reason", "it was right")
    assert document(fleet).shares() == {"4": 100}
    assert "says so already; nothing is written" in release("rollback", "digits", "--to", "4")


def test_a_rollback_to_what_nobody_serves_any_more_is_refused(fleet):
    release("digits", "3", "--phase", "production")
    release("digits", "4", "--phase", "production")
    fleet.leave("digits", "10.0.0.3:5000")
    assert "version 3 of digits would get calls, but no endpoint of it is ready" in release(
        "rollback", "digits", code=1
    )


def test_clear_gives_the_model_back_to_the_configuration(fleet):
    release("digits", "3", "--phase", "production")
    said = release("clear", "digits")
    assert "digits: revision 1 is removed; access.yaml applies again" in said
    assert fleet.get(release_path("digits")) is None
    assert "digits has no release document in zk://" in release("show", "digits")
    release(*re.search(r"to bring it back: dl-inference release (.*)", said)[1].split())
    assert document(fleet).revision == 2


def test_show_tells_who_lags(fleet):
    release("digits", "3", "--phase", "production", "--label", "stable")
    release("digits", "4", "--phase", "canary", "--weight", "25")
    fleet.apply("gate-1", digits=(2, "2026-01-02T03:04:05Z"))
    fleet.apply("gate-2", digits=(1, "2026-01-02T03:04:05Z"))
    fleet.apply("gate-3")
    said = release("show", "digits")
    assert "3 production 80.0 % stable 1: 10.0.0.3:5000" in said
    assert "4 canary 20.0 % 25 1: 10.0.0.4:5000" in said
    assert re.search(r"gate gate-1 10.0.0.9:8500 2 2026-01-02T03:04:05Z \(\d+ d ago\) applied", said)
    assert re.search(r"gate gate-2 10.0.0.9:8500 1 2026-01-02T03:04:05Z \(\d+ d ago\) lags", said)
    assert re.search(r"gate gate-3 10.0.0.9:8500 none lags", said)
    found = json.loads(release("show", "digits", "--json"))
    assert found["document"]["revision"] == 2
    assert found["shares_percent"] == {"3": 80.0, "4": 20.0}
    assert found["ready_endpoints"] == {"3": ["10.0.0.3:5000"], "4": ["10.0.0.4:5000"]}
    assert {each["instance"]: each["lags"] for each in found["access"]} == {
        "gate-1": False,
        "gate-2": True,
        "gate-3": True,
    }


def test_history_is_for_programs_too(fleet):
    release("digits", "3", "--phase", "production", "--author", "ada")
    release("digits", "4", "--phase", "production", "--weight", "100")
    first, second = json.loads(release("history", "digits", "--json"))
    assert (first["document"]["author"], first["document"]["revision"]) == ("ada", 1)
    assert second["changes"] == ["version 4: staging -> production", "version 4: weight default -> 100"]


def test_what_is_no_release_document_is_named_everywhere_and_replaced_with_force_only(fleet):
    fleet.put(release_path("digits"), b'{"model": "\x1b[31mred"}')
    assert "\x1b" not in release("show", "digits", code=1)
    said = release("digits", "3", "--phase", "production", code=1)
    assert "cannot be used" in said
    assert "--force" in said
    assert fleet.get(release_path("digits")) == b'{"model": "\x1b[31mred"}'
    assert "overridden by --force: the release document of digits" in release(
        "digits", "3", "--phase", "production", "--force"
    )


def test_a_folder_does_for_who_has_no_registry(tmp_path):
    at = ("--registry", str(tmp_path))
    release("digits", "3", "--phase", "production", *at)
    said = release("digits", "4", "--phase", "canary", "--weight", "25", *at)
    assert "4 - canary 20.0 % not known" in said
    assert "is not known in a folder" in release("show", "digits", *at)
    assert "digits, revision 2 -> 3" in release("rollback", "digits", *at)
    found = json.loads((tmp_path / "digits.json").read_text())["digits"]
    assert found["release"]["revision"] == 3
    assert [each["revision"] for each in found["history"]] == [1, 2, 3]


@pytest.mark.parametrize("state", ["down", "frozen"])
def test_a_registry_that_does_not_answer_is_said_in_time(zookeeper, free_port, state):
    url = f"zk://127.0.0.1:{free_port()}/x" if state == "down" else f"zk://{zookeeper.address}/x"
    server = zookeeper
    if state == "frozen":
        server.freeze()
    try:
        began = time.monotonic()
        said = release("show", "digits", "--registry", url, "--registry-timeout-ms", "500", code=1)
        assert time.monotonic() - began < 10
    finally:
        server.thaw()
    assert f"no answer from {url} within 500 ms" in said
    assert "--registry-timeout-ms waits longer" in said


def shown(text):
    """Return a text without what is another each time: times, and how it is laid out."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "TIME", text)
    return re.sub(r"[\s─]+", " ", re.sub(r"\d+ (s|min|h|d) ago", "AGO", text)).strip()


def test_the_page_shows_what_is_printed(fleet, monkeypatch):
    fleet.announce("digits", "3", "10.0.0.4:5000")
    fleet.announce("digits", "4", "10.0.0.5:5000")
    monkeypatch.setenv("LOGNAME", "ada")
    monkeypatch.setattr("socket.gethostname", lambda: "desk")
    monkeypatch.setattr(console.out, "width", 200)
    page = (ROOT / "docs" / "releases.md").read_text()
    pairs = re.findall(
        r"^```bash\ndl-inference (release [^\n]*)\n```\n\n```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL
    )
    assert len(pairs) == 7
    for command, printed in pairs:
        if command == "release show digits":
            fleet.apply("gate-1", digits=(3, "2026-11-21T19:21:54.355Z"))
            fleet.apply("gate-2", digits=(2, "2026-11-21T19:21:52.358Z"))
        result = CliRunner().invoke(cli.app, shlex.split(command))
        assert shown(result.output) == shown(printed), command
