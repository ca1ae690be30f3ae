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
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from dl_inference._native import NativeError, Worker
from dl_inference.messages import DESCRIPTORS
from dl_inference.registry.announcing import registration as registry
from dl_inference.registry.announcing.registration import Announcement, Served
from dl_inference.registry.zookeeper import RegistryError
from dl_inference.serving import ending, forked, log, manifest, trust
from dl_inference.serving.load_error import LoadError
from dl_inference.serving.options import ServeOptions
from dl_inference.serving.report import Reporter
from dl_inference.serving.settings import ModelFolderError
from dl_inference.serving.signals import Signals
from torch_predict import repository
from torch_predict.config import ServerSettings
from torch_predict.finishing import finish
from torch_predict.front import worker_config
from torch_predict.loading import load_predictor
from torch_predict.publishing import Publisher

if TYPE_CHECKING:
    from torch_predict.predictor import Predictor

_LOGGER = logging.getLogger(__name__)

POLL_MS = 500
"""How long one wait for a batch may last; nothing depends on it but how soon a stop is seen without traffic."""

LISTEN_S = 0.5
"""How often the front is asked what the log should say, and told of the model's own metrics."""

STUCK_S = 1.0
"""How long a hook may still be busy when the time to drain is over."""

_CANNOT_SERVE = (ModelFolderError, LoadError, NativeError, RegistryError, ValueError, OSError)


def serve(
    options: ServeOptions,
    *,
    settings: ServerSettings | None = None,
    make_worker: Callable[[str, bytes], Worker] = Worker,
) -> int:
    """Serve one version of a model until SIGTERM or SIGINT.

    Args:
        options: what to serve, and where; of several versions that model.yaml names, the last.
        settings: default: from the environment.
        make_worker: makes the native front; tests give their own.

    Returns: the exit status: 0 after a clean drain, 1 when the start failed or calls were cut off.
    """
    log.begin()
    reporter = Reporter(options.report)
    with Signals() as signals:
        try:
            settings = settings or ServerSettings.from_environment(os.environ)
            options = options.checked()
            folder = repository.find(options.model_dir, options.given(os.environ))
            chosen = folder.chosen(options.version)[-1]
            if options.trusted_keys is not None:
                copy = trust.checked_copy(folder.path, chosen.path, options.trusted_keys, options.private, reporter)
                folder = repository.find(copy, options.given(os.environ))
                chosen = folder.chosen(chosen.number)[-1]
            else:
                reporter.at("manifest")
                others = [each.path for each in folder.versions if each != chosen]
                for place in dict.fromkeys((folder.path, chosen.path)):
                    manifest.check(place, others)
            name = options.name or folder.name
            served = _served((name, *folder.settings.aliases), chosen.number, folder.settings.labels)
            announcement = Announcement(options.registration or registry.read(os.environ), "torch_predict")
            announcement.check(options.listen, served)
            settings = settings.completed(
                torch_device=folder.settings.device_of(options.instance),
                torch_threads=folder.settings.threads or options.threads,
            )
            predictor = load_predictor(
                folder,
                chosen,
                allow_pickle=options.allow_pickle,
                settings=settings,
                reporter=reporter,
                is_judged=options.is_judged,
            )
            document = worker_config(
                options, folder, chosen, predictor.metadata, joined=predictor.alike if predictor.is_joining else None
            ).model_dump_json()
            worker = make_worker(document, DESCRIPTORS)
            bound = _start(worker)
            announcement.open(bound)
        except _CANNOT_SERVE as error:
            reporter.failed(error)
            _LOGGER.error("cannot serve %s:\n%s", options.model_dir, error)
            return 1
        signals.queue()
        worker.set_ready(True)
        _LOGGER.info("serving %s version %d on %s", name, chosen.number, ", ".join(bound))
        announcement.tell([served])
        try:
            publisher = Publisher(worker.show_metrics if options.admin else None, options.metrics_file)
            status = _run(worker, predictor, signals, announcement, settings.drain_timeout_ms, publisher)
            status = finish(predictor.finish, status)
            publisher.step(is_last=True)
            return status
        finally:
            announcement.close()


def _start(worker: Worker) -> list[str]:
    """Listen; what a hook forks lets go of the sockets. Return the addresses."""
    before = forked.listening()
    bound = worker.start()
    forked.disown(forked.listening() - before)
    return bound


def _listen(worker: Worker, listened_at: float, publisher: Publisher) -> float:
    """Log what the front has noticed and publish metrics, at most once in `LISTEN_S`; return when that was last."""
    now = time.monotonic()
    if now - listened_at < LISTEN_S:
        return listened_at
    for level, text in worker.notices():
        _LOGGER.log(logging.getLevelNamesMapping()[level], "%s", text)
    publisher.step()
    return now


def _served(names: tuple[str, ...], version: int, labels: Mapping[str, int]) -> Served:
    own = tuple(label for label, number in labels.items() if number == version)
    return Served(names, "seldon", str(version), labels=own)


def _run(  # noqa: PLR0913, PLR0917  (the parts of one server, which nothing else holds together)
    worker: Worker,
    predictor: Predictor,
    signals: Signals,
    announcement: Announcement,
    drain_timeout_ms: int,
    publisher: Publisher,
) -> int:
    """Answer batches until the drain that the first signal starts has ended."""
    draining, ended, stopped = threading.Event(), threading.Event(), threading.Event()
    is_clean = False

    def drain() -> None:
        nonlocal is_clean
        if announcement.say_goodbye():
            stopped.wait(announcement.goodbye_s)
        _LOGGER.info("draining: calls in flight have %.1f s", drain_timeout_ms / 1000)
        draining.set()
        try:
            is_clean = worker.drain(drain_timeout_ms)
        finally:
            ended.set()
        if not is_clean and not stopped.wait(STUCK_S):
            _LOGGER.error("a hook is still busy: stopping without it")
            ending.exit_now(1)

    def stop_at_once(signal_number: int) -> None:
        _LOGGER.warning("second signal: stopping at once")
        ending.exit_now(128 + signal_number)  # a hook may be busy for long, and the caller asked twice

    signals.handle(drain, stop_at_once)
    listened_at = 0.0
    while not ended.is_set():
        try:
            batch = None if predictor.is_ahead else worker.next_batch(POLL_MS)
            listened_at = _listen(worker, listened_at, publisher)
            if predictor.is_ahead:
                predictor.go_on(worker)
            elif batch is not None:
                predictor.answer(batch, worker)
            elif draining.is_set():
                ended.wait(0.01)  # a drained front has nothing to wait for and says so at once
        except BaseException:
            # A signal handler or a thread of the model's code can raise wherever this thread is. The batch that it had
            # is dropped, which answers its calls INTERNAL.
            _LOGGER.exception("the model's code raised outside of its hooks: going on")
    stopped.set()
    worker.stop()
    if not is_clean:
        _LOGGER.error("stopped with calls unanswered: they took longer than %.1f s", drain_timeout_ms / 1000)
    return 0 if is_clean else 1
