"""Async Python client for the Zenovay External API (web analytics).

    async with Zenovay() as zenovay:
        report = await zenovay.heatmaps.pages(website_id)

All errors are :class:`ZenovayError`; see ``zenovay_async.exceptions`` for the tree.
"""

from zenovay_async._limits.budget import Estimate
from zenovay_async._limits.quota import Quota
from zenovay_async._limits.window import RateLimit, RateLimiter
from zenovay_async._protocol.call import NOT_GIVEN
from zenovay_async._protocol.response import Response
from zenovay_async._version import __version__
from zenovay_async.batch import Batch, BatchResult, Failure, Success
from zenovay_async.client import Zenovay
from zenovay_async.events import (
    Event,
    QuotaExhausted,
    QuotaThresholdReached,
    RateLimited,
    RateLimitUpdated,
    RetryScheduled,
    SchemaDrift,
)
from zenovay_async.exceptions import (
    APIConnectionError,
    APIStatusError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    ClientClosedError,
    ConfigurationError,
    NotFoundError,
    PermissionDeniedError,
    QuotaExceededError,
    RateLimitError,
    ResponseDecodeError,
    ServerError,
    ZenovayError,
)
from zenovay_async.resources.analytics import (
    AnalyticsOverview,
    AnalyticsSummary,
    CountryList,
    CountryStats,
    DailyStats,
    DateRange,
    Visitor,
    VisitorPage,
    WebsiteSummary,
)
from zenovay_async.resources.anomalies import Anomaly, AnomalyPage
from zenovay_async.resources.base import Pagination
from zenovay_async.resources.errors import ErrorGroup, ErrorGroupList
from zenovay_async.resources.heatmaps import HeatmapPage, HeatmapPages
from zenovay_async.resources.insights import Insight, InsightPage
from zenovay_async.resources.paging import Paged
from zenovay_async.resources.query import QueryAnswer, QueryResults
from zenovay_async.resources.replays import ReplaySession, ReplaySessionPage
from zenovay_async.resources.retention import RetentionCohorts, RetentionPeriod
from zenovay_async.resources.revenue import LifetimeValue, LTVCohort, LTVPeriod, LTVSummary
from zenovay_async.resources.usage import APIKey, MinuteLimit, MonthlyUsage, Subscription, Usage
from zenovay_async.resources.websites import Website, WebsiteDetail, WebsiteList, WebsiteSettings

__all__ = [
    "NOT_GIVEN",
    "APIConnectionError",
    "APIKey",
    "APIStatusError",
    "APITimeoutError",
    "AnalyticsOverview",
    "AnalyticsSummary",
    "Anomaly",
    "AnomalyPage",
    "AuthenticationError",
    "BadRequestError",
    "Batch",
    "BatchResult",
    "ClientClosedError",
    "ConfigurationError",
    "CountryList",
    "CountryStats",
    "DailyStats",
    "DateRange",
    "ErrorGroup",
    "ErrorGroupList",
    "Estimate",
    "Event",
    "Failure",
    "HeatmapPage",
    "HeatmapPages",
    "Insight",
    "InsightPage",
    "LTVCohort",
    "LTVPeriod",
    "LTVSummary",
    "LifetimeValue",
    "MinuteLimit",
    "MonthlyUsage",
    "NotFoundError",
    "Paged",
    "Pagination",
    "PermissionDeniedError",
    "QueryAnswer",
    "QueryResults",
    "Quota",
    "QuotaExceededError",
    "QuotaExhausted",
    "QuotaThresholdReached",
    "RateLimit",
    "RateLimited",
    "RateLimitError",
    "RateLimitUpdated",
    "RateLimiter",
    "ReplaySession",
    "ReplaySessionPage",
    "Response",
    "ResponseDecodeError",
    "RetentionCohorts",
    "RetentionPeriod",
    "RetryScheduled",
    "SchemaDrift",
    "ServerError",
    "Subscription",
    "Success",
    "Usage",
    "Visitor",
    "VisitorPage",
    "Website",
    "WebsiteDetail",
    "WebsiteList",
    "WebsiteSettings",
    "WebsiteSummary",
    "Zenovay",
    "ZenovayError",
    "__version__",
]
