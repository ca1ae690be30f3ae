"""What the registry says, in words for people: ages, and of release documents shares."""

from datetime import UTC, datetime

from dl_inference.registry.schema import ReleaseDocument


def plain(text: object) -> str:
    """Return a text of somebody else's without what a terminal would obey."""
    return "".join(each if each.isprintable() else "\ufffd" for each in str(text))


def ago(seconds: float) -> str:
    """Return a time that has passed, for people."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def since(text: str) -> str:
    """Return how long ago an ISO 8601 time was; the text itself where it is none."""
    try:
        then = datetime.fromisoformat(text)
    except ValueError:
        return text
    return ago((datetime.now(UTC) - (then if then.tzinfo else then.replace(tzinfo=UTC))).total_seconds())


def percent(document: ReleaseDocument | None) -> dict[str, float]:
    """Return version -> share of the calls that ask for no version, 0..100; of the versions that have one."""
    shares = document.shares() if document else {}
    total = sum(shares.values())
    return {version: 100 * weight / total for version, weight in shares.items()}


def standing(document: ReleaseDocument | None, version: str) -> str:
    """Return phase and share of a version, such as ``canary 4.8 %``; empty where it is not released."""
    release = document.releases.get(version) if document else None
    if release is None:
        return ""
    priority = f", priority {release.priority}" if release.priority else ""
    if release.phase == "staging":
        return f"staging, when asked for{priority}"
    return f"{release.phase} {_share(percent(document).get(version, 0.0))}{priority}"


def _share(value: float) -> str:
    return f"{value:.1f} %" if 0 < value < 100 else f"{value:.0f} %"
