"""Questions and candidate queries of the embedded sample, written for this project.

Every family is asked with several values. ``right`` and ``wrong`` are candidates in plausible wordings; the wrong ones
carry mistakes that generated SQL is known for: a wrong bound, a lost DISTINCT, a join that multiplies rows, NULL taken
for a value, text compared in the wrong case, a column that does not exist. Which ones are right is checked against the
first ``right`` query when the sample is built.
"""

# ruff: noqa: E501 - one program, one line

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Family:
    """One question with its candidates; ``{}`` is filled with each of the values in turn."""

    database: str
    question: str
    values: tuple[tuple[object, ...], ...]
    right: tuple[str, ...]
    wrong: tuple[str, ...]


FAMILIES = (
    Family(
        "flights",
        "How many flights did {1} operate from {0}?",
        (("EWR", "United Air Lines Inc."), ("JFK", "JetBlue Airways"), ("LGA", "Delta Air Lines Inc.")),
        (
            "SELECT count(*) FROM flights AS f JOIN airlines AS a ON f.carrier = a.carrier WHERE f.origin = '{0}' AND a.name = '{1}'",
            "SELECT COUNT(flight) FROM flights WHERE origin = '{0}' AND carrier IN (SELECT carrier FROM airlines WHERE name = '{1}')",
        ),
        (
            "SELECT count(*) FROM flights WHERE origin = '{0}' AND carrier = '{1}'",
            "SELECT count(DISTINCT f.flight) FROM flights f JOIN airlines a USING (carrier) WHERE f.origin = '{0}' AND a.name = '{1}'",
            "SELECT count(*) FROM flights JOIN airlines ON flights.carrier = airlines.carrier WHERE airlines.airline = '{1}' AND origin = '{0}'",
        ),
    ),
    Family(
        "flights",
        "What is the average departure delay of flights from {0} that did leave?",
        (("EWR",), ("JFK",), ("LGA",)),
        (
            "SELECT avg(dep_delay) FROM flights WHERE origin = '{0}'",
            "SELECT avg(dep_delay) FROM flights WHERE origin = '{0}' AND dep_delay IS NOT NULL",
            "SELECT sum(dep_delay) * 1.0 / count(dep_delay) FROM flights WHERE origin = '{0}'",
        ),
        (
            "SELECT sum(dep_delay) / count(*) FROM flights WHERE origin = '{0}'",
            "SELECT avg(dep_delay) FROM flights WHERE origin = '{0}' AND dep_delay > 0",
            "SELECT avg(arr_delay) FROM flights WHERE origin = '{0}'",
        ),
    ),
    Family(
        "flights",
        "List the names of airlines that fly to {0}.",
        (("MIA",), ("SFO",), ("BOS",)),
        (
            "SELECT DISTINCT a.name FROM airlines a JOIN flights f ON a.carrier = f.carrier WHERE f.dest = '{0}'",
            "SELECT name FROM airlines WHERE carrier IN (SELECT carrier FROM flights WHERE dest = '{0}')",
        ),
        (
            "SELECT a.name FROM airlines a JOIN flights f ON a.carrier = f.carrier WHERE f.dest = '{0}'",
            "SELECT DISTINCT carrier FROM flights WHERE dest = '{0}'",
            "SELECT name FROM airlines WHERE carrier IN (SELECT carrier FROM flights WHERE origin = '{0}')",
            "SELECT name FROM airlines WHERE dest = '{0}'",
        ),
    ),
    Family(
        "flights",
        "Which destination is reached by the most flights of carrier {0}?",
        (("UA",), ("B6",), ("DL",)),
        (
            "SELECT dest FROM flights WHERE carrier = '{0}' GROUP BY dest ORDER BY count(*) DESC LIMIT 1",
            "SELECT dest FROM (SELECT dest, count(*) AS n FROM flights WHERE carrier = '{0}' GROUP BY dest) ORDER BY n DESC LIMIT 1",
        ),
        (
            "SELECT dest FROM flights WHERE carrier = '{0}' GROUP BY dest ORDER BY count(*) LIMIT 1",
            "SELECT dest, count(*) FROM flights WHERE carrier = '{0}' GROUP BY dest ORDER BY count(*) DESC LIMIT 1",
            "SELECT dest FROM flights WHERE carrier = '{0}' ORDER BY dest DESC LIMIT 1",
            "SELECT max(dest) FROM flights WHERE carrier = '{0}'",
        ),
    ),
    Family(
        "flights",
        "How many different planes of {0} appear in the flights?",
        (("BOEING",), ("AIRBUS",), ("EMBRAER",)),
        (
            "SELECT count(DISTINCT f.tailnum) FROM flights f JOIN planes p ON f.tailnum = p.tailnum WHERE p.manufacturer = '{0}'",
            "SELECT count(*) FROM planes WHERE manufacturer = '{0}' AND tailnum IN (SELECT tailnum FROM flights)",
            "SELECT count(*) FROM (SELECT DISTINCT p.tailnum FROM planes p, flights f WHERE p.tailnum = f.tailnum AND p.manufacturer = '{0}')",
        ),
        (
            "SELECT count(*) FROM flights f JOIN planes p ON f.tailnum = p.tailnum WHERE p.manufacturer = '{0}'",
            "SELECT count(*) FROM planes WHERE manufacturer = '{0}'",
            "SELECT count(DISTINCT tailnum) FROM planes WHERE manufacturer LIKE '%{0}%'",
        ),
    ),
    Family(
        "flights",
        "How many flights on day {0} of January were cancelled, that is, have no departure time?",
        ((2,), (3,), (7,)),
        (
            "SELECT count(*) FROM flights WHERE day = {0} AND dep_time IS NULL",
            "SELECT sum(dep_time IS NULL) FROM flights WHERE day = {0} AND month = 1",
        ),
        (
            "SELECT count(*) FROM flights WHERE day = {0} AND dep_time = NULL",
            "SELECT count(*) FROM flights WHERE day = {0} AND dep_time = ''",
            "SELECT count(dep_time) FROM flights WHERE day = {0} AND dep_time IS NULL",
            "SELECT count(*) FROM flights WHERE day = {0} AND arr_time IS NULL",
        ),
    ),
    Family(
        "flights",
        "What is the longest distance flown from {0}?",
        (("EWR",), ("JFK",), ("LGA",)),
        (
            "SELECT max(distance) FROM flights WHERE origin = '{0}'",
            "SELECT distance FROM flights WHERE origin = '{0}' ORDER BY distance DESC LIMIT 1",
            "SELECT MAX(f.distance) FROM flights AS f WHERE f.origin = '{0}'",
        ),
        (
            "SELECT max(air_time) FROM flights WHERE origin = '{0}'",
            "SELECT max(distance) FROM flights WHERE dest = '{0}'",
            "SELECT dest, max(distance) FROM flights WHERE origin = '{0}'",
        ),
    ),
    Family(
        "flights",
        "How many airports are higher than {0} feet?",
        ((5000,), (7000,), (1000,)),
        (
            "SELECT count(*) FROM airports WHERE alt > {0}",
            "SELECT count(faa) FROM airports WHERE alt > {0}.0",
        ),
        (
            "SELECT count(*) FROM airports WHERE alt >= {0} - 1",
            "SELECT name FROM airports WHERE alt > {0}",
            "SELECT count(*) FROM airports WHERE altitude > {0}",
            "SELECT count(DISTINCT tzone) FROM airports WHERE alt > {0}",
        ),
    ),
    Family(
        "flights",
        "List the origins with their numbers of flights that left at hour {0} or later, most first.",
        ((20,), (21,), (18,)),
        (
            "SELECT origin, count(*) FROM flights WHERE hour >= {0} GROUP BY origin ORDER BY count(*) DESC",
            "SELECT origin, count(*) AS n FROM flights WHERE hour >= {0} GROUP BY 1 ORDER BY n DESC",
        ),
        (
            "SELECT origin, count(*) FROM flights WHERE hour > {0} GROUP BY origin ORDER BY count(*) DESC",
            "SELECT origin FROM flights WHERE hour >= {0} GROUP BY origin ORDER BY count(*) DESC",
            "SELECT origin, count(*) FROM flights GROUP BY origin HAVING hour >= {0} ORDER BY count(*) DESC",
        ),
    ),
    Family(
        "flights",
        "Which airlines have no flight from {0}? Give their names.",
        (("LGA",), ("EWR",), ("JFK",)),
        (
            "SELECT name FROM airlines WHERE carrier NOT IN (SELECT carrier FROM flights WHERE origin = '{0}')",
            "SELECT a.name FROM airlines a LEFT JOIN flights f ON a.carrier = f.carrier AND f.origin = '{0}' WHERE f.carrier IS NULL",
            "SELECT name FROM airlines EXCEPT SELECT a.name FROM airlines a JOIN flights f ON a.carrier = f.carrier WHERE f.origin = '{0}'",
        ),
        (
            "SELECT DISTINCT a.name FROM airlines a JOIN flights f ON a.carrier = f.carrier WHERE f.origin != '{0}'",
            "SELECT a.name FROM airlines a LEFT JOIN flights f ON a.carrier = f.carrier WHERE f.origin = '{0}' AND f.carrier IS NULL",
            "SELECT name FROM airlines WHERE origin <> '{0}'",
        ),
    ),
    Family(
        "cars",
        "What is the average horsepower of cars from {0}?",
        (("USA",), ("Europe",), ("Japan",)),
        (
            "SELECT avg(Horsepower) FROM cars WHERE Origin = '{0}'",
            "SELECT avg(c.Horsepower) FROM cars AS c WHERE c.Origin = '{0}' AND c.Horsepower IS NOT NULL",
        ),
        (
            "SELECT avg(ifnull(Horsepower, 0)) FROM cars WHERE Origin = '{0}'",
            "SELECT avg(Horsepower) FROM cars WHERE Origin = lower('{0}')",
            "SELECT Horsepower FROM cars WHERE Origin = '{0}'",
            "SELECT avg(hp) FROM cars WHERE Origin = '{0}'",
        ),
    ),
    Family(
        "cars",
        "How many cars with {0} cylinders weigh less than {1} pounds?",
        ((4, 2200), (6, 3000), (8, 4000)),
        (
            "SELECT count(*) FROM cars WHERE Cylinders = {0} AND Weight_in_lbs < {1}",
            "SELECT count(Name) FROM cars WHERE Cylinders = {0} AND NOT Weight_in_lbs >= {1}",
            "SELECT sum(Weight_in_lbs < {1}) FROM cars WHERE Cylinders = {0}",
        ),
        (
            "SELECT count(DISTINCT Name) FROM cars WHERE Cylinders = {0} AND Weight_in_lbs < {1}",
            "SELECT count(*) FROM cars WHERE Cylinders = '{0} cylinders' AND Weight_in_lbs < {1}",
            "SELECT count(*) FROM cars WHERE Cylinders >= {0} AND Weight_in_lbs < {1}",
        ),
    ),
    Family(
        "cars",
        "Give the name of the most economical car from {0}, by miles per gallon.",
        (("USA",), ("Europe",), ("Japan",)),
        (
            "SELECT Name FROM cars WHERE Origin = '{0}' ORDER BY Miles_per_Gallon DESC LIMIT 1",
            "SELECT Name FROM cars WHERE Origin = '{0}' AND Miles_per_Gallon = (SELECT max(Miles_per_Gallon) FROM cars WHERE Origin = '{0}')",
        ),
        (
            "SELECT Name FROM cars WHERE Origin = '{0}' ORDER BY Miles_per_Gallon LIMIT 1",
            "SELECT Name FROM cars WHERE Miles_per_Gallon = (SELECT max(Miles_per_Gallon) FROM cars) AND Origin = '{0}'",
            "SELECT Name, max(Miles_per_Gallon) FROM cars WHERE Origin = '{0}'",
        ),
    ),
    Family(
        "cars",
        "Which numbers of cylinders are built in more than {0} of the cars?",
        ((50,), (80,), (100,)),
        (
            "SELECT Cylinders FROM cars GROUP BY Cylinders HAVING count(*) > {0}",
            "SELECT Cylinders FROM (SELECT Cylinders, count(*) AS n FROM cars GROUP BY Cylinders) WHERE n > {0}",
        ),
        (
            "SELECT Cylinders FROM cars WHERE count(*) > {0} GROUP BY Cylinders",
            "SELECT Cylinders, count(*) FROM cars GROUP BY Cylinders HAVING count(*) > {0}",
            "SELECT DISTINCT Cylinders FROM cars WHERE Cylinders > {0}",
            "SELECT Cylinders FROM cars GROUP BY Cylinders HAVING count(DISTINCT Name) > {0} + 40",
        ),
    ),
    Family(
        "weather",
        "How many days of {0} had {1}?",
        ((2012, "rain"), (2013, "fog"), (2015, "sun")),
        (
            "SELECT count(*) FROM seattle_weather WHERE weather = '{1}' AND date LIKE '{0}%'",
            "SELECT count(date) FROM seattle_weather WHERE substr(date, 1, 4) = '{0}' AND weather = '{1}'",
        ),
        (
            "SELECT count(*) FROM seattle_weather WHERE weather = '{1}' AND strftime('%Y', date) = '{0}'",
            "SELECT count(*) FROM seattle_weather WHERE weather = '{1}' AND year = {0}",
            "SELECT count(*) FROM seattle_weather WHERE weather LIKE '%{1}%'",
            "SELECT count(DISTINCT weather) FROM seattle_weather WHERE date LIKE '{0}%'",
        ),
    ),
    Family(
        "weather",
        "What was the highest temperature on a day with {0}?",
        (("snow",), ("rain",), ("drizzle",)),
        (
            "SELECT max(temp_max) FROM seattle_weather WHERE weather = '{0}'",
            "SELECT temp_max FROM seattle_weather WHERE weather = '{0}' ORDER BY temp_max DESC LIMIT 1",
            "SELECT max(w.temp_max) FROM seattle_weather w WHERE w.weather IN ('{0}')",
        ),
        (
            "SELECT max(temp_min) FROM seattle_weather WHERE weather = '{0}'",
            "SELECT max(temp_max) FROM seattle_weather WHERE weather = upper('{0}')",
            "SELECT date, max(temp_max) FROM seattle_weather WHERE weather = '{0}'",
        ),
    ),
    Family(
        "weather",
        "For each kind of weather, how many days had more than {0} mm of precipitation?",
        ((20,), (10,), (30,)),
        (
            "SELECT weather, count(*) FROM seattle_weather WHERE precipitation > {0} GROUP BY weather",
            "SELECT weather, count(date) FROM seattle_weather WHERE precipitation > {0} GROUP BY 1",
        ),
        (
            "SELECT count(*) FROM seattle_weather WHERE precipitation > {0} GROUP BY weather",
            "SELECT weather, sum(precipitation) FROM seattle_weather WHERE precipitation > {0} GROUP BY weather",
            "SELECT weather, count(*) FROM seattle_weather WHERE precipitation > {0}",
            "SELECT weather, count(*) FROM seattle_weather GROUP BY weather HAVING precipitation > {0}",
        ),
    ),
    Family(
        "weather",
        "What was the highest price of {0} in the stocks?",
        (("MSFT",), ("AAPL",), ("IBM",)),
        (
            "SELECT max(price) FROM stocks WHERE symbol = '{0}'",
            "SELECT price FROM stocks WHERE symbol = '{0}' ORDER BY price DESC LIMIT 1",
        ),
        (
            "SELECT max(price) FROM stocks",
            "SELECT max(date), price FROM stocks WHERE symbol = '{0}'",
            "SELECT max(price) FROM stocks WHERE symbol = \"{0} \"",
            "SELECT avg(price) FROM stocks WHERE symbol = '{0}'",
        ),
    ),
)  # fmt: skip
