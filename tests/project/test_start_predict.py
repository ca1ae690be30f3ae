import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "startPredict.sh"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "predict . --listen 0.0.0.0:8866"),
        (["models/digits"], "predict models/digits --listen 0.0.0.0:8866"),
        (["a b", "--allow-pickle"], "predict a b --listen 0.0.0.0:8866 --allow-pickle"),
        (["m", "--listen", "127.0.0.1:1"], "predict m --listen 127.0.0.1:1"),
        (["--listen=127.0.0.1:1"], "predict . --listen=127.0.0.1:1"),
    ],
)
def test_the_script_starts_the_model_server_on_the_folder(tmp_path: Path, arguments, expected):
    shutil.copy(SCRIPT, tmp_path)
    program = tmp_path / ".venv" / "bin" / "dl-inference"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$#:$*"\n')
    program.chmod(0o755)
    path = {**os.environ, "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [tmp_path / SCRIPT.name, *arguments], check=True, capture_output=True, text=True, env=path, cwd=tmp_path
    )
    count = (
        len(arguments)
        + 1
        + (not arguments or arguments[0].startswith("-"))
        + 2 * ("--listen" not in " ".join(arguments))
    )
    assert done.stdout == f"{count}:{expected}\n"


def test_the_scripts_own_address_yields_to_the_variable(tmp_path: Path):
    shutil.copy(SCRIPT, tmp_path)
    program = tmp_path / "dl-inference"
    program.write_text('#!/bin/sh\necho "$*"\n')
    program.chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:/usr/bin:/bin", "DL_INFERENCE_LISTEN": "127.0.0.1:1"}
    done = subprocess.run([tmp_path / SCRIPT.name, "m"], check=True, capture_output=True, text=True, env=path)
    assert done.stdout == "predict m\n"


def test_the_script_stays_short():
    assert len(SCRIPT.read_text().splitlines()) <= 20
