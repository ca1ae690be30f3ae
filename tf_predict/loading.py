"""From a version's folder to a model that has been run, and the loop that follows the folder as TF Serving does."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from pathlib import Path

from dl_inference.serving import expected
from dl_inference.serving.given import NOTHING, Given
from dl_inference.serving.load_error import LoadError
from dl_inference.serving.report import Reporter
from dl_inference.serving.settings import ModelFolderError
from tf_predict import repository, signature
from tf_predict.repository import Fingerprint, ModelFolder, Version
from tf_predict.servable import Servable
from tf_predict.versions import Versions
from tf_predict.warmup import warm_up

_LOGGER = logging.getLogger(__name__)

POLL_S = 1.0
"""Between two looks at the folder, as in TF Serving. A version counts once two looks saw the same files."""

Load = Callable[[Path, int], "Servable"]
"""Loads a SavedModel: (folder, threads of one operator)."""


def load_tensorflow(path: Path, threads: int) -> Servable:
    """Load a SavedModel with TensorFlow.

    Raises:
        LoadError: TensorFlow cannot load it.
        ModuleNotFoundError: TensorFlow is not installed.
    """
    from tf_predict.saved_model import SavedModel  # noqa: PLC0415  (an extra, and takes seconds to import)

    return SavedModel(path, threads)


class Loader:
    """Loads versions of a folder into `Versions`. Every method blocks; one thread at a time calls them.

    Args:
        versions: gets what was loaded.
        load: loads a SavedModel.
        threads: of one operator.
        given: what replaces values of model.yaml.
        is_judged: whether a version whose answers are not the expected ones is refused.
    """

    def __init__(
        self, versions: Versions, load: Load, threads: int, given: Given = NOTHING, *, is_judged: bool = True
    ) -> None:
        self._versions = versions
        self._load = load
        self._threads = threads
        self._given = given
        self._is_judged = is_judged
        self._seen: dict[int, Fingerprint] = {}
        self._failed: dict[int, Fingerprint] = {}
        self._problem = ""

    def load(self, folder: ModelFolder, version: Version, reporter: Reporter | None = None) -> None:
        """Load one version, run it, compare its answers with those that the folder expects, and let it answer.

        Args:
            folder: the model's.
            version: one of it.
            reporter: is told how far this has come.

        Raises:
            LoadError: it cannot be loaded, or an answer is not the expected one.
        """
        reporter = reporter or Reporter()
        reporter.at("load")
        started = time.monotonic()
        self._versions.loading(version.number)
        _LOGGER.info("loading %s", version.path)
        try:
            servable = self._load(version.path, self._threads)
        except LoadError as error:
            self._versions.failed(version.number, str(error))
            raise
        loaded = time.monotonic()
        reporter.at("warm-up")
        warmed = warm_up(servable, version.number, folder.path, self._versions)
        done = time.monotonic()
        _LOGGER.info(
            "loaded version %d in %.1f s, warmed it up with %d requests in %.1f s",
            version.number,
            loaded - started,
            warmed.answered,
            done - loaded,
        )
        reporter.at("golden")
        if self._is_judged and folder.settings.golden.required:
            try:
                expected.require(warmed.problems, folder.path)
            except LoadError as error:
                servable.close()
                self._versions.failed(version.number, str(error))
                raise
        signatures = servable.signatures
        reporter.found(signature.inputs_of(signatures), signature.outputs_of(signatures), nan=warmed.nan)
        self._versions.loaded(version.number, servable)

    def follow(self, path: Path, tell: Callable[[Collection[int]], None]) -> None:
        """Look at the folder once: load what is new, then unload what is no longer to be served.

        Args:
            path: the folder.
            tell: gets the versions that answer from now on, before others are unloaded.
        """
        try:
            folder = repository.find(path, self._given)
        except (ModelFolderError, OSError) as error:  # OSError: it changes at this moment
            self._say(f"{path} cannot be read again; what was loaded is served on:\n{error}")
            return
        self._say("")
        self._versions.configure(folder.settings)
        wanted = folder.chosen(None)
        here = self._versions.available()
        for version in wanted:
            if version.number not in here and self._is_still(folder, version):
                self._try(folder, version)
        serving = set(self._versions.available())
        numbers = {version.number for version in wanted}
        leaving = serving - numbers if numbers <= serving else set()
        tell(serving - leaving)
        for number in leaving:
            self._versions.unload(number)
            _LOGGER.info("unloaded version %d", number)

    def _is_still(self, folder: ModelFolder, version: Version) -> bool:
        """Tell whether two looks saw the same files, and not those that could not be loaded."""
        try:
            now = version.fingerprint() + folder.fingerprint()
        except OSError:
            return False
        before = self._seen.get(version.number)
        self._seen[version.number] = now
        return now == before and now != self._failed.get(version.number)

    def _try(self, folder: ModelFolder, version: Version) -> None:
        try:
            self.load(folder, version)
        except LoadError as error:
            self._failed[version.number] = self._seen[version.number]
            _LOGGER.error("version %d is not served; what was loaded is served on:\n%s", version.number, error)

    def _say(self, problem: str) -> None:
        """Log a problem when it is new, not once a second."""
        if problem and problem != self._problem:
            _LOGGER.error("%s", problem)
        self._problem = problem


async def follow(loader: Loader, path: Path, stopping: asyncio.Event, tell: Callable[[Collection[int]], None]) -> None:
    """Look at the folder again and again until the server stops; `tell` as in `Loader.follow`."""
    while not stopping.is_set():
        await asyncio.to_thread(loader.follow, path, tell)
        try:
            async with asyncio.timeout(POLL_S):
                await stopping.wait()
        except TimeoutError:
            continue
