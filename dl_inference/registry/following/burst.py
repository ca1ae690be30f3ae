"""When changes that come together are read, and when they are shown. Pure: the time comes in."""

# What changes together is taken over together: after the first change, and as long as they come within this time ...
SETTLE_S = 0.02
# ... but no later than this.
BURST_S = 0.2


class Burst:
    """The changes that are not shown yet. All times are of one clock, in seconds."""

    def __init__(self) -> None:
        self._paths: dict[str, None] = {}
        self._read_at = self._quiet_at = 0.0
        self._began: float | None = None

    def __bool__(self) -> bool:
        """Tell whether there is a change that is to be shown."""
        return self._began is not None

    def clear(self) -> None:
        """Forget everything."""
        self._paths.clear()
        self._began = None

    def add(self, path: str, now: float) -> None:
        """Note that there is something new at a path."""
        if not self._paths:
            self._read_at = now + SETTLE_S
        self._paths[path] = None
        self._quiet_at = now + SETTLE_S
        if self._began is None:
            self._began = now

    def take(self, now: float) -> list[str]:
        """Return, once, the paths that are to be read now: each of them once, however often it changed."""
        if now < self._read_at:
            return []
        paths = list(self._paths)
        self._paths.clear()
        return paths

    def ends(self, now: float, is_reading: bool) -> bool:
        """Tell whether what was read is to be shown: nothing more comes, or the first of it has waited long enough."""
        if self._began is None:
            return False
        goes_on = is_reading or bool(self._paths)
        if now < self._began + BURST_S and (goes_on or now < self._quiet_at):
            return False
        self._began = now if goes_on else None
        return True

    def next_at(self, is_reading: bool) -> float | None:
        """Return when `take` or `ends` has something to say; None: never, without another change."""
        times = [self._read_at] if self._paths else []
        if self._began is not None:
            limit = self._began + BURST_S
            times.append(limit if is_reading else min(self._quiet_at, limit))
        return min(times, default=None)
