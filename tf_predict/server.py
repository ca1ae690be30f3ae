"""One model server: load, warm up, listen, answer, drain, stop.

On grpc.aio: health watches and reflection streams, which last, hold no thread, and a call whose deadline has passed
leaves the queue. The model runs in threads; TensorFlow lets go of Python's lock there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import grpc

from dl_inference.registry.announcing import registration as registry
from dl_inference.registry.announcing.registration import Announcement, Served
from dl_inference.registry.zookeeper import RegistryError
from dl_inference.serving import ending, log
from dl_inference.serving.limits import CommonLimits
from dl_inference.serving.load_error import LoadError
from dl_inference.serving.options import ServeOptions
from dl_inference.serving.report import Reporter
from dl_inference.serving.settings import ModelFolderError
from dl_inference.serving.signals import Signals
from tf_predict import admin, repository
from tf_predict.admin import AdminPort
from tf_predict.config import ServerSettings
from tf_predict.health import Health
from tf_predict.loading import Load, Loader, follow, load_tensorflow
from tf_predict.reflection import Reflection
from tf_predict.service import Service
from tf_predict.versions import Versions

_LOGGER = logging.getLogger(__name__)

RUNNING = min(32, 4 * (os.cpu_count() or 1))
"""Calls that run at a time: TF Serving's number, four a core."""

STUCK_S = 1.0
"""How long the thread that follows the folder may still be busy when the drain is over."""

_OPTIONS = (
    ("grpc.so_reuseport", 0),  # else a second server on the same port takes half of the connections, silently
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),  # grpcio's default ends eager keep-alives
    ("grpc.keepalive_permit_without_calls", 1),
)

_OPTIONS_OF = {
    "max_message_bytes": ("grpc.max_receive_message_length", "grpc.max_send_message_length"),
    "max_metadata_bytes": ("grpc.max_metadata_size",),
    "max_streams": ("grpc.max_concurrent_streams",),
    "connection_idle_timeout_ms": ("grpc.max_connection_idle_ms",),
    "max_connection_age_ms": ("grpc.max_connection_age_ms",),
    "max_connection_age_grace_ms": ("grpc.max_connection_age_grace_ms",),
    "max_frame_bytes": ("grpc.http2.max_frame_size",),
}
"""What grpcio calls each limit."""

ALWAYS = {"max_message_bytes", "max_metadata_bytes"}
"""Limits that hold with their default; of the others grpcio's own hold unless they are given."""

_CANNOT_SERVE = (ModelFolderError, LoadError, RegistryError, ValueError, OSError)


@dataclass(frozen=True)
class _Loaded:
    """What `serve` has made before anything listens.

    Attributes:
        followed: the model folder, where new versions of it are loaded meanwhile.
    """

    options: ServeOptions
    settings: ServerSettings
    versions: Versions
    loader: Loader
    followed: Path | None
    announcement: Announcement


def serve(options: ServeOptions, *, settings: ServerSettings | None = None, load: Load = load_tensorflow) -> int:
    """Serve a model folder until SIGTERM or SIGINT.

    Args:
        options: what to serve, and where. Where they name a version it is served come what may to the folder; else the
            folder is followed. The admin port has no unix socket.
        settings: default: from the environment.
        load: loads a SavedModel; tests give their own.

    Returns: the exit status: 0 after a clean drain, 1 when the start failed or calls were cut off.

    Raises:
        ModuleNotFoundError: TensorFlow is not installed.
    """
    log.begin()
    with Signals():
        loaded = _load(options, settings, load)
    if loaded is None:
        return 1
    try:
        return asyncio.run(_serve(loaded))
    finally:
        loaded.announcement.close()


def _load(options: ServeOptions, settings: ServerSettings | None, load: Load) -> _Loaded | None:
    """Return what is to be served; None, with the reason in the log, where that cannot be."""
    reporter = Reporter(options.report)
    try:
        settings = settings or ServerSettings.from_environment(os.environ)
        if options.admin is not None:
            admin.check(options.admin)
        options = options.checked()
        given = options.given(os.environ)
        settings = settings.completed(tensorflow_threads=options.threads)
        if options.trusted_keys is not None:
            reporter.at("signature")
            text = "is TensorFlow's, and signatures of such folders are not checked"
            raise LoadError(options.model_dir, text, "serve it without --trusted-keys, or by tensorflow_model_server")
        folder = repository.find(options.model_dir, given)
        chosen = folder.chosen(options.version)
        versions = Versions(options.name or folder.name, folder.settings)
        announcement = Announcement(options.registration or registry.read(os.environ), "tf_predict")
        announcement.check(options.listen, _served(versions, [version.number for version in chosen]))
        loader = Loader(versions, load, settings.tensorflow_threads, given, is_judged=options.is_judged)
        for version in chosen:
            loader.load(folder, version, reporter)
    except _CANNOT_SERVE as error:
        reporter.failed(error)
        _LOGGER.error("cannot serve %s:\n%s", options.model_dir, error)
        return None
    followed = folder.path if options.version is None else None
    return _Loaded(options, settings, versions, loader, followed, announcement)


async def _serve(loaded: _Loaded) -> int:
    options, versions, announcement = loaded.options, loaded.versions, loaded.announcement
    stopping, draining = asyncio.Event(), asyncio.Event()
    service = Service(versions, RUNNING, versions.settings.max_queue)
    health = Health(versions, draining)
    server = grpc.aio.server(options=[*_OPTIONS, *limit_options(versions.settings.limits)])
    server.add_generic_rpc_handlers((service, health, Reflection(draining)))
    admin_port = None
    try:
        credentials = options.tls.credentials() if options.tls is not None else None
        bound = [_bind(server, address, credentials) for address in options.listen]
        if options.admin is not None:
            admin_port = AdminPort(options.admin, lambda: health.serving, versions.names[0], service)
    except (RuntimeError, OSError, ValueError) as error:
        _LOGGER.error("cannot listen: %s", error)
        service.close()
        return 1
    _hear_signals(stopping)
    await server.start()
    *others, latest = versions.available()
    for number in others:
        _LOGGER.info("version %d of %s is there, too", number, versions.names[0])
    if admin_port is not None:
        _LOGGER.info("admin port on %s", admin_port.address)
    _LOGGER.info("serving %s version %d on %s", versions.names[0], latest, ", ".join(bound))
    announcement.open(bound)
    announcement.tell([_served(versions, versions.available())])

    def tell(numbers: Collection[int]) -> None:
        announcement.tell([_served(versions, numbers)])

    following = None
    if loaded.followed is not None:
        following = asyncio.create_task(follow(loaded.loader, loaded.followed, stopping, tell))
    await stopping.wait()
    if await asyncio.to_thread(announcement.say_goodbye):
        await asyncio.sleep(announcement.goodbye_s)
    draining.set()
    is_clean = await _drain(server, service, loaded.settings.drain_timeout_ms / 1000)
    if admin_port is not None:
        admin_port.close()
    if following is not None:
        await asyncio.wait({following}, timeout=STUCK_S)
        if not following.done():  # inside a load of a new version, which cannot be stopped
            announcement.close()
            ending.exit_now(0 if is_clean else 1)
    return 0 if is_clean else 1


def limit_options(limits: CommonLimits) -> list[tuple[str, int]]:
    """Return grpcio's options for the limits that hold."""
    held = ALWAYS | limits.model_fields_set
    return [
        (option, getattr(limits, name)) for name, options in _OPTIONS_OF.items() if name in held for option in options
    ]


def _served(versions: Versions, numbers: Collection[int]) -> Served:
    """Return what is announced of a model while these versions answer; at least one."""
    *others, latest = sorted(numbers)
    labels = tuple(label for label, number in versions.settings.labels.items() if number in numbers)
    return Served(versions.names, "tfs", str(latest), tuple(map(str, others)), labels)


def _bind(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None) -> str:
    """Listen on an address, with TLS but for a unix socket; return it with the port that it got."""
    if credentials is None or address.startswith("unix:"):
        port = server.add_insecure_port(address)
    else:
        port = server.add_secure_port(address, credentials)
    return address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"


def _hear_signals(stopping: asyncio.Event) -> None:
    """Begin the end at the first SIGTERM or SIGINT; end the process at the second."""

    def hear(number: int) -> None:
        if not stopping.is_set():
            stopping.set()
            return
        _LOGGER.warning("second signal: stopping at once")
        ending.exit_now(128 + number)  # a call may be running for long, and the caller asked twice

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, hear, number)


async def _drain(server: grpc.aio.Server, service: Service, timeout_s: float) -> bool:
    """Let calls in flight end; return whether they did, and end the process where a thread does not."""
    _LOGGER.info("draining: calls in flight have %.1f s", timeout_s)
    stopping = asyncio.create_task(server.stop(2 * timeout_s))  # never so long: the line below ends it
    await asyncio.wait({stopping}, timeout=timeout_s)
    cut_off = service.waiting
    if not stopping.done():
        await server.stop(None)
    await stopping
    service.close()
    if cut_off:
        _LOGGER.error("stopped with %d calls unanswered: they took longer than %.1f s", cut_off, timeout_s)
    if service.busy:
        _LOGGER.warning("%d calls that nobody waits for are still running: stopping without them", service.busy)
        ending.exit_now(1 if cut_off else 0)  # a thread inside an operator cannot be stopped
    return cut_off == 0
