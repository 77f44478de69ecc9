"""Async Python client for the Zenovay External API (web analytics).

    async with Zenovay() as zenovay:
        report = await zenovay.heatmaps.pages(website_id)

All errors are :class:`ZenovayError`; see ``zenovay_async.core.errors`` for the tree.
"""

from zenovay_async._version import __version__
from zenovay_async.batch import Batch, BatchResult, Failure, Success
from zenovay_async.client import Zenovay
from zenovay_async.core.call import NOT_GIVEN
from zenovay_async.core.errors import (
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
from zenovay_async.core.response import Response
from zenovay_async.resources.heatmaps import HeatmapPage, HeatmapPages

__all__ = [
    "NOT_GIVEN",
    "APIConnectionError",
    "APIStatusError",
    "APITimeoutError",
    "AuthenticationError",
    "BadRequestError",
    "Batch",
    "BatchResult",
    "ClientClosedError",
    "ConfigurationError",
    "Failure",
    "HeatmapPage",
    "HeatmapPages",
    "NotFoundError",
    "PermissionDeniedError",
    "QuotaExceededError",
    "RateLimitError",
    "Response",
    "ResponseDecodeError",
    "ServerError",
    "Success",
    "Zenovay",
    "ZenovayError",
    "__version__",
]
