"""Files of models that no server here reads, and folders whose names are no versions: what to do about each."""

from __future__ import annotations

import re
from pathlib import Path

from dl_inference.problem import Problem
from dl_inference.serving.folder import PYTORCH_FILES, holds_model

_KERAS = "save it as a SavedModel: keras.saving.load_model(FILE).export('1')"
_TENSORRT = (
    "serve it with Triton behind the access service, or export the original model with torch.export to model.pt2"
)
_WEIGHTS = "call it model.pt, and write the class Model of its weights into a model.py beside it"

FOREIGN = {
    ".onnx": ("an ONNX model", _TENSORRT),
    ".engine": ("a TensorRT engine", _TENSORRT),
    ".plan": ("a TensorRT engine", _TENSORRT),
    ".keras": ("a Keras model", _KERAS),
    ".h5": ("a Keras model in HDF5", _KERAS),
    ".hdf5": ("a Keras model in HDF5", _KERAS),
    ".tflite": ("a TensorFlow Lite model", "save the original model as a SavedModel: model.export('1')"),
    ".pb": ("a TensorFlow graph, but no SavedModel", "save the original model as a SavedModel: model.export('1')"),
    ".mar": ("an archive of TorchServe", "unzip it, and take the model's file and its code out of it"),
    ".ckpt": ("a checkpoint", _WEIGHTS),
    ".bin": ("a file of weights", _WEIGHTS),
    ".pkl": ("a Python pickle", "export the model with torch.export to model.pt2"),
    ".joblib": ("a Python pickle", "export the model with torch.export to model.pt2"),
}
"""Ending -> what such a file is, and what to do."""

_ODD_VERSION = re.compile(r"v(\d+)([._]\d+)*|(\d+)([._]\d+)+", re.IGNORECASE | re.ASCII)


def foreign_files(place: Path) -> list[Problem]:
    """Return the files in this very folder that look like models, none of which can be served as it is."""
    found = []
    for file in sorted(each for each in place.iterdir() if each.is_file()):
        own = next((name for name in PYTORCH_FILES if name.endswith(file.suffix)), None) if file.suffix else None
        if own is not None and file.name != own:
            found.append(Problem(str(file), "is not the name of a model's file", f"rename it to {own}"))
        elif file.suffix in FOREIGN:
            what, remedy = FOREIGN[file.suffix]
            found.append(
                Problem(str(file), f"is {what}, which no server here reads", remedy.replace("FILE", repr(file.name)))
            )
    return found


def is_odd_version(name: str) -> bool:
    """Tell whether a name looks like a version's, such as ``v2`` or ``1.0``, but is none."""
    return _ODD_VERSION.fullmatch(name) is not None


def odd_versions(path: Path) -> list[Problem]:
    """Return the folders with a model in them that look like versions of it, but are not served as such."""
    found = []
    for place in sorted(each for each in path.iterdir() if is_odd_version(each.name) and holds_model(each)):
        match = _ODD_VERSION.fullmatch(place.name)
        number = int((match[1] or match[3]) if match else 0)
        text = "is no version: the folder of a version is called by a whole number, such as 1"
        found.append(Problem(str(place), text, f"rename it, for example to {number}"))
    return found
