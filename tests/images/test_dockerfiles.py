"""The Dockerfiles, compose.yaml and `make images` name only what exists, and agree with one another."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main
import yaml
from buildah import context
from fixtures.processes import ROOT

from access.config.load import load
from dl_inference import cli

DOCKER = ROOT / "docker"
NAMES = ("access", "cpu", "gpu")
COMPOSE = DOCKER / "compose.yaml"
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]


class Instruction(NamedTuple):
    name: str
    text: str


def instructions(name: str) -> list[Instruction]:
    """Return a Dockerfile's instructions, each on one line."""
    text = re.sub(r"^#.*\n", "", (DOCKER / f"Dockerfile.{name}").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [Instruction(*line.split(maxsplit=1)) for line in lines if line.strip()]


def stages(name: str) -> tuple[list[Instruction], list[Instruction]]:
    """Return the instructions of the wheel's stage, those before it included, and of the image's."""
    found = instructions(name)
    starts = [index for index, each in enumerate(found) if each.name == "FROM"]
    assert len(starts) == 2
    return found[: starts[1]], found[starts[1] :]


def last(name: str, instruction: str) -> str:
    return [each.text for each in stages(name)[1] if each.name == instruction][-1]


def labels(name: str) -> dict[str, str]:
    words = shlex.split(" ".join(each.text for each in stages(name)[1] if each.name == "LABEL"))
    return dict(word.split("=", 1) for word in words)


def command_of(words: list[str]) -> dict[str, Any]:
    """Parse a command line of dl-inference as the program does; return its options by name."""
    command = COMMANDS[words[0]]
    return command.make_context(words[0], words[1:]).params


@pytest.mark.parametrize("name", NAMES[1:])
def test_the_wheel_is_built_by_the_same_words_everywhere(name):
    assert stages(name)[0] == stages("access")[0]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_of_this_machine_is_in_a_dockerfile(name):
    text = (DOCKER / f"Dockerfile.{name}").read_text()
    assert not re.findall(r"https?://\S+|/root\b|/home/(?!inference\b)\S+", text)


@pytest.mark.parametrize("name", NAMES)
def test_what_a_dockerfile_copies_is_let_in_by_dockerignore(name):
    let_in = {path.relative_to(ROOT).as_posix() for path in context()}
    found = instructions(name)
    sources = [word for each in found if each.name == "COPY" for word in each.text.split()[:-1]]
    sources += [match for each in found for match in re.findall(r"--mount=type=bind,source=([^,]+),", each.text)]
    assert "docker/healthcheck.py" in sources
    assert [source for source in sources if source != "." and source not in let_in] == []


def test_dockerignore_lets_in_what_the_wheel_is_made_of_and_little_else():
    let_in = [path.relative_to(ROOT) for path in context()]
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["maturin"]["python-packages"]
    folders = {path.parts[0] for path in let_in if len(path.parts) > 1}
    assert folders == {*packages, "dataplane", "docker", "protos"}
    assert sum((ROOT / path).stat().st_size for path in let_in) < 6_000_000  # the code itself has 5


@pytest.mark.parametrize("name", NAMES)
def test_an_image_runs_as_a_numbered_user_and_is_stopped_by_sigterm(name):
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last(name, "USER"))
    assert last(name, "STOPSIGNAL") == "SIGTERM"
    assert f"--uid {last(name, 'USER').split(':')[0]} " in " ".join(each.text for each in stages(name)[1])


@pytest.mark.parametrize("name", NAMES)
def test_no_shell_stands_between_an_engine_and_the_program(name):
    assert json.loads(last(name, "ENTRYPOINT")) == ["dl-inference"]
    assert json.loads(last(name, "CMD"))
    assert json.loads(last(name, "HEALTHCHECK").partition(" CMD ")[2])[0] == "python3"


@pytest.mark.parametrize("name", NAMES)
def test_an_image_starts_a_command_that_exists_on_the_ports_that_it_exposes(name):
    options = command_of(json.loads(last(name, "CMD")))
    variables = dict(word.split("=", 1) for word in last(name, "ENV").split())
    listen = [variables["DL_INFERENCE_LISTEN"]] if name == "access" else options["listen"]
    admin = variables["DL_INFERENCE_ADMIN"] if name == "access" else options["admin"]
    addresses = [*listen, admin]
    assert [address.split(":")[0] for address in addresses] == ["0.0.0.0"] * len(addresses)
    assert [address.split(":")[1] for address in addresses] == last(name, "EXPOSE").split()


@pytest.mark.parametrize("name", NAMES)
def test_an_image_says_what_it_is(name):
    given = labels(name)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert given["org.opencontainers.image.title"] == f"dl-inference-{name}"
    assert given["org.opencontainers.image.licenses"] == project["license"]["text"]
    assert {key: type(value) for key, value in labels("access").items()} == {key: str for key in given}


def test_only_the_access_image_is_without_torch():
    texts = {name: " ".join(each.text for each in stages(name)[1]) for name in NAMES}
    assert {name for name, text in texts.items() if "EXTRAS=torch,zookeeper " in text and "[$EXTRAS]" in text} == {
        "cpu",
        "gpu",
    }
    assert "EXTRAS" not in texts["access"]


def test_every_image_can_follow_or_use_a_registry():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    texts = {name: " ".join(each.text for each in stages(name)[1]) for name in NAMES}
    assert '.whl)[dns,redis,zookeeper]"' in texts["access"]
    assert {"dns", "zookeeper", "torch"} <= extras.keys()


def test_the_extras_and_arguments_that_the_guide_names_are_there():
    guide = (ROOT / "docs" / "images.md").read_text()
    described = set(re.findall(r"^\| `([A-Z_]+)` \|", guide, re.MULTILINE))
    declared = {each.text.split("=")[0] for name in NAMES for each in instructions(name) if each.name == "ARG"}
    assert described == declared


# --- compose.yaml


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())["services"]


def test_compose_understands_the_file(system_program, services):
    done = subprocess.run(
        [system_program("docker-compose"), "--file", COMPOSE, "config"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["services"].keys() == services.keys()


def test_compose_has_two_pytorch_servers_tf_serving_and_the_access_service(services):
    images = sorted(service["image"].split(":")[0] for service in services.values())
    assert images == ["dl-inference-access", "dl-inference-cpu", "dl-inference-cpu", "docker.io/tensorflow/serving"]


def test_compose_builds_and_mounts_what_exists(services):
    for service in services.values():
        assert {"build", "image"} & service.keys()
        if "build" in service:
            assert (DOCKER / service["build"]["context"]).resolve() == ROOT
            assert (ROOT / service["build"]["dockerfile"]).is_file()
        for volume in service["volumes"]:
            outside, inside, _ = volume.split(":")
            assert (DOCKER / outside).is_dir(), volume
            assert Path(inside).name in (Path(outside).name, "dl-inference")


def test_compose_serves_the_models_that_it_mounts(services):
    routed = load(DOCKER / "access" / "access.yaml", environment={}).config.models.keys()
    mounted = {Path(volume.split(":")[0]).name for service in services.values() for volume in service["volumes"]}
    assert mounted - {"access"} == routed
    assert services["tensorflow"]["environment"]["MODEL_NAME"] in routed


def test_compose_routes_to_its_own_services_on_their_ports(services):
    config = load(DOCKER / "access" / "access.yaml", environment={}).config
    named = {endpoint.address for model in config.models.values() for endpoint in model.endpoints}
    served = {"tensorflow:8500"}  # what the official image listens on
    for name in ("digits-a", "digits-b"):
        (listen,) = command_of(services[name]["command"])["listen"]
        served.add(f"{name}:{listen.split(':')[1]}")
    assert named == served
    assert set(services["access"]["depends_on"]) == {address.split(":")[0] for address in served}


def test_compose_publishes_the_access_image_s_ports_and_the_admin_port_to_this_machine_only(services):
    published = [port.rsplit(":", 1) for port in services["access"]["ports"]]
    assert [inside for _, inside in published] == last("access", "EXPOSE").split()
    assert published[1][0].startswith("127.0.0.1:")
    assert [name for name, service in services.items() if "ports" in service] == ["access"]


def test_compose_mounts_the_configuration_where_the_image_looks_for_it(services):
    (volume,) = services["access"]["volumes"]
    _, inside, mode = volume.split(":")
    assert command_of(json.loads(last("access", "CMD")))["config"] == Path(inside) / "access.yaml"
    assert mode == "ro"


def test_compose_gives_calls_in_flight_their_time(services):
    drain_ms = load(DOCKER / "access" / "access.yaml", environment={}).config.drain_timeout_ms
    ours = [service for service in services.values() if "build" in service]
    assert all(int(service["stop_grace_period"].removesuffix("s")) * 1000 > drain_ms for service in ours)


# --- make images


@pytest.fixture
def engines(tmp_path, monkeypatch):
    """Put stand-ins for docker and podman on PATH, and nothing else of that kind; give what they were told."""
    log = tmp_path / "log"
    for program in ("bash", "dirname", "sed", "sh"):
        (tmp_path / program).symlink_to(shutil.which(program))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("ENGINE", raising=False)

    def make(name: str, *failing: str) -> None:
        lines = [f'[ "$1" != {word} ] || exit 1' for word in failing]
        program = tmp_path / name
        program.write_text("\n".join(["#!/bin/sh", *lines, f'echo "{name} $*" >> {log}']) + "\n")
        program.chmod(0o755)

    def build(*names: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", DOCKER / "build.sh", *names], capture_output=True, text=True, check=False, timeout=60
        )

    return make, build, lambda: [line for line in log.read_text().splitlines() if " build " in line]


def test_make_images_builds_all_three_with_docker(engines):
    make, build, told = engines
    make("docker")
    done = build()
    assert done.returncode == 0, done.stderr
    assert [re.search(r"--file docker/Dockerfile\.(\w+)", line)[1] for line in told()] == list(NAMES)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"--tag dl-inference-cpu:{version} --tag dl-inference-cpu:latest ." in told()[1]


def test_make_images_takes_podman_where_docker_s_daemon_is_down_and_keeps_the_healthcheck(engines):
    make, build, told = engines
    make("docker", "info")
    make("podman")
    assert build("access").returncode == 0
    (line,) = told()
    assert line.startswith("podman build --format docker ")


def test_make_images_passes_build_arguments_on(engines, monkeypatch):
    make, build, told = engines
    make("docker")
    monkeypatch.setenv("BUILD_ARGS", "--build-arg TORCH_INDEX_URL=here --no-cache")
    assert build("cpu").returncode == 0
    assert " --build-arg TORCH_INDEX_URL=here --no-cache " in told()[0]


@pytest.mark.parametrize(
    ("failing", "reason"),
    [((), "podman: not installed"), (("info",), "docker info` fails"), (("buildx",), "docker-buildx-plugin")],
)
def test_make_images_says_what_is_wrong_and_what_to_install(engines, failing, reason):
    make, build, _ = engines
    if failing:
        make("docker", *failing)
    done = build()
    assert done.returncode == 1
    assert reason in done.stderr
    assert "Install podman" in done.stderr


# --- the set-up of these tests


def test_where_images_cannot_be_built_set_up_says_why_and_goes_on(tmp_path):
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("stand_ins.py")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0
    assert re.match("make: tests of the images will skip: (buildah is not installed|.* needs root)", done.stderr)
