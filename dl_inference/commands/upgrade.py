"""`dl-inference upgrade`: let a new process go on with the listening sockets of a running access service."""

import os
import signal
import time
from typing import Annotated

import typer
from rich.text import Text

from dl_inference.commands.console import err, out
from dl_inference.commands.options import whole
from dl_inference.commands.status import StatusError, admin_fault, fetch

LOOK_S = 0.1


def upgrade(
    admin: Annotated[str, typer.Option(metavar="ADDRESS", help="Address of the admin port.")] = "127.0.0.1:8502",
    timeout_s: Annotated[
        int,
        typer.Option(
            "--timeout",
            parser=whole(1),
            metavar="SECONDS",
            help="How long to wait; keep it above the service's upgrade_timeout_ms.",
        ),
    ] = 90,
) -> None:
    """Replace a running access service without a lost call.

    The service, on this machine, starts its command anew, as its files are now. When the new process is ready it goes
    on with the listening sockets, and the old one ends when its calls in flight have ended. If the new one does not
    become ready the old one goes on, and this command says why.
    """
    if fault := admin_fault(admin):
        err.print(Text(f"--admin {admin!r}: {fault}", style="red"), soft_wrap=True)
        raise typer.Exit(2)
    try:
        old, new = _replace(admin, timeout_s)
    except StatusError as error:
        err.print(Text(str(error), style="red"), soft_wrap=True)
        raise typer.Exit(1) from error
    out.print(f"process {new} serves at {admin}; process {old} ends with its last call")


def _replace(admin: str, timeout_s: int) -> tuple[int, int]:
    """Return the old process and the new one."""
    end = time.monotonic() + timeout_s
    begun = time.time()
    pid = _pid(admin)
    try:
        os.kill(pid, signal.SIGUSR2)
    except (ProcessLookupError, PermissionError) as error:
        remedy = "run this on its machine, in its container, and as its user"
        raise StatusError(f"process {pid}, which answers at {admin}: {error.strerror}; {remedy}") from error
    while time.monotonic() < end:
        time.sleep(LOOK_S)
        try:
            control = fetch(admin).get("control") or {}  # the new process's port answers before it has a state
        except StatusError:  # between two processes; what is wrong shows at the end
            continue
        now = control.get("pid")
        if isinstance(now, int) and now != pid:
            return pid, now
        upgrade = control.get("upgrade") or {}
        if upgrade.get("error") and upgrade["ended_unix_s"] >= begun:
            raise StatusError(f"the upgrade failed, process {pid} goes on: {upgrade['error']}")
    raise StatusError(f"process {pid} still serves at {admin} after {timeout_s} s; its log says what it waits for")


def _pid(admin: str) -> int:
    pid = (fetch(admin).get("control") or {}).get("pid")
    if not isinstance(pid, int):
        raise StatusError(f"{admin} is not the admin port of an access service that can be upgraded")
    return pid
