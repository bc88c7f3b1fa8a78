"""Confirmed orders a second through real sockets: closed loop at 1 and 8 in flight, then latency in open loop.

Each round runs every way once, so that the ratios compare neighbours in time.
"""

from .bench import Bench, detail_of
from .drive import DriveError, drive
from .servers import checkpoint
from .ways import OURS, up

IN_FLIGHT = (1, 8)
PART, OPEN_PART = "throughput", "open_loop"
_COLUMNS = ["p50_ms", "p99_ms", "p999_ms", "max_ms", "cpu_us_all", "generator_us"]


async def throughput(bench: Bench) -> None:
    """Closed loop: each socket sends its next order when one is confirmed."""
    for number in range(bench.rounds):
        for way in bench.ways:
            for in_flight in IN_FLIGHT:
                bench.report.console.print(f"[dim]round {number + 1}: {way.title}, {in_flight} in flight")
                try:
                    async with up(way, bench.servers, bench.scratch, sockets=bench.sockets) as target:
                        await checkpoint(bench.servers.rivals_url)
                        run = await drive(
                            target,
                            bench.servers,
                            bench.scratch,
                            sockets=bench.sockets,
                            in_flight=in_flight,
                            warm_up_s=bench.warm_up_s,
                            measure_s=bench.measure_s,
                        )
                except DriveError as error:
                    bench.report.skip(f"{PART}: {way.name}", str(error))
                    break
                conditions: dict[str, int | float | str] = {"sockets": bench.sockets, "in_flight": in_flight}
                for difference in run.differences:
                    bench.report.mismatch(f"{way.name}, {in_flight} in flight: {difference}")
                bench.report.add(
                    part=PART,
                    way=way.name,
                    name="confirmed",
                    unit="orders/s",
                    value=run.outcome.confirmed_per_s,
                    conditions=conditions,
                    detail=detail_of(run),
                )
    bench.report.show(PART, "closed loop: confirmed orders a second", detail_columns=_COLUMNS)
    bench.report.show_cpu(PART, "confirmed")
    bench.report.compare(PART, "confirmed", ours=OURS)


async def open_loop(bench: Bench) -> None:
    """Fixed arrival times; latency counts from the instant an order was due."""
    for _ in range(bench.rounds):
        for way in bench.ways:
            rates = way.open_rates[:2] if bench.quick else way.open_rates
            for rate in rates:
                bench.report.console.print(f"[dim]{way.title}, {rate:,.0f} orders/s")
                try:
                    async with up(way, bench.servers, bench.scratch, sockets=bench.sockets) as target:
                        await checkpoint(bench.servers.rivals_url)
                        run = await drive(
                            target,
                            bench.servers,
                            bench.scratch,
                            sockets=bench.sockets,
                            rate=rate,
                            warm_up_s=bench.warm_up_s,
                            measure_s=bench.measure_s,
                        )
                except DriveError as error:
                    bench.report.skip(f"{OPEN_PART}: {way.name}", str(error))
                    break
                for difference in run.differences:
                    bench.report.mismatch(f"{way.name}, open loop at {rate:.0f}/s: {difference}")
                conditions: dict[str, int | float | str] = {"sockets": bench.sockets, "rate": rate}
                detail = detail_of(run)
                steps = [("confirmed", run.outcome.confirmed_latency_ms)]
                if way.rival is None:
                    steps.append(("reserved", run.outcome.reserved_latency_ms))
                for name, latency in steps:
                    bench.report.add(
                        part=OPEN_PART,
                        way=way.name,
                        name=f"p99_to_{name}",
                        unit="ms",
                        value=latency.p99,
                        conditions=conditions,
                        detail={
                            **detail,
                            "p50_ms": latency.p50,
                            "p999_ms": latency.p999,
                            "max_ms": latency.max,
                            "answered": latency.count,
                        },
                    )
    columns = ["p50_ms", "p999_ms", "max_ms", "answered", "refused", "unanswered", "late_p99_ms", "cpu_us_all"]
    bench.report.show(OPEN_PART, "open loop: latency from the intended send", detail_columns=columns)
