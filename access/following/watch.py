"""File events: says that something in the folders of some files changed. What changed is for others to find out.

The folders are watched and not the files: a file replaced by a rename, or a symbolic link put elsewhere as
Kubernetes does with ConfigMaps, is another file than the one that was opened. Events may be lost or impossible
(network file systems, too many watches): whoever listens must also look by itself now and then.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

import watchfiles

log = logging.getLogger("access")

# watchfiles looks whether to end, and whether a burst of events is over, once a step.
_STEP_MS = 100
_MAX_BURST_MS = 1000
# After so long without events it says so; the first time it means that the watch stands.
_QUIET_MS = 500


class FolderWatcher:
    """A thread that calls `changed` on events in the folders of the files given last.

    Args:
        changed: called in the thread.
        recursive: whether events in folders inside of those folders count too.
    """

    def __init__(self, changed: Callable[[], None], *, recursive: bool = False) -> None:
        self._changed = changed
        self._recursive = recursive
        self._folders: frozenset[Path] = frozenset()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def watch(self, files: Iterable[Path]) -> None:
        """Watch the folders of these files instead of the former ones; those that do not exist are left out."""
        folders = frozenset(folder for file in files if (folder := file.absolute().parent).is_dir())
        if folders == self._folders and (self._thread is None or self._thread.is_alive()):
            return
        self.stop()
        self._folders = folders
        if folders:
            self._stopping = threading.Event()
            self._thread = threading.Thread(
                target=self._run, args=(folders, self._stopping), name="access-watch", daemon=True
            )
            self._thread.start()

    def stop(self) -> None:
        """End the thread and wait for it."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None
        self._folders = frozenset()

    def _run(self, folders: frozenset[Path], stopping: threading.Event) -> None:
        is_new = True
        try:
            for changes in watchfiles.watch(
                *folders,
                watch_filter=None,
                debounce=_MAX_BURST_MS,
                step=_STEP_MS,
                stop_event=stopping,
                rust_timeout=_QUIET_MS,
                yield_on_timeout=True,
                recursive=self._recursive,
                raise_interrupt=False,
            ):
                if changes or is_new:  # what changed before the watch stood is found now
                    self._changed()
                is_new = False
        except OSError as error:
            names = ", ".join(sorted(map(str, folders)))
            log.warning("no file events for %s: %s; changes are found by looking instead", names, error)
            stopping.wait()  # so that `watch` does not try again, and say so again, at every look
