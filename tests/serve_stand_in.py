"""A model server without torch, for the tests of `serve`: the real one but for the model, which answers with a text.

The model file is a zip archive that looks exported; its member ``answer`` is the text, or says how to misbehave:
``broken`` (cannot be loaded), ``never`` (is never ready), ``crash`` (dies of SIGKILL once it is ready).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

from torch_predict import server
from torch_predict.errors import LoadError
from torch_predict.signature import Signature


class Predictor:
    """Answers every item with the model's text; a request of the text "slow" waits for a file `go` in /tmp's place."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.metadata = Signature()

    def answer(self, batch: Any) -> None:
        for index in range(len(batch)):
            value = batch[index].value
            if isinstance(value, str) and value.startswith("wait for "):
                file = Path(value.removeprefix("wait for "))
                file.with_suffix(".waiting").touch()
                while not file.exists():
                    time.sleep(0.01)
            batch.reply(index, "strData", f"{self._text} by {os.getpid()}", [])


def load(folder: Any, version: Any, **_: Any) -> Predictor:
    with zipfile.ZipFile(version.file) as archive:
        text = archive.read("answer").decode()
    if text == "broken":
        raise LoadError(version.file, "holds no weights", "save it again")
    if text == "never":
        time.sleep(3600)
    if text == "crash":
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
    return Predictor(text)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--listen")
    parser.add_argument("--model-version", type=int)
    parser.add_argument("--model-name")
    given = parser.parse_args()
    return server.serve(given.folder, [given.listen], version=given.model_version, name=given.model_name)


if __name__ == "__main__":
    server.load_predictor = load  # type: ignore[assignment]  # what is left out
    sys.exit(main())
