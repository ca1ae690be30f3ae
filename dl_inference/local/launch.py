"""How a model process of `serve` comes to be: forked from the template or started anew, when there is room for it."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from access import state
from dl_inference.local import environments, own_python
from dl_inference.local.child import spawn
from dl_inference.local.environments import requirements_of, without_ours
from dl_inference.local.fork import Template
from dl_inference.local.layout import Layout
from dl_inference.local.locked_folders import SOCKET_NAME_BYTES
from dl_inference.local.processes import ModelProcess, State, metrics_file, private_folder, report_file
from dl_inference.registry.variables import is_about_registry
from dl_inference.serving.folder import Kind
from dl_inference.serving.log import FORMAT_VARIABLE
from dl_inference.serving.options import ServeOptions
from dl_inference.variables import variable

log = logging.getLogger("serve")

SLOW_S = 30.0
"""A process that loads longer than this no longer keeps others from starting."""

# The port that all share; a model process listens on its socket only, and `serve` announces the port.
_SHARED_PORT = frozenset(map(variable, ("listen", "admin")))


class Launcher:
    """Starts model processes; only the main thread may use it. Constructing starts nothing.

    Args:
        sockets: a private folder, with a short path.
        replicas: processes of each version, where the folder does not say.
        program: command line of a model server, up to its options (`ServeOptions`, JSON).
        uses_template: fork PyTorch processes from one that has imported torch; `program` is ours.
        allow_pickle: passed on.
        makes_environments: install the requirements.txt of folders.
        trusted_keys: passed on.
    """

    def __init__(  # noqa: PLR0913  (what `serve` was told)
        self,
        sockets: Path,
        replicas: int,
        program: Sequence[str],
        *,
        uses_template: bool,
        allow_pickle: bool,
        makes_environments: bool = False,
        trusted_keys: Path | None = None,
    ) -> None:
        self.replicas = replicas
        self._sockets = sockets
        self._program = [*program]
        self._uses_template = uses_template
        self._allow_pickle = allow_pickle
        self._makes_environments = makes_environments
        self._trusted_keys = trusted_keys
        self._template: Template | None = None
        self.wanted = 0
        """Processes that all models together are to have, as their owner says before each step."""
        self._count = 0
        self._environment = environment()

    def step(self, kinds: Collection[Kind], processes: Iterable[ModelProcess]) -> None:
        """Look after the template, and reap what nobody else does.

        Args:
            kinds: of the models that there are.
            processes: every model process that has not been reaped.
        """
        has_worked = False
        if self._template is not None:
            has_worked = self._template.is_ready
            self._template.step()
        # Another one in place of one that worked; what failed or was given up would do so again.
        has_died = self._template is not None and self._template.has_ended and has_worked
        if self._uses_template and "PyTorch" in kinds and (self._template is None or has_died):
            try:
                self._template = Template(self._environment)
            except OSError as error:
                log.warning("the template for PyTorch processes cannot be started (%s): going on without it", error)
                self._uses_template = False
        self._reap_strays({process.pid for process in processes})

    def may_start(self, kind: Kind | None, processes: Iterable[ModelProcess]) -> bool:
        """Tell whether one more process may load now: more at once than cores would only be late together."""
        if kind == "PyTorch" and self._template is not None and self._template.is_loading:
            return False
        begun_after = time.monotonic() - SLOW_S
        starting = sum(each.state is State.STARTING and each.started_at > begun_after for each in processes)
        return starting < max(2, state.cores())

    def start(self, layout: Layout, version: int, index: int) -> ModelProcess:
        """Start a process of a version.

        Raises:
            OSError: the system has no room for it.
        """
        self._count += 1
        tail = f"-{version}-{self._count}"
        socket = self._sockets / f"{layout.name[: max(1, SOCKET_NAME_BYTES - len(tail))]}{tail}"
        address = f"unix:{socket}"
        options = ServeOptions(
            model_dir=layout.path,
            listen=(address,),
            name=layout.name,
            version=version,
            allow_pickle=self._allow_pickle,
            metrics_file=metrics_file(address),
            hands=self.hands(layout, version),
            limits=dict(layout.limits),
            instance=index,
            threads=max(1, state.cores() // max(self.wanted, self.wanted_by(layout))),
            trusted_keys=self._trusted_keys,
            private=private_folder(socket),
            report=report_file(socket),
        )
        return ModelProcess(
            f"{layout.name}@{version}/{index}",
            self._launch(layout, version, options),
            socket,
            layout.load_timeout_ms / 1000,
            layout.max_load_memory_bytes,
        )

    def wanted_by(self, layout: Layout) -> int:
        """Return how many processes a model is to have."""
        return (layout.instances or self.replicas) * len(layout.served)

    def hands(self, layout: Layout, version: int) -> Path | None:
        """Return the file in which the processes of a version say which calls they have; None: they say nothing."""
        return self._sockets / f"{layout.keys[version]}.hands" if layout.kind == "PyTorch" else None

    def end(self) -> None:
        """End the template."""
        if self._template is not None:
            self._template.end()

    def _launch(self, layout: Layout, version: int, options: ServeOptions) -> Callable[[int], int]:
        requirements = None
        if self._makes_environments and layout.kind == "PyTorch":
            requirements = requirements_of(layout.places[version], layout.path)
        if self._trusted_keys is not None and (layout.python is not None or requirements is not None):
            # It would run before the signature is checked.
            what = "an interpreter (python)" if layout.python is not None else "packages (requirements.txt)"
            raise OSError(errno.EPERM, f"the folder names {what}, which --trusted-keys does not allow: remove that")
        command, variables = start_of(layout, self._program, options, requirements)

        def launch(output: int) -> int:
            is_ours = layout.python is None and requirements is None
            if layout.kind == "PyTorch" and is_ours and self._template is not None:
                pid = self._template.fork(command, options, layout.places[version], output)
                if pid is not None:
                    return pid
            with open(os.devnull) as nothing:
                return spawn(command, variables, nothing.fileno(), output)

        return launch

    def _reap_strays(self, known: set[int]) -> None:
        """Reap what model processes had started and left behind: the template makes this process inherit it."""
        if self._template is not None:
            known.add(self._template.pid)
        with contextlib.suppress(ChildProcessError):  # there is none
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if ended.si_pid in known:
                    return
                os.waitpid(ended.si_pid, 0)


def environment() -> dict[str, str]:
    """Return the variables of a model process: this process's, without those that are about a port or a registry."""
    inherited = {
        name: text for name, text in os.environ.items() if name not in _SHARED_PORT and not is_about_registry(name)
    }
    # A record of theirs becomes one of this process's.
    return {**inherited, "PYTHONUNBUFFERED": "1", FORMAT_VARIABLE: "text"}


def start_of(
    layout: Layout, program: Sequence[str], options: ServeOptions, requirements: Path | None = None
) -> tuple[list[str], dict[str, str]]:
    """Return the command line of a model process, and its variables.

    Args:
        layout: of the model folder, which may have an interpreter of its own.
        program: command line of a model server, up to its options.
        options: what it is told.
        requirements: of an environment to make for it.
    """
    document, variables = options.model_dump_json(), environment()
    if layout.python is not None:
        return [str(layout.python), own_python.__file__, document], without_ours(variables)
    if requirements is not None:
        return [*environments.PROGRAM, str(requirements), document], variables
    return [*program, document], variables
