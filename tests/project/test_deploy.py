"""deploy/: compose.yaml and Kubernetes's manifests are valid, and agree with one another and with the images."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from fixtures.dns_server import DnsServer
from fixtures.lacking import lacking
from fixtures.processes import ROOT

from access.check import check
from access.config.load import load
from access.config.sections import AccessConfig
from dl_inference import cli
from dl_inference.registry.zookeeper import parse_url

DEPLOY = ROOT / "deploy"
COMPOSE = DEPLOY / "compose.yaml"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
COMMANDS = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
IMAGE_CONFIG = Path("/etc/dl-inference/access.yaml")


def command_of(words: list[str]) -> dict[str, Any]:
    """Parse a command line of dl-inference as the program does; return its options by name."""
    return COMMANDS[words[0]].make_context(words[0], words[1:]).params


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def image_environment() -> dict[str, str]:
    text = (ROOT / "docker" / "Dockerfile.access").read_text().replace("\\\n", " ")
    return dict(word.split("=", 1) for line in re.findall(r"^ENV (.*)$", text, re.MULTILINE) for word in line.split())


# --- compose.yaml


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())["services"]


def of_image(services: dict[str, Any], image: str) -> dict[str, Any]:
    return {name: service for name, service in services.items() if image in service["image"]}


def compose_config() -> AccessConfig:
    return load(DEPLOY / "access" / "access.yaml", environment=image_environment()).config


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


def test_compose_has_zookeeper_three_model_servers_and_two_access_services(services):
    images = sorted(service["image"].rpartition("/")[2].split(":")[0] for service in services.values())
    assert images == ["dl-inference-access"] * 2 + ["dl-inference-cpu"] * 3 + ["zookeeper"]


def test_compose_servers_announce_themselves_where_the_access_services_look(services):
    (source,) = compose_config().discovery
    (host,) = source.hosts.split(",")
    name = host.partition(":")[0]
    assert "zookeeper" in services[name]["image"]
    for server in of_image(services, "dl-inference-cpu").values():
        options = command_of(server["command"])
        place = parse_url(options["register"], {})
        assert place.hosts == host
        assert place.chroot == source.path
        (listen,) = options["listen"]
        assert not listen.startswith("127."), "other containers have to reach it"
        assert name in server["depends_on"]


def test_compose_serves_and_builds_what_exists(services):
    for server in of_image(services, "dl-inference").values():
        assert (DEPLOY / server["build"]["context"]).resolve() == ROOT
        assert (ROOT / server["build"]["dockerfile"]).is_file()
        for volume in server["volumes"]:
            outside, inside, mode = volume.split(":")
            assert (DEPLOY / outside).is_dir()
            assert mode == "ro"
            if "command" in server:
                assert command_of(server["command"])["model_dir"] == Path(inside)
            else:
                assert IMAGE_CONFIG.parent == Path(inside)


def test_compose_gives_every_access_service_ports_of_its_own_and_the_admin_port_to_this_machine_only(services):
    config = compose_config()
    inside = [port_of(config.listen[0]), port_of(config.admin)]
    published = [port.split(":") for service in of_image(services, "access").values() for port in service["ports"]]
    assert [int(port[-1]) for port in published] == inside * 2
    outside = [port[-2] for port in published]
    assert len(set(outside)) == len(outside)
    assert [port[0] for port in published if int(port[-1]) == inside[1]] == ["127.0.0.1"] * 2
    assert {name for name, service in services.items() if "ports" in service} == of_image(services, "access").keys()


def test_compose_keeps_the_last_state_where_it_can_be_written(services):
    for service in of_image(services, "access").values():
        assert service["read_only"]
        (place,) = service["tmpfs"]
        assert place.split(":")[0] == compose_config().state_dir


def test_compose_gives_calls_in_flight_their_time(services):
    drain_ms = compose_config().drain_timeout_ms
    for service in of_image(services, "dl-inference").values():
        assert int(service["stop_grace_period"].removesuffix("s")) * 1000 > drain_ms


# --- Kubernetes


@pytest.fixture(scope="module")
def objects() -> dict[tuple[str, str], dict[str, Any]]:
    """(kind, name) -> object."""
    documents = [each for path in MANIFESTS for each in yaml.safe_load_all(path.read_text())]
    found = {(each["kind"], each["metadata"]["name"]): each for each in documents}
    assert len(found) == len(documents)
    return found


@pytest.fixture(scope="module")
def kubeconform(peer_python: Callable[[str], Path], tmp_path_factory) -> Callable[..., Any]:
    """Judge manifests by the schemas of Kubernetes's own API: the newest that the package brings, nothing unknown."""
    python = peer_python("kubernetes")
    program = python.with_name("kubeconform")
    if not program.exists():
        lacking("no kubeconform: make peers, with Go installed")
    (package,) = python.parents[1].glob("lib/python*/site-packages/kubernetes_validate")
    newest = max(
        (package / "kubernetes-json-schema").glob("v*-local-strict"),
        key=lambda folder: [int(each) for each in re.findall(r"\d+", folder.name)],
    )
    schemas = tmp_path_factory.mktemp("schemas")
    # The package's refer to one file of definitions by an address of the web; kubeconform gets them in each.
    definitions = json.loads((newest / "_definitions.json").read_text())["$defs"]
    kinds = {(each["kind"], each["apiVersion"]) for path in MANIFESTS for each in yaml.safe_load_all(path.read_text())}
    for kind, version in kinds:
        group = version.replace("/", "-").replace(".k8s.io", "")
        name = f"{kind.lower()}-{group}.json"
        schema = json.loads((newest / name).read_text())
        del schema["$id"]
        text = json.dumps({**schema, "$defs": definitions}).replace('"/api/_definitions.json#/', '"#/')
        (schemas / name).write_text(text)

    def judge(*files: Path) -> tuple[int, Any]:
        location = f"{schemas}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json"
        done = subprocess.run(
            [program, "-strict", "-output", "json", "-summary", "-schema-location", location, *files],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, json.loads(done.stdout)

    return judge


def test_kubernetes_takes_every_object(kubeconform, objects):
    code, said = kubeconform(*MANIFESTS)
    assert code == 0, said
    assert said["summary"] == {"valid": len(objects), "invalid": 0, "errors": 0, "skipped": 0}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("replicas: 2", "replicas: two"), ("readinessProbe:", "readyProbe:"), ("minAvailable: 1", "minAvailabl: 1")],
)
def test_kubernetes_would_not_take_a_mistake(kubeconform, tmp_path, right, wrong):
    text = (DEPLOY / "kubernetes" / "access.yaml").read_text()
    assert text.count(right) == 1
    (tmp_path / "access.yaml").write_text(text.replace(right, wrong))
    code, said = kubeconform(tmp_path / "access.yaml")
    assert (code, said["summary"]["invalid"]) == (1, 1)


@pytest.fixture
def config_file(objects, tmp_path) -> Path:
    """The ConfigMap's access.yaml, as the pod sees it."""
    (name,) = objects["ConfigMap", "access"]["data"]
    path = tmp_path / name
    path.write_text(objects["ConfigMap", "access"]["data"][name])
    return path


@pytest.fixture
def config(config_file) -> AccessConfig:
    return load(config_file, environment=image_environment()).config


def pod(objects: dict[tuple[str, str], Any], name: str) -> Any:
    return objects["Deployment", name]["spec"]["template"]["spec"]


def container(objects: dict[tuple[str, str], Any], name: str) -> Any:
    (only,) = pod(objects, name)["containers"]
    return only


def ports(objects: dict[tuple[str, str], Any], name: str) -> dict[str, int]:
    return {each["name"]: each["containerPort"] for each in container(objects, name)["ports"]}


def deployments(objects: dict[tuple[str, str], Any]) -> Iterator[tuple[str, Any]]:
    return ((name, each) for (kind, name), each in objects.items() if kind == "Deployment")


def test_every_object_is_in_the_namespace(objects):
    spaces = {each["metadata"].get("namespace") for (kind, _), each in objects.items() if kind != "Namespace"}
    assert spaces == {name for kind, name in objects if kind == "Namespace"}


def test_selectors_find_the_pods_of_their_deployment(objects):
    labels = {name: each["spec"]["template"]["metadata"]["labels"] for name, each in deployments(objects)}
    wanted = {"access": {"app.kubernetes.io/name": "access"}, "digits": {"app.kubernetes.io/name": "digits"}}
    for name, deployment in deployments(objects):
        (spread,) = pod(objects, name)["topologySpreadConstraints"]
        budget = objects["PodDisruptionBudget", name]
        service = objects["Service", {"access": "dl-inference"}.get(name, name)]
        selectors = [deployment["spec"]["selector"], spread["labelSelector"], budget["spec"]["selector"]]
        assert [each["matchLabels"] for each in selectors] == [wanted[name]] * 3
        assert service["spec"]["selector"] == wanted[name]
        assert wanted[name].items() <= labels[name].items()


def test_services_lead_to_ports_that_the_programs_listen_on(objects, config):
    assert ports(objects, "access") == {"grpc": port_of(config.listen[0]), "admin": port_of(config.admin)}
    options = command_of(container(objects, "digits")["args"])
    assert ports(objects, "digits") == {"grpc": port_of(options["listen"][0]), "admin": port_of(options["admin"])}
    for service, deployment in {"dl-inference": "access", "digits": "digits"}.items():
        (port,) = objects["Service", service]["spec"]["ports"]
        assert ports(objects, deployment)[port["targetPort"]] == port["port"]
    addresses = [*config.listen, config.admin, *options["listen"], options["admin"]]
    assert all(address.startswith("0.0.0.0:") for address in addresses), "probes and callers come from outside"


def test_probes_ask_pages_of_the_admin_port(objects):
    for name, _ in deployments(objects):
        asked = {
            kind: container(objects, name)[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")
        }
        assert {kind: page["path"] for kind, page in asked.items()} == {
            "startup": "/live",
            "readiness": "/ready",
            "liveness": "/live",
        }
        assert {page["port"] for page in asked.values()} == {"admin"}


def test_a_pod_that_goes_has_time_for_its_calls(objects, config):
    drains_ms = {"access": config.drain_timeout_ms, "digits": AccessConfig.model_fields["drain_timeout_ms"].default}
    for name, _ in deployments(objects):
        command = container(objects, name)["lifecycle"]["preStop"]["exec"]["command"]
        assert command[0] == "sleep"
        whole_s = pod(objects, name)["terminationGracePeriodSeconds"]
        assert int(command[1]) + drains_ms[name] / 1000 < whole_s
        if name == "digits":
            source = config.models["digits"].discovery
            assert int(command[1]) * 1000 > source.max_ttl_ms, "the access services have to look once more"


def test_nothing_runs_as_root_or_writes_where_it_should_not(objects):
    for name, _ in deployments(objects):
        security = pod(objects, name)["securityContext"]
        assert security["runAsNonRoot"]
        user = re.search(r"^USER (\d+):", (ROOT / "docker" / "Dockerfile.access").read_text(), re.MULTILINE)
        assert security["runAsUser"] == int(user[1])
        inner = container(objects, name)["securityContext"]
        assert inner["readOnlyRootFilesystem"]
        assert not inner["allowPrivilegeEscalation"]
        assert inner["capabilities"]["drop"] == ["ALL"]
        assert {"requests", "limits"} == container(objects, name)["resources"].keys()


def test_a_disruption_leaves_somebody_to_answer(objects):
    for name, deployment in deployments(objects):
        budget = objects["PodDisruptionBudget", name]["spec"]
        assert deployment["spec"]["replicas"] >= 2
        stays = budget.get("minAvailable", deployment["spec"]["replicas"] - budget.get("maxUnavailable", 0))
        assert 1 <= stays < deployment["spec"]["replicas"]
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_the_configuration_is_mounted_where_the_image_looks_and_the_state_where_it_can_be_written(objects, config):
    mounts = {each["name"]: each for each in container(objects, "access")["volumeMounts"]}
    volumes = {each["name"]: each for each in pod(objects, "access")["volumes"]}
    assert mounts["config"]["mountPath"] == str(IMAGE_CONFIG.parent)
    assert "subPath" not in mounts["config"]
    assert volumes["config"]["configMap"]["name"] in {name for kind, name in objects if kind == "ConfigMap"}
    assert mounts["state"]["mountPath"] == config.state_dir
    assert "emptyDir" in volumes["state"]


def test_the_access_service_asks_for_the_name_of_the_headless_service(objects, config):
    ((name, model),) = config.models.items()
    service = objects["Service", name]
    assert service["spec"]["clusterIP"] == "None"
    metadata = service["metadata"]
    assert model.discovery.name == f"{metadata['name']}.{metadata['namespace']}.svc.cluster.local."
    assert model.discovery.port == service["spec"]["ports"][0]["port"]


def test_the_configuration_routes_to_every_pod_that_the_clusters_dns_names(config_file, config):
    server = DnsServer({(config.models["digits"].discovery.name, "A"): ["10.244.1.7", "10.244.2.3", "10.244.1.8"]})
    try:
        text = config_file.read_text()
        assert text.count("port: 5000\n") == 1
        config_file.write_text(text.replace("port: 5000\n", f"port: 5000\n      servers: [{server.address}]\n"))
        report = check(config_file)
    finally:
        server.close()
    assert (report.problems, report.warnings) == ((), ())
    assert report.routing is not None
    (cluster,) = report.routing.state["clusters"]
    assert [each["address"] for each in cluster["endpoints"]] == [
        "10.244.1.7:5000",
        "10.244.1.8:5000",
        "10.244.2.3:5000",
    ]


def test_the_model_of_the_image_is_the_one_that_is_served(objects):
    text = (DEPLOY / "kubernetes" / "Dockerfile.digits").read_text()
    build = re.search(r"docker build .*", text)[0]
    words = shlex.split(build)
    assert (ROOT / words[words.index("--file") + 1]).is_file()
    assert (ROOT / words[-1]).is_dir()
    assert words[words.index("--tag") + 1] == container(objects, "digits")["image"]
    assert re.search(r"^FROM dl-inference-cpu$", text, re.MULTILINE)
    folder = re.search(r"^COPY \. (\S+)$", text, re.MULTILINE)[1]
    assert command_of(container(objects, "digits")["args"])["model_dir"] == Path(folder)
