"""How many file descriptors a server may have open: one for each connection."""

import resource


def raise_limit() -> None:
    """Raise this process's soft limit to the hard one.

    Shells and systemd start programs with a soft limit of 1,024 for the sake of programs that call `select`, and leave
    it to the others to raise it.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
