"""Whether a version whose processes are warm may take over, and why one is kept from calls."""

from __future__ import annotations

import time
from collections.abc import Iterable

from dl_inference.local import compare
from dl_inference.local.quarantine import Quarantine, remedy_of
from dl_inference.local.replica import Replica
from dl_inference.serving import room
from dl_inference.serving.report import Report


def refusal(live: Iterable[Replica], new: Iterable[Replica], *, allow_change: bool) -> Report | None:
    """Return why the new processes may not take over from the live ones; None where they may.

    Args:
        live: the replicas that calls go to; none where nobody answers yet.
        new: those that are to take over.
        allow_change: whether inputs and outputs may differ.
    """
    before, after = (_told(side) for side in (live, new))
    if before is None or after is None:
        return None
    if (before.inputs or before.outputs) and not (after.is_complete or allow_change):
        # Its last word was not written. What it takes and gives may be what callers would notice.
        return Report(step="compare", reason="what it takes and gives could not be written down", remedy=room.REMEDY)
    changes = compare.changes(before, after)
    if changes and not allow_change:
        text = f"callers of the version that serves would notice: {'; '.join(changes)}"
        return Report(step="compare", reason=text, remedy=compare.REMEDY, is_final=True)
    if names := compare.new_nan(before, after):
        text = f"answers NaN or infinity to a sample that the version that serves answers with numbers: {names}"
        return Report(step="compare", reason=text, remedy=compare.NAN_REMEDY, is_final=True)
    return None


def quarantine(version: int, replicas: Iterable[Replica], before: Quarantine | None) -> Quarantine | None:
    """Return why a version that has not taken over is kept from calls; None where none of its processes has failed.

    Args:
        version: the number.
        replicas: its processes.
        before: what was returned last.
    """
    failed = next((replica for replica in replicas if replica.reason), None)
    if failed is None:
        return None
    report = failed.failed or Report()
    since = before.since_unix_s if before is not None else time.time()
    reason = report.reason or failed.reason
    return Quarantine(version, report.step, reason, report.remedy or remedy_of(reason), since, report.is_final)


def _told(replicas: Iterable[Replica]) -> Report | None:
    return next((replica.told for replica in replicas if replica.told is not None), None)
