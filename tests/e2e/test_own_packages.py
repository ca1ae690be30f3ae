"""Models whose processes run with packages of their own, beside others, under the real `serve`."""

from __future__ import annotations

import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import torch
from fixtures.access_process import wait_until
from fixtures.serve_process import Serve

from dl_inference import Client
from dl_inference.local import environments

pytestmark = pytest.mark.timeout(400)

LIMIT_S = 300
PROCESSOR = """
import importlib.util, sys
import only_here

def postprocess(x, meta):
    others = ("grpc", "kazoo", "rich", "typer", "packaging")
    absent = [name for name in others if importlib.util.find_spec(name) is None]
    ours = [name for name in ("dl_inference", "torch_predict", "access") if importlib.util.find_spec(name)]
    return {"value": only_here.VALUE, "absent": absent, "ours": ours, "prefix": sys.prefix}
"""
# docs/serve.md names the first five; the others are what those need themselves.
NEEDED = (
    *("numpy", "numpy.libs", "pydantic", "yaml", "google", "torch"),
    *("pydantic_core", "annotated_types", "typing_extensions.py", "typing_inspection"),
    *("torchgen", "functorch", "filelock", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec", "nvidia"),
)


def write_model(folder: Path, processor: str, **files: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.py").write_text("import torch\nclass Model(torch.nn.Identity): pass\n")
    torch.save({}, folder / "model.pt")
    (folder / "processor.py").write_text(processor)
    for name, text in files.items():
        (folder / name.replace("_", ".")).write_text(text)
    return folder


def write_wheel(folder: Path, value: int) -> None:
    folder.mkdir()
    name = "only_here-1.0"
    with zipfile.ZipFile(folder / f"{name}-py3-none-any.whl", "w") as wheel:
        wheel.writestr("only_here.py", f"VALUE = {value}")
        wheel.writestr(f"{name}.dist-info/METADATA", "Metadata-Version: 2.1\nName: only-here\nVersion: 1.0\n")
        wheel.writestr(
            f"{name}.dist-info/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{name}.dist-info/RECORD", "")


def make_interpreter(place: Path, value: int) -> None:
    """Make an environment that has what a model process needs, and nothing else of this one."""
    venv.create(place, with_pip=False, symlinks=True)
    (packages,) = place.glob("lib/*/site-packages")
    for name in NEEDED:
        source = Path(sysconfig.get_path("purelib")) / name
        if source.exists():
            (packages / name).symlink_to(source)
    (packages / "only_here.py").write_text(f"VALUE = {value}")


def test_models_run_with_packages_of_their_own_beside_others(run, tmp_path: Path):
    models = tmp_path / "models"
    own = write_model(models / "own", PROCESSOR, model_yaml="python: .venv/bin/python")
    make_interpreter(own / ".venv", 1)
    write_wheel(tmp_path / "wheels", 2)
    local = f"--no-index\n--find-links {tmp_path / 'wheels'}\n"
    write_model(models / "installed", PROCESSOR, requirements_txt=f"{local}only-here==1.0\n")
    write_model(models / "missing", PROCESSOR, requirements_txt=f"{local}nowhere-at-all\n")
    env = {"TMPDIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    serve = Serve(run, models, "--make-environments", real=True, env=env)
    for name in ("own", "installed"):
        serve.wait_state(name, "serving", LIMIT_S)
    with Client(serve.address) as client:
        answer = client.predict_seldon("own", [[1.0]], timeout_ms=60_000).value
        assert (answer["value"], answer["prefix"]) == (1, str(own / ".venv"))
        assert answer["absent"] == ["grpc", "kazoo", "rich", "typer", "packaging"]
        assert answer["ours"] == ["dl_inference", "torch_predict"]
        answer = client.predict_seldon("installed", [[1.0]], timeout_ms=60_000).value
        assert answer["value"] == 2
        cache = tmp_path / "cache" / "dl-inference" / "environments"
        assert Path(answer["prefix"]).is_relative_to(cache)
        assert Path(answer["prefix"]) not in environments.remove_unused(cache, unused_s=-1)
        assert Path(answer["prefix"]).exists()

    def reason() -> str:
        return serve.folder("missing")["reason"]  # type: ignore[index, no-any-return]

    text = wait_until(reason, "the one that cannot be installed is refused", LIMIT_S)
    assert f"{models / 'missing' / 'requirements.txt'}: cannot be installed (exit status 1" in text
    assert "No matching distribution found for nowhere-at-all" in serve.process.log
