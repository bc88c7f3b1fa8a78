"""Attempts a viewer, by the generic cell rate algorithm: one number a viewer, no timers.

The number is the time at which the viewer's bucket would be empty again; an attempt is allowed while that lies less
than the burst's worth ahead. A viewer who waits long enough has no number at all, so the table stays as small as the
crowd.
"""

_SWEEP_EVERY = 50_000


class Limiter:
    """Allows `rate` attempts a second with bursts of `burst`; refusals cost one look-up and change nothing."""

    __slots__ = ("_empty_at", "_interval_s", "_slack_s", "_until_sweep")

    def __init__(self, *, rate: float, burst: int) -> None:
        self._interval_s = 1 / rate
        self._slack_s = (burst - 1) / rate
        self._empty_at: dict[str, float] = {}
        self._until_sweep = _SWEEP_EVERY

    def due_in_s(self, who: str, now_s: float) -> float:
        """0 when an attempt would be allowed now, else the seconds until one will be; counts nothing."""
        over_s = self._empty_at.get(who, now_s) - now_s - self._slack_s
        return over_s if over_s > 1e-6 else 0.0

    def wait_s(self, who: str, now_s: float) -> float:
        """0 when the attempt is allowed (and counted), else the seconds until one will be."""
        empty_at = self._empty_at.get(who, now_s)
        if empty_at < now_s:
            empty_at = now_s
        over_s = empty_at - now_s - self._slack_s
        # Sums of intervals are not exact; a microsecond early is not too early.
        if over_s > 1e-6:
            return over_s
        self._empty_at[who] = empty_at + self._interval_s
        self._until_sweep -= 1
        if self._until_sweep <= 0:
            self._until_sweep = max(_SWEEP_EVERY, len(self._empty_at))
            self._empty_at = {who: at for who, at in self._empty_at.items() if at > now_s}
        return 0.0
