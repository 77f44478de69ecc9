"""The days of a website and their visits: every endpoint derives its figures from them.

A day is generated in two steps. The first generates its counts (visits, their countries and scores, an anomaly) and is
cheap enough to sum a year of a large website. The second generates the single visits of a requested day, and counting
them gives the counts of the first step.

Neither the present nor the requested range has an influence: a past day keeps its figures.
"""

from __future__ import annotations

import hashlib
import math
import random
import uuid
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import NamedTuple

_METRICS = ("visitors", "page_views", "bounce_rate", "error_rate")

# Lower and upper bound of a rate on a normal day, in percent.
_RATES = {"bounce_rate": (25.0, 45.0), "error_rate": (0.4, 2.0)}


class Country(NamedTuple):
    """A country of origin."""

    code: str
    name: str
    weight: int
    city: str


COUNTRIES = (
    Country("US", "United States", 30, "New York"),
    Country("GB", "United Kingdom", 13, "London"),
    Country("DE", "Germany", 11, "Berlin"),
    Country("FR", "France", 8, "Lyon"),
    Country("CA", "Canada", 7, "Toronto"),
    Country("NL", "Netherlands", 5, "Utrecht"),
    Country("BR", "Brazil", 5, "Recife"),
    Country("JP", "Japan", 4, "Osaka"),
    Country("IN", "India", 4, "Pune"),
    Country("ES", "Spain", 3, "Valencia"),
    Country("SE", "Sweden", 2, "Malmö"),
    Country("AU", "Australia", 2, "Perth"),
)


class Anomaly(NamedTuple):
    """An unusual figure of a day, with the expected one."""

    metric: str
    expected: float
    actual: float


class Day(NamedTuple):
    """The counts of a day."""

    date: date
    visitors: int
    unique: int
    page_views: int
    anomaly: Anomaly | None


class CountryShare(NamedTuple):
    """A country's visits on a day, with their average score."""

    country: Country
    visitors: int
    score: int


class Visit(NamedTuple):
    """One visit; ``number`` is its index within the day."""

    number: int
    at: datetime
    country: Country
    score: int


class SeededRandom:
    """Random generators that depend on the seed alone, in every process."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def generator(self, website_id: str, topic: str) -> random.Random:
        """Return the generator for one topic of one website."""
        return random.Random(f"{self._seed}/{website_id}/{topic}")  # noqa: S311 - generated figures

    def make_id(self, topic: str, number: int) -> str:
        """Return the ID (a UUID) of an item; the same each time."""
        digest = hashlib.blake2b(f"{self._seed}/{topic}/{number}".encode(), digest_size=16).digest()
        return str(uuid.UUID(bytes=digest, version=4))


class _Profile(NamedTuple):
    """Constants of a website: visits on a normal workday, weight and score of each country."""

    size: int
    weights: list[float]
    scores: list[float]


class Visits:
    """The days of all websites."""

    def __init__(self, source: SeededRandom) -> None:
        self._random = source
        # Sizes: a year of some websites; the days that one page of visits spans.
        self.day = lru_cache(maxsize=4096)(self._day)
        self.visits = lru_cache(maxsize=64)(self._visits)
        self._profile = lru_cache(maxsize=1024)(self._new_profile)

    def shares(self, website_id: str, day: Day) -> list[CountryShare]:
        """Return the day's visits by country; their sum is the day's."""
        profile, rng = self._profile(website_id), self._generator(website_id, "countries", day.date)
        counts = _split(day.visitors, [weight * rng.uniform(0.6, 1.4) for weight in profile.weights])
        scores = [round(score + rng.uniform(-8, 8)) for score in profile.scores]
        return [CountryShare(*share) for share in zip(COUNTRIES, counts, scores, strict=True)]

    def _day(self, website_id: str, when: date) -> Day:
        rng = self._generator(website_id, "day", when)
        metric = rng.choice(_METRICS) if rng.random() < 0.35 else ""  # noqa: PLR2004 - about every third day
        # Most anomalies are mild; a bounce rate stays below 100 %.
        surge = rng.triangular(1.4, 2.1 if metric == "bounce_rate" else 4.0, 1.4)
        weekend = 0.7 if when.weekday() >= 5 else 1.0  # noqa: PLR2004 - Saturday
        visitors = usual = int(self._profile(website_id).size * weekend * rng.uniform(0.8, 1.2))
        anomaly = None
        if metric == "visitors":
            visitors = int(usual * surge)
            anomaly = Anomaly(metric, usual, visitors)
        page_views = usual = int(visitors * rng.uniform(2.5, 4.0))
        if metric == "page_views":
            page_views = int(usual * surge)
            anomaly = Anomaly(metric, usual, page_views)
        elif metric in _RATES:
            rate = round(rng.uniform(*_RATES[metric]), 1)
            anomaly = Anomaly(metric, rate, round(rate * surge, 1))
        return Day(when, visitors, int(visitors * rng.uniform(0.6, 0.8)), page_views, anomaly)

    def _visits(self, website_id: str, day: Day) -> list[Visit]:
        """Return the day's visits, newest first."""
        rng = self._generator(website_id, "visits", day.date)
        origins: list[tuple[Country, int]] = []
        for country, count, average in self.shares(website_id, day):
            # Scores come in pairs around the average, so that their mean is exact.
            for _ in range(count // 2):
                apart = rng.randint(0, min(average, 100 - average))
                origins += [(country, average + apart), (country, average - apart)]
            if count % 2:
                origins.append((country, average))
        rng.shuffle(origins)
        midnight = datetime.combine(day.date, time(), UTC)
        times = [midnight + _time_of_day((number + rng.random()) / day.visitors) for number in range(day.visitors)]
        found = [Visit(number, at, *origin) for number, (at, origin) in enumerate(zip(times, origins, strict=True))]
        return found[::-1]

    def _new_profile(self, website_id: str) -> _Profile:
        rng = self._random.generator(website_id, "size")
        size = rng.randint(40, 2000)
        weights = [country.weight * rng.uniform(0.5, 1.5) for country in COUNTRIES]
        return _Profile(size, weights, [rng.uniform(32, 62) for _ in COUNTRIES])

    def _generator(self, website_id: str, topic: str, when: date) -> random.Random:
        return self._random.generator(website_id, f"{topic}{when:%Y%m%d}")


def _split(total: int, weights: list[float]) -> list[int]:
    """Return integer shares by weight; their sum is the total."""
    reached = list(accumulate(weights))
    edges = [round(total * edge / reached[-1]) for edge in reached]
    return [high - low for low, high in pairwise([0, *edges])]


def _time_of_day(share: float) -> timedelta:
    """Return the time of day by which a share of the visits has happened: few at night, many around noon."""
    return timedelta(days=share + 0.6 * math.sin(math.tau * share) / math.tau)
