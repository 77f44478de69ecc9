"""The days of a website and the visits in them: whatever an endpoint tells of a day comes from here.

A day is drawn in two steps. What is counted of it (its visits, their countries and scores, whether it was unusual)
comes first and cheaply, so that a year of a large website is added up without drawing one visit. The visits come
second, for the few days that somebody looks at, and are drawn so that counting them gives what was counted before.

Nothing depends on the present or on the range that was asked for: a day, once over, stays as it was.
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

# Between which a rate lies on a usual day, in percent.
_RATES = {"bounce_rate": (25.0, 45.0), "error_rate": (0.4, 2.0)}


class Country(NamedTuple):
    """Where visits come from."""

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


class Oddity(NamedTuple):
    """What was unusual on a day: the figure that it had, and the one of a usual day."""

    metric: str
    expected: float
    actual: float


class Day(NamedTuple):
    """What is counted of a day."""

    date: date
    visitors: int
    unique: int
    page_views: int
    odd: Oddity | None


class Share(NamedTuple):
    """A country's part of a day's visits, and the average of their scores."""

    country: Country
    visitors: int
    score: int


class Visit(NamedTuple):
    """One visit; its number is its place in the day."""

    number: int
    at: datetime
    country: Country
    score: int


class Dice:
    """Chance that falls in the same way for the same seed, in every process."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def draw(self, website_id: str, topic: str) -> random.Random:
        """A generator for one matter of one website."""
        return random.Random(f"{self._seed}/{website_id}/{topic}")  # noqa: S311 - made-up figures

    def new_id(self, topic: str, number: int) -> str:
        """An id for the one of this number."""
        digest = hashlib.blake2b(f"{self._seed}/{topic}/{number}".encode(), digest_size=16).digest()
        return str(uuid.UUID(bytes=digest, version=4))


class _Nature(NamedTuple):
    """What a website has for good: visits of a usual workday, and each country's weight and score."""

    size: int
    weights: list[float]
    scores: list[float]


class Visits:
    """The days of all websites."""

    def __init__(self, dice: Dice) -> None:
        self._dice = dice
        # A year of a few websites, and the days that one page of visits reaches over.
        self.day = lru_cache(maxsize=4096)(self._day)
        self.visits = lru_cache(maxsize=64)(self._visits)
        self._nature = lru_cache(maxsize=1024)(self._draw_nature)

    def shares(self, website_id: str, day: Day) -> list[Share]:
        """The day's visits by country; they add up to the day's."""
        nature, draw = self._nature(website_id), self._draw(website_id, "countries", day.date)
        counts = _split(day.visitors, [weight * draw.uniform(0.6, 1.4) for weight in nature.weights])
        scores = [round(score + draw.uniform(-8, 8)) for score in nature.scores]
        return [Share(*share) for share in zip(COUNTRIES, counts, scores, strict=True)]

    def _day(self, website_id: str, when: date) -> Day:
        draw = self._draw(website_id, "day", when)
        metric = draw.choice(_METRICS) if draw.random() < 0.35 else ""  # noqa: PLR2004 - about every third day
        # Most oddities are mild; a bounce rate stays below 100 %.
        surge = draw.triangular(1.4, 2.1 if metric == "bounce_rate" else 4.0, 1.4)
        weekend = 0.7 if when.weekday() >= 5 else 1.0  # noqa: PLR2004 - Saturday
        visitors = usual = int(self._nature(website_id).size * weekend * draw.uniform(0.8, 1.2))
        odd = None
        if metric == "visitors":
            visitors = int(usual * surge)
            odd = Oddity(metric, usual, visitors)
        page_views = usual = int(visitors * draw.uniform(2.5, 4.0))
        if metric == "page_views":
            page_views = int(usual * surge)
            odd = Oddity(metric, usual, page_views)
        elif metric in _RATES:
            rate = round(draw.uniform(*_RATES[metric]), 1)
            odd = Oddity(metric, rate, round(rate * surge, 1))
        return Day(when, visitors, int(visitors * draw.uniform(0.6, 0.8)), page_views, odd)

    def _visits(self, website_id: str, day: Day) -> list[Visit]:
        """The day's visits, newest first."""
        draw = self._draw(website_id, "visits", day.date)
        origins: list[tuple[Country, int]] = []
        for country, count, average in self.shares(website_id, day):
            # Two and two, one as far above the average as the other is below it: no visit needs to know the rest.
            for _ in range(count // 2):
                apart = draw.randint(0, min(average, 100 - average))
                origins += [(country, average + apart), (country, average - apart)]
            if count % 2:
                origins.append((country, average))
        draw.shuffle(origins)
        midnight = datetime.combine(day.date, time(), UTC)
        times = [midnight + _clock((number + draw.random()) / day.visitors) for number in range(day.visitors)]
        found = [Visit(number, at, *origin) for number, (at, origin) in enumerate(zip(times, origins, strict=True))]
        return found[::-1]

    def _draw_nature(self, website_id: str) -> _Nature:
        draw = self._dice.draw(website_id, "size")
        size = draw.randint(40, 2000)
        weights = [country.weight * draw.uniform(0.5, 1.5) for country in COUNTRIES]
        return _Nature(size, weights, [draw.uniform(32, 62) for _ in COUNTRIES])

    def _draw(self, website_id: str, topic: str, when: date) -> random.Random:
        return self._dice.draw(website_id, f"{topic}{when:%Y%m%d}")


def _split(total: int, weights: list[float]) -> list[int]:
    """Whole shares by weight that add up to the total."""
    reached = list(accumulate(weights))
    edges = [round(total * edge / reached[-1]) for edge in reached]
    return [high - low for low, high in pairwise([0, *edges])]


def _clock(share: float) -> timedelta:
    """When so large a share of a day's visits has come: few come by night, many around noon."""
    return timedelta(days=share + 0.6 * math.sin(math.tau * share) / math.tau)
