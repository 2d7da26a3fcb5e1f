"""Ten questions to the flights, each asked as SQL text and as an ibis expression."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ibis
from ibis import _

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """One question, asked as SQL text and as an ibis expression over a connection."""

    title: str
    sql: str
    expression: Callable[[Any], Any]


def _rain(con: Any) -> Any:
    weather = con.table("weather").select("origin", "time_hour", "precip")
    kind = ibis.cases(
        (_.precip > 0.1, "heavy"), (_.precip > 0, "light"), (_.precip == 0, "dry"), else_="unknown"
    )
    joined = con.table("flights").left_join(weather, ["origin", "time_hour"])
    grouped = joined.mutate(rain=kind).group_by("rain")
    return grouped.agg(flights=_.count(), delay=_.dep_delay.mean()).order_by("rain")


def _slow(con: Any) -> Any:
    flights = con.table("flights")
    usual = flights.group_by(["origin", "dest"]).agg(usual=_.air_time.mean())
    slow = flights.join(usual, ["origin", "dest"]).filter(_.air_time > 1.3 * _.usual)
    return slow.group_by("dest").agg(flights=_.count()).order_by(_.flights.desc(), "dest")


def _latest(con: Any) -> Any:
    window = ibis.window(
        group_by="origin", order_by=[ibis.desc("arr_delay", nulls_first=False), "flight_id"]
    )
    ranked = con.table("flights").mutate(place=ibis.row_number().over(window) + 1)
    columns = ["origin", "place", "flight", "month", "day", "arr_delay"]
    return ranked.filter(_.place <= 3).order_by("origin", "place").select(columns)


def _manufacturers(con: Any) -> Any:
    planes = con.table("planes").select("tailnum", "manufacturer")
    joined = con.table("flights").join(planes, "tailnum").group_by("manufacturer")
    counted = joined.agg(planes=_.tailnum.nunique(), flights=_.count())
    return counted.order_by(_.flights.desc(), "manufacturer")


def _farthest(con: Any) -> Any:
    airports = con.table("airports").select("faa", "name", "tzone")
    joined = con.table("flights").join(airports, _.dest == airports.faa)
    far = joined.group_by(["name", "tzone"]).agg(miles=_.distance.max(), flights=_.count())
    return far.order_by(_.miles.desc(), "name").limit(10)


def _late_destinations(con: Any) -> Any:
    grouped = con.table("flights").group_by("dest")
    delays = grouped.agg(flights=_.count(), delay=_.arr_delay.mean()).filter(_.flights >= 100)
    return delays.order_by(_.delay.desc(), "dest").limit(10)


def _over_the_day(con: Any) -> Any:
    departed = con.table("flights").filter(_.dep_delay.notnull()).group_by(["origin", "hour"])
    return departed.agg(delay=_.dep_delay.mean()).order_by("origin", "hour")


def _adding_up(con: Any) -> Any:
    monthly = con.table("flights").group_by("month").agg(flights=_.count())
    window = ibis.cumulative_window(order_by="month")
    return monthly.mutate(so_far=_.flights.sum().over(window)).order_by("month")


def _unlisted(con: Any) -> Any:
    flights, airports = con.table("flights"), con.table("airports")
    return (
        flights.anti_join(airports, flights.dest == airports.faa)[["dest"]]
        .distinct()
        .order_by("dest")
    )


def _punctual(con: Any) -> Any:
    return con.table("flights").agg(
        flights=_.count(),
        cancelled=_.dep_time.isnull().sum(),
        delay=_.arr_delay.mean(),
        worst=_.arr_delay.max(),
    )


QUESTIONS = (
    Question(
        "How punctual was the year?",
        "SELECT count(*) AS flights, count(*) - count(dep_time) AS cancelled,"
        " avg(arr_delay) AS delay, max(arr_delay) AS worst FROM flights",
        _punctual,
    ),
    Question(
        "Which destinations were reached latest?",
        "SELECT dest, count(*) AS flights, avg(arr_delay) AS delay FROM flights"
        " GROUP BY dest HAVING count(*) >= 100 ORDER BY delay DESC, dest LIMIT 10",
        _late_destinations,
    ),
    Question(
        "How does delay grow over the day?",
        "SELECT origin, hour, avg(dep_delay) AS delay FROM flights WHERE dep_delay IS NOT NULL"
        " GROUP BY origin, hour ORDER BY origin, hour",
        _over_the_day,
    ),
    Question(
        "Which airports are the farthest?",
        "SELECT a.name, a.tzone, max(f.distance) AS miles, count(*) AS flights FROM flights f"
        " JOIN airports a ON a.faa = f.dest GROUP BY a.name, a.tzone"
        " ORDER BY miles DESC, a.name LIMIT 10",
        _farthest,
    ),
    Question(
        "Who built the planes?",
        "SELECT p.manufacturer, count(DISTINCT f.tailnum) AS planes, count(*) AS flights"
        " FROM flights f JOIN planes p ON p.tailnum = f.tailnum GROUP BY p.manufacturer"
        " ORDER BY flights DESC, p.manufacturer",
        _manufacturers,
    ),
    Question(
        "What does rain do?",
        "SELECT CASE WHEN w.precip > 0.1 THEN 'heavy' WHEN w.precip > 0 THEN 'light'"
        " WHEN w.precip = 0 THEN 'dry' ELSE 'unknown' END AS rain,"
        " count(*) AS flights, avg(f.dep_delay) AS delay FROM flights f"
        " LEFT JOIN weather w ON w.origin = f.origin AND w.time_hour = f.time_hour"
        " GROUP BY rain ORDER BY rain",
        _rain,
    ),
    Question(
        "Which three flights of each airport were the latest?",
        "SELECT origin, place, flight, month, day, arr_delay FROM (SELECT *, row_number() OVER"
        " (PARTITION BY origin ORDER BY arr_delay DESC NULLS LAST, flight_id) AS place"
        " FROM flights) AS ranked WHERE place <= 3 ORDER BY origin, place",
        _latest,
    ),
    Question(
        "How do the months add up?",
        "WITH monthly AS (SELECT month, count(*) AS flights FROM flights GROUP BY month)"
        " SELECT month, flights, sum(flights) OVER (ORDER BY month) AS so_far"
        " FROM monthly ORDER BY month",
        _adding_up,
    ),
    Question(
        "Where do flights take 30 % longer than usual?",
        "SELECT f.dest, count(*) AS flights FROM flights f JOIN (SELECT origin, dest,"
        " avg(air_time) AS usual FROM flights GROUP BY origin, dest) AS r"
        " ON r.origin = f.origin AND r.dest = f.dest WHERE f.air_time > 1.3 * r.usual"
        " GROUP BY f.dest ORDER BY flights DESC, f.dest",
        _slow,
    ),
    Question(
        "Which destinations does the list of airports lack?",
        "SELECT DISTINCT f.dest FROM flights f LEFT JOIN airports a ON a.faa = f.dest"
        " WHERE a.faa IS NULL ORDER BY f.dest",
        _unlisted,
    ),
)


def same_answers(left: Sequence[Row], right: Sequence[Row]) -> bool:
    """Compare row by row and cell by cell; numbers up to rounding, as sums have no order."""
    return len(left) == len(right) and all(
        len(a) == len(b) and all(map(_same_value, a, b)) for a, b in zip(left, right, strict=True)
    )


def _same_value(left: Any, right: Any) -> bool:
    if left is None or right is None or isinstance(left, str):
        return bool(left == right)
    return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9)
