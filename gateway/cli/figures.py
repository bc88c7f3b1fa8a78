"""Figures of a run, as the demo and a replay tell them."""

from collections.abc import Sequence


def quantile(values: Sequence[float], share: float) -> float | None:
    return round(sorted(values)[min(len(values) - 1, int(len(values) * share))], 1) if values else None


def p50_p99(values: Sequence[float]) -> dict[str, float | None]:
    return {"p50": quantile(values, 0.5), "p99": quantile(values, 0.99)}


def p50_p99_text(values: Sequence[float]) -> str:
    return f"{quantile(values, 0.5)} / {quantile(values, 0.99)} ms" if values else "-"
