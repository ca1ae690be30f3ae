"""A loaded SavedModel: the only file that imports TensorFlow.

It runs in a session, as in tensorflow_model_server: feeds and fetches are the tensor names of the signature, only the
outputs that are asked for are computed, and what an operator has to say of bad input reaches the caller in
TensorFlow's own words. (`tf.saved_model.load` puts Python's own checks, and their texts, before the operators.)
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dl_inference.messages import SignatureDef
from dl_inference.serving.load_error import LoadError
from tf_predict.errors import CODES, RequestError, invalid_argument
from tf_predict.quiet import without_notes
from tf_predict.servable import Output

# TensorFlow's notes on CPU features and the like are not for the log of a server; errors are.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# A graph needs no Keras; without this the import loads it and half of what is installed (3.4 s of CPU, with it 2.3).
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

with without_notes():
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2

TAGS = ["serve"]
WARMUP_FILE = Path("assets.extra") / "tf_serving_warmup_requests"

CALLABLES = 64
"""Prepared combinations of outputs that are kept; more of them only cost the preparation again."""


class SavedModel:
    """A SavedModel in a session of its own."""

    def __init__(self, path: Path, threads: int) -> None:
        """Load it.

        Args:
            path: the folder with saved_model.pb.
            threads: threads of one operator, and operators at a time.

        Raises:
            LoadError: TensorFlow cannot load it; says why.
        """
        self._path = path
        tf.get_logger().setLevel("ERROR")  # the loader's own deprecation notes
        config = config_pb2.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
        config.gpu_options.allow_growth = True  # several versions share a GPU
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            with self._session.graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, TAGS, str(path))
        except (tf.errors.OpError, RuntimeError, ValueError, OSError, KeyError) as error:
            self._session.close()
            text = error.message if isinstance(error, tf.errors.OpError) else str(error)
            raise LoadError(path, f"cannot be loaded: {text}", "save or copy it again") from None
        self.signatures: Mapping[str, Any] = {
            name: SignatureDef.FromString(definition.SerializeToString())
            for name, definition in meta_graph.signature_def.items()
        }
        self._prepared = functools.lru_cache(CALLABLES)(self._prepare)

    def parse(self, tensor: bytes, dtype: int) -> np.ndarray[Any, Any]:
        """Return the values of a serialized TensorProto, read by TensorFlow itself.

        Too few values: the last one repeats; too many: the first ones count; tensor_content wins over typed fields.

        Raises:
            ValueError: dtype is none that a tensor can have, or tensor_content has another length than shape and
                dtype say.
        """
        try:
            wanted = tf.dtypes.as_dtype(dtype)
            array = tf.io.parse_tensor(tensor, wanted).numpy()
        except (TypeError, NotImplementedError, tf.errors.OpError) as error:
            raise ValueError(str(error)) from None
        if wanted.is_quantized:  # numpy() forgets that it is
            return np.asarray(array).view(wanted.as_numpy_dtype)
        return np.asarray(array, dtype=object if wanted == tf.string else None)

    def run(self, feeds: Mapping[str, np.ndarray[Any, Any]], fetches: Sequence[str]) -> list[Output]:
        """Return tensors of the graph.

        Args:
            feeds: name of a tensor -> its value.
            fetches: names of the tensors to compute.

        Raises:
            RequestError: a dtype is not the tensor's, or an operator failed; TensorFlow's code and text.
        """
        names = tuple(sorted(feeds))
        try:
            dtypes, call = self._prepared(names, tuple(fetches))
            for index, (name, dtype) in enumerate(zip(names, dtypes, strict=True)):
                given = tf.dtypes.as_dtype(feeds[name].dtype)
                if given != dtype:
                    raise invalid_argument(
                        f"Expects arg[{index}] to be {_type_name(dtype)} but {_type_name(given)} is provided"
                    )
            values = call(*(feeds[name] for name in names))
        except tf.errors.OpError as error:
            raise RequestError(CODES[error.error_code], error.message) from None
        except UnicodeDecodeError as error:
            # TensorFlow's text of an OpError that quotes the caller's bytes; its code is lost on the way.
            raise invalid_argument(error.object.decode(errors="replace")) from None
        graph = self._session.graph
        return [
            Output(
                graph.get_tensor_by_name(name).dtype.as_datatype_enum,
                np.asarray(value, dtype=object if isinstance(value, bytes) else None),
            )
            for name, value in zip(fetches, values, strict=True)
        ]

    def warmup_records(self) -> Iterator[bytes]:
        """Yield the records of assets.extra/tf_serving_warmup_requests; none without the file.

        Raises:
            ValueError: the file cannot be read as TFRecords; says why.
        """
        file = self._path / WARMUP_FILE
        if not file.exists():
            return
        try:
            yield from tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
        except tf.errors.OpError as error:
            # The text is wrapped in the names of the reader's operators, which are nobody's concern.
            text = re.sub(r"^\{\{.*?\}\} | \[Op:.*", "", error.message)
            raise ValueError(f"{file}: {text}") from None

    def close(self) -> None:
        """Free its memory; no call may be running."""
        self._prepared.cache_clear()
        self._session.close()

    def _prepare(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> tuple[list[Any], Any]:
        """Return the feeds' dtypes and what runs the graph from them to the fetches.

        Not Session.run: it converts feeds to the dtypes that it wants, and refuses shapes before the operators can.
        """
        graph = self._session.graph
        try:
            dtypes = [graph.get_tensor_by_name(name).dtype for name in feeds]
            for name in fetches:
                graph.get_tensor_by_name(name)
        except (
            KeyError,
            ValueError,
        ) as error:  # a sparse or composite tensor has no name; an operation is not a tensor
            raise invalid_argument(f"the signature cannot be called: {error}") from None
        options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
        return dtypes, self._session._make_callable_from_options(options)


def _type_name(dtype: Any) -> str:
    """Return a dtype's name as TensorFlow's texts have it: float, int32, string."""
    return {"float32": "float", "float64": "double", "float16": "half"}.get(dtype.name, str(dtype.name))
