"""The bench's report: medians, pairwise ratios, what differs is kept."""

import io

from rich.console import Console

from loadtests.bench.figures import Report, middle_detail


def report_with(**rounds: list[float]) -> Report:
    report = Report(Console(file=io.StringIO()))
    for way, values in rounds.items():
        for value in values:
            report.add(part="p", way=way, name="n", unit="u", value=value, conditions={"k": 1}, detail={"seen": value})
    return report


def test_ratios_pair_the_rounds_of_two_ways() -> None:
    report = report_with(ours=[20.0, 30.0], theirs=[10.0, 10.0])
    report.compare("p", "n", ours=["ours"])
    (ratio,) = report.ratios
    assert (ratio.ours, ratio.theirs, ratio.rounds) == ("ours", "theirs", [2.0, 3.0])


def test_ratios_need_equal_conditions() -> None:
    report = report_with(ours=[1.0])
    report.add(part="p", way="theirs", name="n", unit="u", value=1.0, conditions={"k": 8})
    report.compare("p", "n", ours=["ours"])
    assert report.ratios == []


def test_details_shown_are_those_of_the_middle_round() -> None:
    (figure,) = report_with(way=[5.0, 1.0, 9.0]).figures("p")
    assert figure.median == 5.0
    assert middle_detail(figure) == {"seen": 5.0}


def test_the_document_keeps_rounds_conditions_and_differences() -> None:
    report = report_with(way=[5.0, 1.0, 9.0])
    report.mismatch("one order is missing")
    document = report.document()
    assert document.figures[0]["rounds"] == [5.0, 1.0, 9.0]
    assert document.figures[0]["median"] == 5.0
    assert document.mismatches == ["one order is missing"]
