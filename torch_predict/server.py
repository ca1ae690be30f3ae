"""One model server: load, warm up, listen, answer batches, drain, stop.

The main thread loads the model and runs the hooks (what processor.py made at import stays usable: SQLite
connections and the like belong to a thread); the native front's own threads do everything between the socket
and a batch; one small thread hears signals, so that they are heard while a hook is busy.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torch_predict import hooks, modules, repository
from torch_predict.config import ServerSettings
from torch_predict.errors import LoadError, ModelFolderError
from torch_predict.signals import Signals

if TYPE_CHECKING:
    import torch

    from dl_inference._native import Worker
    from torch_predict.predictor import Predictor

_LOGGER = logging.getLogger(__name__)

POLL_MS = 500
"""How long one wait for a batch may last; nothing depends on it but how soon a stop is seen without traffic."""


def serve(  # noqa: PLR0913  (the command line's options)
    model_dir: Path,
    listen: list[str],
    admin: str | None = None,
    allow_pickle: bool = False,
    *,
    version: int | None = None,
    settings: ServerSettings | None = None,
    start_worker: Callable[[str], Worker] | None = None,
) -> int:
    """Serve one version of a model until SIGTERM or SIGINT.

    Args:
        model_dir: the model folder.
        listen: addresses: ``127.0.0.1:5000``, ``[::]:5000``, ``unix:/path``.
        admin: address of the HTTP admin port, if any.
        allow_pickle: load a whole pickled model, which runs the code inside it.
        version: which one; default: the last of those that model.yaml says to serve.
        settings: default: from the environment.
        start_worker: makes the native front from its configuration; tests give their own.

    Returns: the exit status: 0 after a clean drain, 1 when the start failed or calls were cut off.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        settings = settings or ServerSettings.from_environment(os.environ)
        listen = [_absolute(address) for address in listen]  # loading changes the working directory
        folder, chosen = _choose(repository.find(model_dir), version)
        predictor = load_predictor(folder, chosen, allow_pickle=allow_pickle, settings=settings)
        document = settings.worker_json(
            listen=listen,
            admin=admin,
            model=folder.name,
            version=chosen.number,
            timeout_ms=folder.settings.timeout_ms,
        )
        worker = (start_worker or _native_worker)(document)
        addresses = worker.start()
    except (ModelFolderError, LoadError, ValueError, OSError, RuntimeError) as error:
        _LOGGER.error("cannot serve %s:\n%s", model_dir, error)
        return 1
    with Signals() as signals:
        worker.set_ready(True)
        _LOGGER.info("serving %s version %d on %s", folder.name, chosen.number, ", ".join(addresses))
        return _run(worker, predictor, signals, settings.drain_timeout_ms)


def load_predictor(
    folder: repository.ModelFolder, version: repository.Version, *, allow_pickle: bool, settings: ServerSettings
) -> Predictor:
    """Load one version with its hooks; changes the working directory and ``sys.path`` of the process.

    Raises:
        LoadError: model, model.py or processor.py are not what they should be.
    """
    started = time.monotonic()
    _LOGGER.info("loading %s (%s)", version.file, version.runtime.name)
    import torch  # noqa: PLC0415  (takes seconds: not before the folder is known to be good)

    from torch_predict.predictor import Predictor  # noqa: PLC0415
    from torch_predict.warmup import warm_up  # noqa: PLC0415

    torch.set_num_threads(settings.torch_threads)
    device = _device(settings.torch_device)
    modules.enter(version.path)
    model = repository.load(folder, version, allow_pickle=allow_pickle, device=device)
    predictor = Predictor(model, hooks.load(version.path), device, folder.settings.class_names)
    _LOGGER.info("loaded on %s in %.1f s", device, time.monotonic() - started)
    started = time.monotonic()
    samples = warm_up(predictor, folder.path)
    if samples:
        _LOGGER.info("warmed up with %d samples in %.1f s", samples, time.monotonic() - started)
    return predictor


def _run(worker: Worker, predictor: Predictor, signals: Signals, drain_timeout_ms: int) -> int:
    """Answer batches until the drain that the first signal starts has ended."""
    ended = threading.Event()
    clean = [True]

    def drain() -> None:
        _LOGGER.info("draining: calls in flight have %.1f s", drain_timeout_ms / 1000)
        try:
            clean[0] = worker.drain(drain_timeout_ms)
        finally:
            ended.set()

    def stop_at_once(signal_number: int) -> None:
        _LOGGER.warning("second signal: stopping at once")
        logging.shutdown()
        os._exit(128 + signal_number)  # a hook may be busy for long, and the caller asked twice

    signals.handle(drain, stop_at_once)
    while not ended.is_set():
        batch = worker.next_batch(POLL_MS)
        if batch is not None:
            predictor.answer(batch)
    worker.stop()
    if not clean[0]:
        _LOGGER.error("stopped with calls unanswered: they took longer than %.1f s", drain_timeout_ms / 1000)
    return 0 if clean[0] else 1


def _choose(folder: repository.ModelFolder, number: int | None) -> tuple[repository.ModelFolder, repository.Version]:
    candidates = folder.served if number is None else [v for v in folder.versions if v.number == number]
    if not candidates:
        there = ", ".join(str(v.number) for v in folder.versions)
        raise ValueError(f"{folder.path} has no version {number}; found: {there}")
    return folder, candidates[-1]


def _device(name: str) -> torch.device:
    import torch  # noqa: PLC0415

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def _absolute(address: str) -> str:
    path = address.removeprefix("unix:")
    return f"unix:{Path(path).absolute()}" if path != address else address


def _native_worker(document: str) -> Worker:
    from dl_inference import messages  # noqa: PLC0415  (the face of the wire; needs no torch, but time)
    from dl_inference._native import Worker  # noqa: PLC0415

    return Worker(document, messages.DESCRIPTORS)
