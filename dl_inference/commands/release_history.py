"""`dl-inference release history` and `rollback`: what earlier revisions said, and the return to one of them."""

import json
from typing import Annotated

import typer

from dl_inference.commands import release_view as view
from dl_inference.commands.console import out
from dl_inference.commands.options import whole
from dl_inference.commands.registry_options import DEFAULT_TIMEOUT_MS, Model, Registry, Timeout, open_releases, reported
from dl_inference.commands.release_options import Author, Force, Json, Reason
from dl_inference.registry.releases import edits
from dl_inference.registry.releases.change import Edit, RefusedError, Wanted, change, default_author
from dl_inference.registry.releases.store import ReleaseStore
from dl_inference.registry.schema import ReleaseDocument, SchemaError


def history(
    model: Model,
    *,
    as_json: Json = False,
    registry: Registry = None,
    registry_timeout_ms: Timeout = DEFAULT_TIMEOUT_MS,
) -> None:
    """Show every change of the releases, the last one first.

    This prints when each change was made, by whom, and what it changed.
    """
    with reported(), open_releases(registry, registry_timeout_ms) as store:
        documents = store.history(model)
        if not documents:
            raise RefusedError(f"{model} has no history in {store.name}: nothing of it was ever released")
    if as_json:
        print(json.dumps(view.history_as_json(documents)))
    else:
        out.print(view.history(model, documents))


def rollback(  # noqa: PLR0913  (the options of the command)
    model: Model,
    *,
    to: Annotated[
        int | None,
        typer.Option(
            parser=whole(1), metavar="REVISION", help="Revision to return to; default: the one before the last change."
        ),
    ] = None,
    reason: Reason = "",
    author: Author = None,
    force: Force = False,
    registry: Registry = None,
    registry_timeout_ms: Timeout = DEFAULT_TIMEOUT_MS,
) -> None:
    """Restore an earlier revision as a new revision. To undo a rollback, give --to."""
    with reported(), open_releases(registry, registry_timeout_ms) as store:
        old, expected = _earlier(store, model, to)
        edit: Edit = lambda document, _: edits.restore(document, old, expected)  # noqa: E731
        reason = reason or f"{view.ROLLBACK} {old.revision}"
        wanted = Wanted(edit, author or default_author(), reason, force)
        out.print(view.outcome(change(store, model, wanted, timeout_ms=registry_timeout_ms)))


def _earlier(store: ReleaseStore, model: str, revision: int | None) -> tuple[ReleaseDocument, int | None]:
    """Return the document to return to, and the revision that has to be current then (None: any)."""
    documents = store.history(model)
    found = [each for each in documents if isinstance(each, ReleaseDocument)]
    if revision is not None:
        for document in found:
            if document.revision == revision:
                return document, None
        kept = ", ".join(str(each.revision) for each in found) or "none"
        raise RefusedError(f"revision {revision} of {model} is not in the history (there: {kept})")
    current = store.read(model).document
    if current is None:
        raise RefusedError(f"{model} has no release document now: say which to return to, with --to REVISION")
    earlier = [each for each in found if each.revision < current.revision]
    if not earlier:
        unreadable = next((f" ({each})" for each in documents if isinstance(each, SchemaError)), "")
        raise RefusedError(f"{model} has no revision before {current.revision}{unreadable}")
    again = [each.revision for each in earlier[:-1] if each.says_the_same(current)]
    if again:
        raise RefusedError(
            f"revision {current.revision} of {model} is itself the return to revision {again[-1]}, from revision "
            f"{earlier[-1].revision}: say which to return to, with --to REVISION (dl-inference release history {model})"
        )
    return earlier[-1], current.revision
