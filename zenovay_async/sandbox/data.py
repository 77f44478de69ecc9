"""Generated websites with figures that agree across endpoints and depend on the seed alone.

Figures are generated on request, from random generators seeded with the website and the day, so that a hundred
thousand websites cost nothing until one is requested. Domains are under ``.example`` (RFC 2606).

A range is a number of whole days up to yesterday, in UTC. ``visits`` generates the counts of these days; this module
gives them the shape of the API.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from zenovay_async.sandbox.visits import COUNTRIES, SeededRandom, Visits

if TYPE_CHECKING:
    import random

    from zenovay_async.sandbox.visits import Day, Visit

RANGE_DAYS = {"24h": 1, "7d": 7, "30d": 30, "90d": 90, "1y": 365}

# Websites are created within three years from here.
_FIRST_CREATED = datetime(2020, 1, 1, tzinfo=UTC)

_BROWSERS = (
    ("Chrome", "Windows", "desktop"),
    ("Safari", "iOS", "mobile"),
    ("Chrome", "Android", "mobile"),
    ("Safari", "macOS", "desktop"),
    ("Firefox", "Linux", "desktop"),
    ("Edge", "Windows", "desktop"),
)
_FIRST = ("north", "blue", "paper", "river", "copper", "quiet", "bright", "maple", "stone", "velvet", "harbor", "cloud")
_SECOND = (
    "desk",
    "bakery",
    "cycles",
    "garden",
    "books",
    "studio",
    "coffee",
    "ledger",
    "travel",
    "audio",
    "forge",
    "lab",
)
_PAGES = ("/", "/pricing", "/features", "/signup", "/about", "/blog", "/contact", "/docs", "/login", "/changelog")
_TOPICS = ("migrating", "measuring", "choosing", "growing", "hiring", "shipping", "writing", "designing", "testing")
_THINGS = ("dashboards", "funnels", "teams", "pricing", "newsletters", "forms", "search", "checkout", "onboarding")
_REFERRERS = ("https://google.com", "https://duckduckgo.com", "https://github.com", None, None)
_ERRORS = (
    ("TypeError", "Cannot read properties of undefined (reading 'length')"),
    ("ReferenceError", "analytics is not defined"),
    ("SyntaxError", "Unexpected token '<'"),
    ("RangeError", "Maximum call stack size exceeded"),
)


def timestamp(when: datetime) -> str:
    """Return a time in the format of the API: UTC, milliseconds, ``Z``."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z"


class FakeData:
    """The websites of a sandbox.

    Args:
        websites: Number of websites.
        seed: Seed of all figures.
        now: Time at which the figures end, aware.
    """

    def __init__(self, websites: int, seed: int, now: datetime) -> None:
        self.now = now.astimezone(UTC)
        self._today = self.now.date()
        self._random = SeededRandom(seed)
        self._visits = Visits(self._random)
        self.team_id = self._id("team", 0)
        self.ids = [self._id("website", index) for index in range(websites)]
        self._index = {website_id: index for index, website_id in enumerate(self.ids)}
        self.heatmap_pages = lru_cache(maxsize=1024)(self._heatmap_pages)

    def __contains__(self, website_id: str) -> bool:
        return website_id in self._index

    def website(self, website_id: str) -> dict[str, Any]:
        """Return a website as listed by ``GET /websites``."""
        index = self._index[website_id]
        rng = self._generator(website_id, "website")
        first, second = _FIRST[index % len(_FIRST)], _SECOND[index // len(_FIRST) % len(_SECOND)]
        round_ = index // (len(_FIRST) * len(_SECOND))
        return {
            "id": website_id,
            "domain": f"{first}-{second}{f'-{round_ + 1}' if round_ else ''}.example",
            "name": f"{first} {second}".title(),
            "tracking_code": f"ZV_{hashlib.sha256(website_id.encode()).hexdigest()[:9]}",
            "is_active": True,
            "created_at": timestamp(_FIRST_CREATED + timedelta(hours=rng.randint(0, 3 * 365 * 24))),
            "team_id": self.team_id,
        }

    def website_detail(self, website_id: str) -> dict[str, Any]:
        """Return a website as shown by ``GET /websites/{website_id}``."""
        settings = dict.fromkeys(("track_outbound_links", "track_downloads", "session_replay", "heatmaps"), True)
        return {**self.website(website_id), "user_id": self._id("user", 0), "settings": settings}

    def _heatmap_pages(self, website_id: str) -> list[dict[str, Any]]:
        """Return all pages with heatmap data, most interactions first."""
        rng = self._generator(website_id, "heatmap")
        articles = [f"/blog/{topic}-{thing}" for topic in _TOPICS for thing in _THINGS]
        rng.shuffle(articles)
        urls = [*_PAGES, *articles, *(f"/docs/{thing}" for thing in _THINGS), *(f"/help/{topic}" for topic in _TOPICS)]
        # The front page is the busiest of most websites, but not of all.
        front = rng.randrange(len(_PAGES) * 2)
        if front < len(_PAGES):
            urls.insert(0, urls.pop(front))
        elif front == len(_PAGES):
            urls.insert(0, urls.pop(len(_PAGES)))
        busiest, updated = rng.randint(800, 60_000), self.now - timedelta(minutes=rng.randint(1, 50))
        pages: list[dict[str, Any]] = []
        for rank, url in enumerate(urls[: rng.randint(5, len(urls))], start=1):
            updated -= timedelta(minutes=rng.randint(0, 180))
            count = max(1, int(busiest / rank**1.1 * rng.uniform(0.85, 1.0)))
            pages.append({"url": url, "total_interactions": count, "last_updated": timestamp(updated)})
        return sorted(pages, key=lambda page: page["total_interactions"], reverse=True)

    def daily_stats(self, website_id: str, days: int) -> list[dict[str, Any]]:
        """Return one row per day, oldest first, up to yesterday."""
        return [
            {
                "date": f"{day.date:%Y-%m-%d}",
                "website_id": website_id,
                "total_visitors": day.visitors,
                "unique_visitors": day.unique,
                "page_views": day.page_views,
            }
            for day in reversed(self._days(website_id, days))
        ]

    def overview(self, website_id: str, range_: str) -> dict[str, Any]:
        """Return totals and daily rows; the totals are the sums of the rows."""
        days = RANGE_DAYS[range_]
        rows = self.daily_stats(website_id, days)
        website = self.website(website_id)
        start, end = _midnight(self._today - timedelta(days=days)), _midnight(self._today)
        return {
            "website": {name: website[name] for name in ("id", "domain", "name")},
            "time_range": range_,
            "date_range": {
                "start": f"{start:%Y-%m-%d}",
                "end": f"{end:%Y-%m-%d}",
                "startDateTime": timestamp(start),
                "endDateTime": timestamp(end),
            },
            "summary": {
                "total_visitors": sum(row["total_visitors"] for row in rows),
                "total_page_views": sum(row["page_views"] for row in rows),
                "unique_visitors": sum(row["unique_visitors"] for row in rows),
            },
            "daily_stats": rows,
        }

    def countries(self, website_id: str, range_: str) -> list[dict[str, Any]]:
        """Return the visitors by country, most first."""
        counts, scores = dict.fromkeys(COUNTRIES, 0), dict.fromkeys(COUNTRIES, 0)
        for day in self._days(website_id, RANGE_DAYS[range_]):
            for country, visitors, score in self._visits.shares(website_id, day):
                counts[country] += visitors
                scores[country] += visitors * score
        rows = [
            {
                "country_code": country.code,
                "country_name": country.name,
                "visitors": visitors,
                "avg_value_score": round(scores[country] / visitors, 2),
            }
            for country, visitors in counts.items()
            if visitors
        ]
        return sorted(rows, key=lambda row: row["visitors"], reverse=True)

    def visitors(self, website_id: str, range_: str, offset: int, limit: int) -> tuple[list[dict[str, Any]], bool]:
        """Return a page of visitors, newest first, and whether more follow; the overview has the same total."""
        found: list[dict[str, Any]] = []
        passed = 0
        for day in self._days(website_id, RANGE_DAYS[range_]):
            first, last = max(0, offset - passed), min(day.visitors, offset + limit - passed)
            if first < last:
                visits = self._visits.visits(website_id, day)
                found += [self._visitor(website_id, day, visit) for visit in visits[first:last]]
            passed += day.visitors
        return found, offset + limit < passed

    def sessions(self, website_id: str, offset: int, limit: int) -> tuple[list[dict[str, Any]], bool]:
        """Return a page of recorded sessions, newest first, and whether more follow."""
        total = self._generator(website_id, "sessions").randint(60, 400)
        chosen = range(offset, min(offset + limit, total))
        return [self._session(website_id, number) for number in chosen], offset + limit < total

    def error_groups(self, website_id: str) -> list[dict[str, Any]]:
        """Return groups of JavaScript errors, most frequent first."""
        rng = self._generator(website_id, "errors")
        groups: list[dict[str, Any]] = []
        for number in range(rng.randint(3, 40)):
            kind, message = _ERRORS[number % len(_ERRORS)]
            count = rng.randint(1, 400)
            last = self.now - timedelta(hours=rng.randint(1, 200))
            groups.append(
                {
                    "id": "eg_" + self._id(website_id + "error", number),
                    "fingerprint": f"{kind}_{rng.getrandbits(24):06x}",
                    "message": message,
                    "type": kind,
                    "status": rng.choice(("unresolved", "unresolved", "resolved", "ignored")),
                    "occurrence_count": count,
                    "first_seen_at": timestamp(last - timedelta(days=rng.randint(1, 40))),
                    "last_seen_at": timestamp(last),
                    "affected_users_count": rng.randint(1, count),
                }
            )
        return sorted(groups, key=lambda group: group["occurrence_count"], reverse=True)

    def insights(self, website_id: str, range_: str) -> list[dict[str, Any]]:
        """Return one insight per anomaly of the range, newest first."""
        found: list[dict[str, Any]] = []
        for day, anomaly in self._anomalous_days(website_id, range_):
            rng = self._generator(website_id, f"insight{day:%Y%m%d}")
            actual, expected, change = (
                anomaly[name] for name in ("actual_value", "expected_value", "deviation_percentage")
            )
            label = anomaly["metric_name"].replace("_", " ")
            found.append(
                {
                    "id": "ins_" + self._id(website_id + "insight", day.toordinal()),
                    "type": rng.choice(("anomaly", "trend", "recommendation", "prediction")),
                    "severity": anomaly["severity"],
                    "title": f"Unusual {label}",
                    "description": f"{actual:,} on {day:%Y-%m-%d} instead of {expected:,}: {change}% more.",
                    "metric_name": anomaly["metric_name"],
                    "metric_value": actual,
                    "metric_change": change,
                    "recommendation": "Look at what changed on that day.",
                    "created_at": anomaly["detected_at"],
                }
            )
        return found

    def anomalies(self, website_id: str, range_: str) -> list[dict[str, Any]]:
        """Return the anomalies of the range, newest first; their figures are those of the daily rows."""
        return [anomaly for _, anomaly in self._anomalous_days(website_id, range_)]

    def retention(self, website_id: str, range_: str, granularity: str, periods: int) -> list[dict[str, Any]]:
        """Return one row per cohort and past period; retained users never increase."""
        step = {"daily": 1, "weekly": 7, "monthly": 30}[granularity]
        rows: list[dict[str, Any]] = []
        for age in range(max(1, RANGE_DAYS[range_] // step), 0, -1):
            start = self._today - timedelta(days=age * step)
            rng = self._generator(website_id, f"retention{start:%Y%m%d}{step}")
            retained = total = self._new_visitors(website_id, start, step)
            for period in range(min(periods, age)):
                rows.append(
                    {
                        "cohort_date": f"{start:%Y-%m-%d}",
                        "period_number": period,
                        "total_users": total,
                        "retained_users": retained,
                        "retention_rate": round(retained / total * 100, 2),
                    }
                )
                retained = int(retained * rng.uniform(0.4, 0.9))
        return rows

    def lifetime_value(self, website_id: str, range_: str, granularity: str) -> dict[str, Any]:
        """Return cohorts of customers; cumulative revenue per customer never decreases."""
        step = {"weekly": 7, "monthly": 30}[granularity]
        cohorts: list[dict[str, Any]] = []
        for age in range(max(1, RANGE_DAYS[range_] // step), 0, -1):
            start = self._today - timedelta(days=age * step)
            rng = self._generator(website_id, f"ltv{start:%Y%m%d}{step}")
            value = rng.uniform(40, 60)
            periods: list[dict[str, Any]] = []
            for period in range(age):
                periods.append({"period": period, "cumulative_revenue_per_customer": round(value, 2)})
                value += rng.uniform(10, 30)
            customers = max(1, int(self._new_visitors(website_id, start, step) * rng.uniform(0.02, 0.08)))
            cohorts.append({"cohort_date": f"{start:%Y-%m-%d}", "customers": customers, "periods": periods})
        first = [cohort["periods"][0]["cumulative_revenue_per_customer"] for cohort in cohorts]
        last = cohorts[0]["periods"][-1]["cumulative_revenue_per_customer"]
        summary = {"average_ltv_30d": round(sum(first) / len(first), 2), "average_ltv_90d": last}
        return {"cohorts": cohorts, "summary": summary}

    def query_answer(self, website_id: str, question: str, range_: str) -> dict[str, Any]:
        """Return the documented part of an answer: visitors by country, for any question."""
        countries = self.countries(website_id, range_)
        total = sum(row["visitors"] for row in countries)
        rows = [[row["country_name"], row["visitors"], round(row["visitors"] / total * 100, 1)] for row in countries]
        return {
            "question": question,
            "intent": "countries_breakdown",
            "confidence": 0.95,
            "time_range": range_,
            "results": {"type": "table", "columns": ["country", "visitors", "percentage"], "rows": rows},
        }

    def _anomalous_days(self, website_id: str, range_: str) -> list[tuple[date, dict[str, Any]]]:
        """Return the days with an anomaly, newest first, with the anomaly as the API shows it."""
        found: list[tuple[date, dict[str, Any]]] = []
        for day in self._days(website_id, RANGE_DAYS[range_]):
            if day.anomaly is None:
                continue
            metric, expected, actual = day.anomaly
            rng = self._generator(website_id, f"anomaly{day.date:%Y%m%d}")
            deviation = round((actual - expected) / expected * 100, 1)
            detected = _midnight(day.date) + timedelta(minutes=rng.randrange(24 * 60))
            anomaly = {
                "id": "anom_" + self._id(website_id + metric, day.date.toordinal()),
                "metric_name": metric,
                "expected_value": expected,
                "actual_value": actual,
                "deviation_percentage": deviation,
                "severity": "critical" if deviation > 200 else "warning" if deviation > 80 else "info",  # noqa: PLR2004 - an invented scale
                "detected_at": timestamp(detected),
                "is_resolved": rng.random() < 0.5,  # noqa: PLR2004 - even odds
            }
            found.append((day.date, anomaly))
        return found

    def _visitor(self, website_id: str, day: Day, visit: Visit) -> dict[str, Any]:
        topic = f"visitor{day.date:%Y%m%d}"
        rng = self._generator(website_id, f"{topic}/{visit.number}")
        browser, system, device = rng.choice(_BROWSERS)
        return {
            "id": self._id(website_id + topic, visit.number),
            "country_code": visit.country.code,
            "country_name": visit.country.name,
            "city": visit.country.city,
            "device_type": device,
            "browser": browser,
            "os": system,
            "value_score": visit.score,
            "visited_at": timestamp(visit.at),
            "landing_page": rng.choice(_PAGES),
            "referrer": rng.choice(_REFERRERS),
            "had_interaction": rng.random() < 0.6,  # noqa: PLR2004 - three in five
        }

    def _session(self, website_id: str, number: int) -> dict[str, Any]:
        rng = self._generator(website_id, f"session{number}")
        browser, system, device = rng.choice(_BROWSERS)
        duration = rng.randint(5, 900)
        ended = self.now - timedelta(minutes=37 * number + rng.randint(0, 20))
        return {
            "id": "sr_" + self._id(website_id + "session", number),
            "session_id": f"sess_{rng.getrandbits(48):012x}",
            "page_url": rng.choice(_PAGES),
            "device_type": device,
            "browser": browser,
            "os": system,
            "country_code": rng.choice(COUNTRIES).code,
            "duration_seconds": duration,
            "event_count": rng.randint(3, 400),
            "started_at": timestamp(ended - timedelta(seconds=duration)),
            "ended_at": timestamp(ended),
        }

    def _days(self, website_id: str, days: int) -> list[Day]:
        """Return a number of days up to yesterday, newest first."""
        return [self._visits.day(website_id, self._today - timedelta(days=back)) for back in range(1, days + 1)]

    def _new_visitors(self, website_id: str, start: date, days: int) -> int:
        """Return the number of new visitors on these days."""
        unique = sum(self._visits.day(website_id, start + timedelta(days=passed)).unique for passed in range(days))
        return int(unique * 0.6)

    def _generator(self, website_id: str, topic: str) -> random.Random:
        return self._random.generator(website_id, topic)

    def _id(self, topic: str, number: int) -> str:
        return self._random.make_id(topic, number)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
