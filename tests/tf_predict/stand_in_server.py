"""A TensorFlow model server without TensorFlow: the real one but for the model.

    stand_in_server.py FOLDER ADDRESS [--admin ADDRESS] [--version N] [--name NAME]

saved_model.pb holds a text: ``broken`` cannot be loaded; otherwise ``serving_default`` answers x + the text's number.
The signature ``wait`` answers once the file that it is given exists (and makes FILE.waiting); ``fail`` raises.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl_inference.messages import SignatureDef, TensorProto
from dl_inference.serving.load_error import LoadError
from dl_inference.serving.options import ServeOptions
from tf_predict import server
from tf_predict.servable import Output

FLOAT, STRING = 1, 7


def signature(dtype: int) -> Any:
    made: Any = SignatureDef(method_name="tensorflow/serving/predict")
    for side, name in ((made.inputs, "x"), (made.outputs, "y")):
        side[name].name, side[name].dtype = f"{name}:0", dtype
        side[name].tensor_shape.unknown_rank = True
    return made


class StandIn:
    def __init__(self, number: float) -> None:
        self.signatures = {"serving_default": signature(FLOAT), "wait": signature(STRING), "fail": signature(FLOAT)}
        self._number = number
        self._closed = False

    def warmup_records(self) -> Iterator[bytes]:
        return iter(())

    def parse(self, tensor: bytes, dtype: int) -> np.ndarray:
        message: Any = TensorProto.FromString(tensor)
        values = message.string_val if dtype == STRING else message.float_val
        return np.array(list(values), object if dtype == STRING else np.float32)

    def run(self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> list[Output]:
        x = feeds["x:0"]
        if x.dtype == object:
            file = Path(x[0].decode())
            file.with_suffix(".waiting").touch()
            while not file.exists():
                time.sleep(0.01)
            assert not self._closed
            return [Output(STRING, np.array([str(self._number).encode()], object))]
        if np.isnan(x).any():
            raise ZeroDivisionError("a secret")
        return [Output(FLOAT, x + np.float32(self._number))]

    def close(self) -> None:
        self._closed = True


def load(path: Path, threads: int) -> StandIn:
    text = (path / "saved_model.pb").read_text()
    if text == "broken":
        raise LoadError(path, "cannot be loaded: it is broken", "save it again")
    return StandIn(float(text))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("address")
    parser.add_argument("--admin")
    parser.add_argument("--version", type=int)
    parser.add_argument("--name")
    given = parser.parse_args()
    sys.exit(
        server.serve(
            ServeOptions(
                model_dir=given.folder,
                listen=[given.address],
                admin=given.admin,
                name=given.name,
                version=given.version,
            ),
            load=load,
        )
    )
