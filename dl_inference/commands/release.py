"""`dl-inference release`: which version of a model gets which share. It reads options and hands over."""

import json
from functools import partial
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from dl_inference.commands import release_history
from dl_inference.commands import release_view as view
from dl_inference.commands.console import out
from dl_inference.commands.registry_options import DEFAULT_TIMEOUT_MS, Model, Registry, Timeout, open_releases, reported
from dl_inference.commands.release_options import (
    AttemptTimeoutMs,
    Author,
    Force,
    Json,
    PhaseOption,
    PriorityOption,
    Reason,
    TimeoutMs,
    Version,
    Weight,
    label_name,
    labels_of,
)
from dl_inference.commands.release_state import State
from dl_inference.registry.releases import edits
from dl_inference.registry.releases.change import Edit, Wanted, change, default_author
from dl_inference.registry.releases.change import clear as take_away
from dl_inference.registry.schema import Phase


class _Group(TyperGroup):
    """Takes `release MODEL VERSION ...` for `release deploy MODEL VERSION ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["deploy", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Control which version of a model gets which calls.\n\n"
    "dl-inference release MODEL VERSION --phase canary --weight 5 gives a version a share. It is short for"
    " release deploy MODEL VERSION ...; use the long form for a model that has the name of a command below.",
)


@app.command()
def deploy(  # noqa: PLR0913  (the options of the command)
    model: Model,
    version: Version,
    *,
    phase: PhaseOption = None,
    weight: Weight = None,
    timeout_ms: TimeoutMs = None,
    attempt_timeout_ms: AttemptTimeoutMs = None,
    priority: PriorityOption = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Label to point to this version. Repeatable.")
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="End the version's release.")] = False,
    reason: Reason = "",
    author: Author = None,
    force: Force = False,
    registry: Registry = None,
    registry_timeout_ms: Timeout = DEFAULT_TIMEOUT_MS,
) -> None:
    """Release a version, change its release, or end it.

    --phase canary --weight 5 gives a version a share of the calls. --phase production without --weight gives it every
    call and moves the other versions to staging, where they answer only calls that ask for them. With --weight the
    others keep their phase. --remove ends a release. The first document of a model includes the versions that its
    endpoints announce.
    """
    labels = {label_name(each): version for each in label or ()}
    settings = edits.Settings(weight, timeout_ms, attempt_timeout_ms, labels, cast(Phase | None, phase), priority)
    if remove and settings != edits.Settings(labels={}):
        raise typer.BadParameter(
            "--remove ends a release: it cannot be combined with other settings", param_hint="--remove"
        )
    if phase == "staging" and weight is not None:
        raise typer.BadParameter("a release in staging has no share: leave --weight out", param_hint="--weight")
    edit: Edit
    if remove:
        edit = lambda document, _: edits.remove(document, model, version)  # noqa: E731
    else:
        edit = partial(edits.deploy, model=model, version=version, settings=settings)
    with reported(), open_releases(registry, registry_timeout_ms) as store:
        wanted = Wanted(edit, author or default_author(), reason, force)
        out.print(view.outcome(change(store, model, wanted, timeout_ms=registry_timeout_ms)))


@app.command("set")
def set_model(  # noqa: PLR0913  (the options of the command)
    model: Model,
    *,
    weight: Weight = None,
    timeout_ms: TimeoutMs = None,
    attempt_timeout_ms: AttemptTimeoutMs = None,
    priority: PriorityOption = None,
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VERSION", help="Label to point to a version; NAME= removes it. Repeatable."),
    ] = None,
    reason: Reason = "",
    author: Author = None,
    force: Force = False,
    registry: Registry = None,
    registry_timeout_ms: Timeout = DEFAULT_TIMEOUT_MS,
) -> None:
    """Set labels, and settings for all versions.

    A setting of a version itself wins over the one for all versions.
    """
    settings = edits.Settings(weight, timeout_ms, attempt_timeout_ms, labels_of(label), priority=priority)
    if settings == edits.Settings(labels={}):
        raise typer.BadParameter("say what to set: --weight, --timeout-ms, --attempt-timeout-ms, --priority or --label")
    with reported(), open_releases(registry, registry_timeout_ms) as store:
        edit: Edit = lambda document, _: edits.set_model(document, model, settings)  # noqa: E731
        wanted = Wanted(edit, author or default_author(), reason, force)
        out.print(view.outcome(change(store, model, wanted, timeout_ms=registry_timeout_ms)))


@app.command()
def show(
    model: Model,
    *,
    as_json: Json = False,
    registry: Registry = None,
    registry_timeout_ms: Timeout = DEFAULT_TIMEOUT_MS,
) -> None:
    """Show the releases of a model.

    This prints the release document, who serves each version, and what each access service has applied.
    """
    with reported(), open_releases(registry, registry_timeout_ms) as store:
        found = State(store.name, model, store.read(model), store.endpoints(model), store.applied(model))
    if as_json:
        print(json.dumps(found.as_json()))
    else:
        out.print(found.render())
    if found.stored.fault is not None or found.is_unknown:
        raise typer.Exit(1)


app.command()(release_history.history)
app.command()(release_history.rollback)


@app.command()
def clear(
    model: Model,
    *,
    force: Force = False,
    registry: Registry = None,
    registry_timeout_ms: Timeout = DEFAULT_TIMEOUT_MS,
) -> None:
    """Remove the release document of a model.

    access.yaml applies to the model again. The history stays.
    """
    with reported(), open_releases(registry, registry_timeout_ms) as store:
        before = take_away(store, model, timeout_ms=registry_timeout_ms, force=force)
    revision = f"revision {before.revision}" if before else "the unreadable document"
    out.print(f"{model}: {revision} is removed; access.yaml applies again", markup=False, soft_wrap=True)
    if before:
        again = f"dl-inference release rollback {model} --to {before.revision}"
        out.print(f"to bring it back: {again}", markup=False, soft_wrap=True)
