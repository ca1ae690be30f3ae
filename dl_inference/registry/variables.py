"""The environment variables about the registry: where it is, how to get in, and what a server announces there.

An operator may set them for everything on a machine, so programs that do not read them meet them, too.
"""

from dl_inference.variables import variable

REGISTRY = variable("registry")
"""Where it is, for the commands that look into it."""

LOGIN = ("username", "password", "sasl", "ca_file", "certificate_file", "key_file")
"""Each by a variable of its own, `login_variable`: a password is nothing for a command line."""

ANNOUNCING = ("register", "advertise", "weight", "capacity", "goodbye_ms")
"""What a server is told about its own place in it."""


def login_variable(name: str) -> str:
    """Return the variable of one of LOGIN."""
    return f"{REGISTRY}_{name.upper()}"


def is_about_registry(name: str) -> bool:
    """Tell whether a variable is one of these; whatever begins like the login's counts as one of them."""
    return name == REGISTRY or name.startswith(f"{REGISTRY}_") or name in map(variable, ANNOUNCING)
