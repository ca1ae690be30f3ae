"""The built wheel in empty environments, used from another folder: an editable install would hide missing files."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures.lacking import lacking
from fixtures.processes import ROOT

PACKAGES = ("access", "dl_inference", "tf_predict", "torch_predict")
VERSIONS = ("3.11", "3.12", "3.13")
BIN = Path(sys.executable).parent

# An endpoint of Seldon's protocol that sends its input back, made of what the wheel brings.
ENDPOINT = """
from concurrent.futures import ThreadPoolExecutor

import grpc

from dl_inference.messages import SeldonMessage


class Echo(grpc.GenericRpcHandler):
    def service(self, details):
        coders = {"request_deserializer": SeldonMessage.FromString, "response_serializer": lambda m: m.SerializeToString()}
        return grpc.unary_unary_rpc_method_handler(lambda message, context: message, **coders)


server = grpc.server(ThreadPoolExecutor(2), handlers=(Echo(),))
print("listening on 127.0.0.1:%d" % server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"""  # noqa: E501  (one line of a program)


def maturin(*arguments: str) -> None:
    """Run maturin as `make setup` does: the same flags and interpreter, so that nothing is compiled again."""
    environment = {**os.environ, "VIRTUAL_ENV": str(BIN.parent), "PYO3_PYTHON": sys.executable}
    subprocess.run([BIN / "maturin", *arguments], cwd=ROOT, env=environment, check=True, capture_output=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    if not (BIN / "maturin").exists() or shutil.which("cargo") is None:
        lacking("maturin or cargo is not there: make setup")
    folder = tmp_path_factory.mktemp("wheel")
    maturin("build", "--release", "--locked", "--out", str(folder))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    if not (BIN / "maturin").exists():
        lacking("maturin is not there: make setup")
    folder = tmp_path_factory.mktemp("sdist")
    maturin("sdist", "--out", str(folder))
    (built,) = folder.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        archive.extractall(folder, filter="data")
    return built.with_name(built.name.removesuffix(".tar.gz"))


def interpreter(version: str) -> Path | None:
    """Return a Python of this version; None where the machine has none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    named = shutil.which(f"python{version}")
    for path in [*([Path(named)] if named else []), *sorted(pyenv.glob(f"versions/{version}.*/bin/python"))]:
        # A shim of pyenv's is there for versions that are not in use, too, and fails.
        if subprocess.run([path, "--version"], capture_output=True, check=False).returncode == 0:
            return path
    return None


@pytest.fixture(scope="module", params=VERSIONS)
def environment(request, wheel, tmp_path_factory) -> Path:
    """Install the wheel into an empty environment; give that environment's folder of programs."""
    python = interpreter(request.param)
    if python is None:
        pytest.skip(f"the machine has no Python {request.param}")
    folder = tmp_path_factory.mktemp(f"python{request.param}")
    uv = BIN / "uv"
    subprocess.run([uv, "venv", "--quiet", "--python", python, folder], check=True)
    constraints = ["--constraints", ROOT / "constraints.txt"]
    subprocess.run([uv, "pip", "install", "--quiet", "--python", folder, *constraints, wheel], check=True)
    return folder / "bin"


@pytest.fixture(autouse=True)
def _not_this_checkout(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("PYTHON", "VIRTUAL_ENV", "DL_INFERENCE_"))]:
        monkeypatch.delenv(name)


def output(folder: Path, *command: str | Path) -> str:
    """Run a program in a folder; return what it printed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(300)
def test_the_wheel_needs_neither_torch_nor_tensorflow(environment: Path, tmp_path: Path):
    program = (
        "import dl_inference, access.service, dl_inference.cli, dl_inference.commands.call, dl_inference._native, sys\n"
        "assert not {'torch', 'tensorflow', 'seldon_core', 'kazoo'} & sys.modules.keys()\n"
        "print(access.__file__, dl_inference.__file__, dl_inference._native.__file__, sep='\\n')\n"
    )
    for place in output(tmp_path, environment / "python", "-c", program).splitlines():
        assert Path(place).is_relative_to(environment.parent)


def test_the_wheels_command_says_its_version_and_helps(environment: Path, tmp_path: Path):
    command = environment / "dl-inference"
    assert output(tmp_path, command, "version").startswith("dl-inference 0.")
    assert "access" in output(tmp_path, command, "--help")
    assert "MODEL_DIR" in output(tmp_path, command, "predict", "--help")


def test_the_wheels_predict_says_that_torch_is_an_extra(environment: Path, tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    (tmp_path / "model.py").write_text("class Model: ...\n")
    command = [environment / "dl-inference", "predict", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "torch is not installed: pip install 'dl-inference[torch]'" in done.stderr


def test_the_wheels_access_service_answers_a_call(environment: Path, tmp_path: Path, run):
    endpoint = run([environment / "python", "-c", ENDPOINT], cwd=tmp_path).wait_line(r"listening on (\S+)")[1]
    config = tmp_path / "access.yaml"
    config.write_text(
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nexpose_endpoints: true\n"
        f"models: {{m: {{endpoints: ['{endpoint}'], protocol: seldon}}}}\n"
    )
    command = environment / "dl-inference"
    assert endpoint in output(tmp_path, command, "check", config)
    access = run([command, "access", "--config", config], cwd=tmp_path)
    address, admin = access.wait_line(r"ready on (\S+), (\S+)").groups()
    said = output(tmp_path, command, "call", "m", "[[1, 2.5]]", "--to", address)
    assert "tensor float64 (1, 2)" in said
    assert f"by {endpoint}" in said
    assert endpoint in output(tmp_path, command, "status", "--admin", admin)
    access.signal(15)
    assert access.wait() == 0


def files(folder: Path) -> Iterator[str]:
    """Yield the paths of a package folder's files that belong into a wheel."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(ROOT).as_posix()


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == {name for package in PACKAGES for name in files(ROOT / package)}


def test_the_sdist_holds_the_wire_contract_and_builds(sdist: Path):
    protos = {path.relative_to(ROOT) for path in (ROOT / "protos").rglob("*.*")}
    assert protos
    for path in protos:
        assert (sdist / path).read_bytes() == (ROOT / path).read_bytes()
    for name in ("LICENSE", "README.md", "pyproject.toml", "Cargo.lock", "dataplane/crates/core/build.rs"):
        assert (sdist / name).is_file()
    # The manifests and the lock file agree; compiling it all again would prove little more, in minutes.
    command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1"]
    subprocess.run(command, cwd=sdist, check=True, capture_output=True)
