"""Figures, their conditions, the table people read and the JSON that machines read."""

import statistics
from collections.abc import Iterable
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

Detail = dict[str, float | int | str | list[int] | dict[str, int] | dict[str, float]]


class Figure(msgspec.Struct, kw_only=True):
    """One measured quantity of one way under stated conditions, over several rounds."""

    part: str
    way: str
    name: str
    unit: str
    conditions: dict[str, int | float | str]
    rounds: list[float] = msgspec.field(default_factory=list)
    details: list[Detail] = msgspec.field(default_factory=list)
    """One a round: what else was seen in it."""

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)


class Ratio(msgspec.Struct, kw_only=True):
    """Ours by theirs, each round's pair by itself: what the machine did to one it did to the other."""

    part: str
    ours: str
    theirs: str
    name: str
    conditions: dict[str, int | float | str]
    rounds: list[float]


class Document(msgspec.Struct, kw_only=True):
    """The whole run as JSON."""

    conditions: dict[str, object]
    figures: list[dict[str, object]]
    ratios: list[dict[str, object]]
    skipped: dict[str, str]
    mismatches: list[str]


def spread(values: list[float]) -> dict[str, object]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": values}


class Report:
    """Collects figures while the bench runs. `mismatches` holds each case in which a promise and a ledger differ."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.conditions: dict[str, object] = {}
        self.skipped: dict[str, str] = {}
        self.mismatches: list[str] = []
        self._figures: dict[tuple[object, ...], Figure] = {}
        self.ratios: list[Ratio] = []

    def add(
        self,
        *,
        part: str,
        way: str,
        name: str,
        unit: str,
        value: float,
        conditions: dict[str, int | float | str],
        detail: Detail | None = None,
    ) -> None:
        """One round's value."""
        key = (part, way, name, *sorted(conditions.items()))
        figure = self._figures.get(key)
        if figure is None:
            figure = Figure(part=part, way=way, name=name, unit=unit, conditions=conditions)
            self._figures[key] = figure
        figure.rounds.append(value)
        figure.details.append(detail or {})

    def skip(self, part: str, reason: str) -> None:
        self.skipped[part] = reason
        self.console.print(f"[yellow]{part}: skipped: {reason}")

    def mismatch(self, text: str) -> None:
        self.mismatches.append(text)
        self.console.print(f"[bold red]not true: {text}")

    def figures(self, part: str, name: str | None = None) -> list[Figure]:
        return [f for f in self._figures.values() if f.part == part and name in (None, f.name)]

    def compare(self, part: str, name: str, *, ours: Iterable[str]) -> None:
        """Ratios of each of our ways to each other way under equal conditions, round by round."""
        mine = set(ours)
        figures = self.figures(part, name)
        for our in (f for f in figures if f.way in mine):
            for their in (f for f in figures if f.way not in mine):
                if our.conditions != their.conditions:
                    continue
                pairs = [a / b for a, b in zip(our.rounds, their.rounds, strict=False) if b]
                if pairs:
                    self.ratios.append(
                        Ratio(
                            part=part,
                            ours=our.way,
                            theirs=their.way,
                            name=name,
                            conditions=our.conditions,
                            rounds=pairs,
                        )
                    )

    def show(self, part: str, title: str, *, detail_columns: list[str] | None = None) -> None:
        """Print the table of one part: a line a figure, the chosen details of its median round."""
        figures = self.figures(part)
        if not figures:
            return
        table = Table(title=title, title_justify="left")
        table.add_column("way")
        condition_names = list(dict.fromkeys(name for figure in figures for name in figure.conditions))
        for name in condition_names:
            table.add_column(name.replace("_", " "), justify="right")
        for heading in ("figure", "median", "min", "max"):
            table.add_column(heading, justify="left" if heading == "figure" else "right")
        columns = detail_columns or []
        for name in columns:
            table.add_column(name.replace("_", " "), justify="right")
        for figure in figures:
            detail = middle_detail(figure)
            table.add_row(
                figure.way,
                *(cell(figure.conditions.get(name, "")) for name in condition_names),
                f"{figure.name.replace('_', ' ')}, {figure.unit}",
                cell(figure.median),
                cell(min(figure.rounds)),
                cell(max(figure.rounds)),
                *(cell(detail.get(name, "")) for name in columns),
            )
        self.console.print(table)

    def show_cpu(self, part: str, name: str) -> None:
        """Print where the CPU of an order goes: a line a figure, a column a role, of the median round."""
        figures = self.figures(part, name)
        spent = [(figure, middle_detail(figure).get("cpu_us")) for figure in figures]
        roles = list(dict.fromkeys(role for _, by_role in spent if isinstance(by_role, dict) for role in by_role))
        if not roles:
            return
        table = Table(title=f"{part.replace('_', ' ')}: CPU an order, microseconds", title_justify="left")
        for heading in ("way", "conditions"):
            table.add_column(heading)
        for role in roles:
            table.add_column(role, justify="right")
        for figure, by_role in spent:
            if isinstance(by_role, dict):
                conditions = ", ".join(
                    f"{key.replace('_', ' ')} {cell(value)}" for key, value in figure.conditions.items()
                )
                table.add_row(figure.way, conditions, *(cell(by_role.get(role, "")) for role in roles))
        self.console.print(table)

    def show_ratios(self) -> None:
        if not self.ratios:
            return
        table = Table(title="ours by theirs, pairwise a round", title_justify="left")
        for heading in ("ours", "theirs", "conditions", "figure"):
            table.add_column(heading)
        for heading in ("median", "min", "max"):
            table.add_column(heading, justify="right")
        for ratio in self.ratios:
            conditions = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in ratio.conditions.items())
            row = (statistics.median(ratio.rounds), min(ratio.rounds), max(ratio.rounds))
            name = ratio.name.replace("_", " ")
            table.add_row(ratio.ours, ratio.theirs, conditions, name, *(f"{v:.2f}x" for v in row))
        self.console.print(table)

    def document(self) -> Document:
        return Document(
            conditions=self.conditions,
            figures=[{**msgspec.to_builtins(figure), **spread(figure.rounds)} for figure in self._figures.values()],
            ratios=[{**msgspec.to_builtins(ratio), **spread(ratio.rounds)} for ratio in self.ratios],
            skipped=self.skipped,
            mismatches=self.mismatches,
        )

    def write(self, path: Path) -> None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self.document()), indent=2) + b"\n")


def middle_detail(figure: Figure) -> Detail:
    """The details of the round whose value is nearest to the median."""
    median = figure.median
    nearest = min(range(len(figure.rounds)), key=lambda place: abs(figure.rounds[place] - median))
    return figure.details[nearest]


def cell(value: object) -> str:
    match value:
        case float() if abs(value) >= 100:
            return f"{value:,.0f}"
        case float() if abs(value) >= 10:
            return f"{value:.1f}"
        case float():
            return f"{value:.2f}"
        case int():
            return f"{value:,}"
        case dict():
            return ", ".join(f"{name} {cell(inner)}" for name, inner in value.items()) or "-"
        case _:
            return str(value)
