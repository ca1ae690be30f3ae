"""The same predictor as a seldon-core component, for clusters that run seldon-core's own wrapper.

    seldon-core-microservice torch_predict.seldon_component.SeldonComponent --service-type MODEL

in the model folder, or with the parameter ``model_dir``. seldon-core decodes the request and encodes the answer
here; hooks get and return what they do under our server.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from torch_predict import context, metrics, repository
from torch_predict.config import ServerSettings
from torch_predict.errors import RequestError
from torch_predict.loading import load_predictor
from torch_predict.seldon import plain

_LOGGER = logging.getLogger(__name__)

_METHOD = "/seldon.protos.Model/Predict"


class HookFailed(RuntimeError):
    """A hook or the model raised; never a TypeError, after which the wrapper would call the hooks once more."""


class SeldonComponent:
    """One model folder. Constructing loads nothing: the wrapper calls `load` in each of its processes."""

    def __init__(self, model_dir: str = ".", allow_pickle: bool = False) -> None:
        """Take what seldon-core's parameters give.

        Args:
            model_dir: the model folder.
            allow_pickle: load a whole pickled model, which runs the code inside it.
        """
        self._folder = Path(model_dir).resolve()
        self._allow_pickle = allow_pickle
        self._counted: dict[tuple[str, tuple[str, ...]], float] = {}
        self._counting = threading.Lock()

    def load(self) -> None:
        """Load the version that is served: the latest of those that model.yaml names.

        Raises:
            ModelFolderError, LoadError: the folder or what is in it is not what it should be.
        """
        folder = repository.find(self._folder)
        settings = ServerSettings.from_environment(os.environ).completed(torch_device=folder.settings.device_of(0))
        self._predictor = load_predictor(
            folder, folder.chosen()[-1], allow_pickle=self._allow_pickle, settings=settings
        )
        if folder.settings.class_names is not None:
            self.class_names = folder.settings.class_names  # the wrapper looks for an attribute of this name

    def predict(self, x: Any, names: Iterable[str], meta: dict[str, Any] | None = None) -> Any:
        """Return what the hooks make of a decoded payload.

        Raises:
            RequestError: a hook's own words for the caller.
            HookFailed: anything else that a hook raised; the log has the traceback.
        """
        if isinstance(x, np.ndarray) and not x.flags.writeable:
            x = x.copy()  # the wrapper's arrays are views of the message; hooks may write into ours
        try:
            # The wrapper tells neither its own request id nor parameters of single inputs.
            known = meta or {}
            context.enter(context.Outside(known, _METHOD, str(known.get("puid", ""))))
            result = self._predictor.run(x, known, "this payload")
            return plain(result) if isinstance(result, dict) else result
        except RequestError:
            raise
        except BaseException as error:  # also what would end the wrapper's process: only this request fails
            _LOGGER.exception("a request failed")
            raise HookFailed("the model failed on this request; its log has the reason") from error
        finally:
            context.enter(None)

    def metrics(self) -> list[dict[str, Any]]:
        """Return what hooks have counted since the last call, for the wrapper, which asks after every request.

        A counter is told by what was added to it, as the wrapper adds it up. It has no form for histograms.
        """
        found: list[dict[str, Any]] = []
        with self._counting:
            for family in metrics.changed() or ():
                if family.kind == "histogram":
                    continue
                name, kind = family.name.removesuffix("_total"), family.kind.upper()
                for sample in family.samples:
                    series = (family.name, tuple(sample.labels.values()))
                    before, self._counted[series] = self._counted.get(series), sample.value
                    value = sample.value - (before or 0.0) if kind == "COUNTER" else sample.value
                    if sample.value != before:
                        found.append({"type": kind, "key": name, "value": value, "tags": dict(sample.labels)})
        return found
