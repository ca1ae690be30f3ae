"""`dl-inference why`: where one call went, how often and why, from the access service's flight recorder."""

import json
import re
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.text import Text

from dl_inference.commands.console import err, out
from dl_inference.commands.status import StatusError, admin_fault, ask
from dl_inference.commands.words import ago, plain

# What the balancer learned of the endpoint; of a success or a neutral end nothing is said.
_BLAME = {
    "hard": ", which counts against it",
    "soft": ", which counts against it if it goes on",
    "full": ", as it was full",
}
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def why(
    request_id: Annotated[
        str, typer.Argument(help="From the trailer x-request-id of an answer, the access log or an error's text.")
    ],
    admin: Annotated[str, typer.Option(metavar="ADDRESS", help="Address of the admin port.")] = "127.0.0.1:8502",
    as_json: Annotated[bool, typer.Option("--json", help="Print what the recorder has as it is.")] = False,
) -> None:
    """Tell where a call went, how often and why.

    The access service remembers the last 4,096 calls of each worker.
    """
    fault = admin_fault(admin)
    if fault or not _REQUEST_ID.fullmatch(request_id):
        problem = f"--admin {admin!r}: {fault}" if fault else f"{request_id!r} is not 1 to 64 of A-Z a-z 0-9 . _ -"
        err.print(Text(problem, style="red"), soft_wrap=True)
        raise typer.Exit(2)
    try:
        status, found = ask(admin, f"/calls/{request_id}")
        if status not in (200, 404) or not {"legs", "held"} & found.keys():
            raise StatusError(f"{admin} answers HTTP {status}: is it the admin port of an access service?")
    except StatusError as error:
        err.print(Text(str(error), style="red"), soft_wrap=True)
        raise typer.Exit(1) from error
    if "legs" not in found:
        err.print(Text(unknown(request_id, found), style="red"), soft_wrap=True)
        raise typer.Exit(1)
    if as_json:
        print(json.dumps(found))
    else:
        out.print(Text(sentence(found, time.time())), soft_wrap=True)


def unknown(request_id: str, held: Mapping[str, Any]) -> str:
    """Say that the recorder has no such call, and how far back it goes."""
    if not held["held"]:
        return f"no call {request_id}: the recorder is empty"
    return (
        f"no call {request_id} among the last {held['held']}, which go back {ago(held['oldest_s'])}; "
        "calls of health and reflection are not recorded, and a restart forgets"
    )


def sentence(call: Mapping[str, Any], now: float) -> str:
    """Tell a call in one sentence.

    Args:
        call: what `/calls/REQUEST_ID` says.
        now: seconds since 1970.
    """
    model = f" of model {plain(call['model'])}" if call["model"] else ""
    age = f", {ago(now - call['started_unix_s'])} ago," if call["started_unix_s"] is not None else ""
    ended = call["code"] + (f" ({call['error']})" if call["error"] else "")
    head = f"{call['request_id']}{model} ({call['method']}){age} took {_ms(call['duration_ms'])} and ended {ended}"
    legs = call["legs"]
    if not legs:
        return f"{head}: no endpoint had it."
    parts = [_leg(leg, is_won=_is_won(leg, legs)) for leg in legs]
    if call["attempts"] > len(legs):
        parts.insert(-1, f"{call['attempts'] - len(legs)} more attempts followed")
    return f"{head}: {'; '.join(parts)}."


def _is_won(leg: Mapping[str, Any], legs: list[Any]) -> bool:
    """Whether a hedge that ended before this attempt took the call from it."""
    return leg["code"] == "CANCELLED" and any(each is not leg and each["code"] != "CANCELLED" for each in legs)


def _leg(leg: Mapping[str, Any], *, is_won: bool) -> str:
    causes = {
        "first": "had it first",
        "hedge": f"was asked, too, after {_ms(leg['started_ms'])}, because that took long",
        "retry": f"got it after {_ms(leg['started_ms'])} because of {leg['cause']}",
    }
    if is_won:
        end = f"was cancelled after {_ms(leg['duration_ms'])} because the other answered first"
    elif leg["code"] == "OK":
        end = f"answered after {_ms(leg['duration_ms'])}{_times(leg)}"
    else:
        end = f"ended it with {leg['code']} after {_ms(leg['duration_ms'])}{_times(leg)}"
    return f"{plain(leg['endpoint'])} {causes[leg['why']]} and {end}{_BLAME.get(leg['outcome'], '')}"


def _times(leg: Mapping[str, Any]) -> str:
    """Where the time went in the endpoint, if it says so."""
    queue, compute = leg.get("queue_ms"), leg.get("compute_ms")
    if queue is None or compute is None:
        return ""
    stages = {
        "preprocess": leg.get("preprocess_ms"),
        "model": leg.get("model_ms"),
        "postprocess": leg.get("postprocess_ms"),
    }
    told = ", ".join(f"{_ms(time)} in {name}" for name, time in stages.items() if time is not None)
    return f" ({_ms(queue)} in its queue, {told or f'{_ms(compute)} in the model'})"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.{0 if milliseconds >= 100 else 1}f} ms"
