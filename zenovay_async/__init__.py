"""Async Python client for the Zenovay External API (web analytics).

    async with Zenovay() as zenovay:
        report = await zenovay.heatmaps.pages(website_id)

Every error is a :class:`ZenovayError`; ``zenovay_async.exceptions`` draws the tree.
"""

import importlib
import typing

from zenovay_async._version import __version__

if typing.TYPE_CHECKING:
    from zenovay_async._batch.report import BatchReport
    from zenovay_async._cache.options import Cache
    from zenovay_async._cache.stats import CacheStats
    from zenovay_async._limits.options import BatchHeadroom, RateLimitOption, RateLimitStoreOption
    from zenovay_async._protocol.auth import AuthStyle
    from zenovay_async._protocol.parameters import NOT_GIVEN, NotGiven, Timeout
    from zenovay_async._protocol.response import Response
    from zenovay_async._protocol.results import Result
    from zenovay_async._session.client_cache import ClientCache
    from zenovay_async.batch import Batch, BatchResult, BatchTable, Failure, Success
    from zenovay_async.client import Zenovay
    from zenovay_async.events import (
        AttemptEnded,
        AttemptStarted,
        CacheResult,
        CacheStoreBack,
        CacheStoreLost,
        CallEnded,
        CallEvent,
        CallStarted,
        EndOutcome,
        EndpointDeprecated,
        Event,
        OnEvent,
        QuotaExhausted,
        QuotaThresholdReached,
        RateLimited,
        RateLimitUpdated,
        RetryScheduled,
        SchemaDrift,
        ServerReachable,
        ServerUnreachable,
        SharedBudgetBack,
        SharedBudgetLost,
        Telemetry,
    )
    from zenovay_async.exceptions import (
        APIConnectionError,
        APIStatusError,
        APITimeoutError,
        AuthenticationError,
        BadRequestError,
        BatchStoppedError,
        ClientClosedError,
        ConfigurationError,
        JournalError,
        NotFoundError,
        PermissionDeniedError,
        QuotaExceededError,
        RateLimitError,
        ResponseDecodeError,
        ServerError,
        ZenovayError,
        is_fatal,
    )
    from zenovay_async.history import Attempt, Wait, WaitReason
    from zenovay_async.journal import Journal, JournalEntry
    from zenovay_async.rate_limits import (
        Estimate,
        Outcome,
        OutcomeKind,
        Permit,
        Quota,
        RateLimit,
        RateLimiter,
        RateLimitHeaders,
        RedisClient,
        Store,
        StoreChange,
        StoreWrite,
        UsageHeaders,
    )
    from zenovay_async.resources.analytics import (
        Analytics,
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
    from zenovay_async.resources.anomalies import Anomalies, Anomaly, AnomalyPage
    from zenovay_async.resources.base import Pagination, QueryParameters, Range, Severity, ShortRange
    from zenovay_async.resources.errors import ErrorGroup, ErrorGroupList, Errors, ErrorStatus
    from zenovay_async.resources.heatmaps import HeatmapPage, HeatmapPages, Heatmaps
    from zenovay_async.resources.insights import Insight, InsightPage, Insights, InsightType
    from zenovay_async.resources.paging import Paged
    from zenovay_async.resources.query import Comparison, QueryAnswer, QueryResults
    from zenovay_async.resources.replays import Replays, ReplaySession, ReplaySessionPage
    from zenovay_async.resources.retention import Retention, RetentionCohorts, RetentionGranularity, RetentionPeriod
    from zenovay_async.resources.revenue import (
        LifetimeValue,
        LTVCohort,
        LTVPeriod,
        LTVSummary,
        Revenue,
        RevenueGranularity,
    )
    from zenovay_async.resources.stats import Stats
    from zenovay_async.resources.usage import APIKey, MinuteLimit, MonthlyUsage, Subscription, Usage
    from zenovay_async.resources.websites import Website, WebsiteDetail, WebsiteList, Websites, WebsiteSettings

__all__ = [
    "NOT_GIVEN",
    "APIConnectionError",
    "APIKey",
    "APIStatusError",
    "APITimeoutError",
    "Analytics",
    "AnalyticsOverview",
    "AnalyticsSummary",
    "Anomalies",
    "Anomaly",
    "AnomalyPage",
    "Attempt",
    "AttemptEnded",
    "AttemptStarted",
    "AuthStyle",
    "AuthenticationError",
    "BadRequestError",
    "Batch",
    "BatchHeadroom",
    "BatchReport",
    "BatchResult",
    "BatchStoppedError",
    "BatchTable",
    "Cache",
    "CacheResult",
    "CacheStats",
    "CacheStoreBack",
    "CacheStoreLost",
    "CallEnded",
    "CallEvent",
    "CallStarted",
    "ClientCache",
    "ClientClosedError",
    "Comparison",
    "ConfigurationError",
    "CountryList",
    "CountryStats",
    "DailyStats",
    "DateRange",
    "EndOutcome",
    "EndpointDeprecated",
    "ErrorGroup",
    "ErrorGroupList",
    "ErrorStatus",
    "Errors",
    "Estimate",
    "Event",
    "Failure",
    "HeatmapPage",
    "HeatmapPages",
    "Heatmaps",
    "Insight",
    "InsightPage",
    "InsightType",
    "Insights",
    "Journal",
    "JournalEntry",
    "JournalError",
    "LTVCohort",
    "LTVPeriod",
    "LTVSummary",
    "LifetimeValue",
    "MinuteLimit",
    "MonthlyUsage",
    "NotFoundError",
    "NotGiven",
    "OnEvent",
    "Outcome",
    "OutcomeKind",
    "Paged",
    "Pagination",
    "PermissionDeniedError",
    "Permit",
    "QueryAnswer",
    "QueryParameters",
    "QueryResults",
    "Quota",
    "QuotaExceededError",
    "QuotaExhausted",
    "QuotaThresholdReached",
    "Range",
    "RateLimit",
    "RateLimitError",
    "RateLimitHeaders",
    "RateLimitOption",
    "RateLimitStoreOption",
    "RateLimitUpdated",
    "RateLimited",
    "RateLimiter",
    "RedisClient",
    "ReplaySession",
    "ReplaySessionPage",
    "Replays",
    "Response",
    "ResponseDecodeError",
    "Result",
    "Retention",
    "RetentionCohorts",
    "RetentionGranularity",
    "RetentionPeriod",
    "RetryScheduled",
    "Revenue",
    "RevenueGranularity",
    "SchemaDrift",
    "ServerError",
    "ServerReachable",
    "ServerUnreachable",
    "Severity",
    "SharedBudgetBack",
    "SharedBudgetLost",
    "ShortRange",
    "Stats",
    "Store",
    "StoreChange",
    "StoreWrite",
    "Subscription",
    "Success",
    "Telemetry",
    "Timeout",
    "Usage",
    "UsageHeaders",
    "Visitor",
    "VisitorPage",
    "Wait",
    "WaitReason",
    "Website",
    "WebsiteDetail",
    "WebsiteList",
    "WebsiteSettings",
    "WebsiteSummary",
    "Websites",
    "Zenovay",
    "ZenovayError",
    "__version__",
    "is_fatal",
]

_NAMES = {
    "_batch.report": ("BatchReport",),
    "_cache.options": ("Cache",),
    "_cache.stats": ("CacheStats",),
    "_limits.options": ("BatchHeadroom", "RateLimitOption", "RateLimitStoreOption"),
    "_protocol.auth": ("AuthStyle",),
    "_protocol.parameters": ("NOT_GIVEN", "NotGiven", "Timeout"),
    "_protocol.response": ("Response",),
    "_protocol.results": ("Result",),
    "_session.client_cache": ("ClientCache",),
    "batch": ("Batch", "BatchResult", "BatchTable", "Failure", "Success"),
    "client": ("Zenovay",),
    "events": (
        "AttemptEnded",
        "AttemptStarted",
        "CacheResult",
        "CacheStoreBack",
        "CacheStoreLost",
        "CallEnded",
        "CallEvent",
        "CallStarted",
        "EndOutcome",
        "EndpointDeprecated",
        "Event",
        "OnEvent",
        "QuotaExhausted",
        "QuotaThresholdReached",
        "RateLimited",
        "RateLimitUpdated",
        "RetryScheduled",
        "SchemaDrift",
        "ServerReachable",
        "ServerUnreachable",
        "SharedBudgetBack",
        "SharedBudgetLost",
        "Telemetry",
    ),
    "exceptions": (
        "APIConnectionError",
        "APIStatusError",
        "APITimeoutError",
        "AuthenticationError",
        "BadRequestError",
        "BatchStoppedError",
        "ClientClosedError",
        "ConfigurationError",
        "JournalError",
        "NotFoundError",
        "PermissionDeniedError",
        "QuotaExceededError",
        "RateLimitError",
        "ResponseDecodeError",
        "ServerError",
        "ZenovayError",
        "is_fatal",
    ),
    "history": ("Attempt", "Wait", "WaitReason"),
    "journal": ("Journal", "JournalEntry"),
    "rate_limits": (
        "Estimate",
        "Outcome",
        "OutcomeKind",
        "Permit",
        "Quota",
        "RateLimit",
        "RateLimiter",
        "RateLimitHeaders",
        "RedisClient",
        "Store",
        "StoreChange",
        "StoreWrite",
        "UsageHeaders",
    ),
    "resources.analytics": (
        "Analytics",
        "AnalyticsOverview",
        "AnalyticsSummary",
        "CountryList",
        "CountryStats",
        "DailyStats",
        "DateRange",
        "Visitor",
        "VisitorPage",
        "WebsiteSummary",
    ),
    "resources.anomalies": ("Anomalies", "Anomaly", "AnomalyPage"),
    "resources.base": ("Pagination", "QueryParameters", "Range", "Severity", "ShortRange"),
    "resources.errors": ("ErrorGroup", "ErrorGroupList", "Errors", "ErrorStatus"),
    "resources.heatmaps": ("HeatmapPage", "HeatmapPages", "Heatmaps"),
    "resources.insights": ("Insight", "InsightPage", "Insights", "InsightType"),
    "resources.paging": ("Paged",),
    "resources.query": ("Comparison", "QueryAnswer", "QueryResults"),
    "resources.replays": ("Replays", "ReplaySession", "ReplaySessionPage"),
    "resources.retention": ("Retention", "RetentionCohorts", "RetentionGranularity", "RetentionPeriod"),
    "resources.revenue": ("LifetimeValue", "LTVCohort", "LTVPeriod", "LTVSummary", "Revenue", "RevenueGranularity"),
    "resources.stats": ("Stats",),
    "resources.usage": ("APIKey", "MinuteLimit", "MonthlyUsage", "Subscription", "Usage"),
    "resources.websites": ("Website", "WebsiteDetail", "WebsiteList", "Websites", "WebsiteSettings"),
}
"""The public names of each module, which is imported when the first of them is used, such as by ``from zenovay_async
import Zenovay``: what needs a few of them, such as the help of the command line, does not wait for aiohttp."""

_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = {"events", "exceptions", "history", "rate_limits"}
"""The public modules that are attributes of the package without being imported."""

# Hidden from type checkers, which would take any name for a public one.
if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> typing.Any:
        """Import a public name, or a public module."""
        if name in _MODULES:
            return importlib.import_module(f"{__name__}.{name}")
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        return value


def __dir__() -> list[str]:
    """The names, those that are not imported yet included."""
    return sorted({*globals(), *__all__, *_MODULES})
