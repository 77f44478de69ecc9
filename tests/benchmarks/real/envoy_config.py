"""Envoy's configuration: local rate limits, a listener for each run, as Envoy counts by listener and not by key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_TYPES = "type.googleapis.com/envoy.extensions"


def configuration(listeners: Iterable[dict[str, Any]], origin: int, log: Path) -> dict[str, Any]:
    """Build what ``envoy --config-path`` reads.

    Args:
        listeners: Each with ``port``, ``burst``, ``fill``, ``interval`` (seconds), ``headers``.
        origin: Port of the server behind.
        log: Where a line for each request goes.
    """
    return {
        "static_resources": {
            "listeners": [_listener(log, **listener) for listener in listeners],
            "clusters": [_cluster(origin)],
        }
    }


def _listener(log: Path, port: int, burst: int, fill: int, interval: float, *, headers: bool) -> dict[str, Any]:
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    limit = {
        "@type": f"{_TYPES}.filters.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "limit",
        "token_bucket": {"max_tokens": burst, "tokens_per_fill": fill, "fill_interval": f"{interval}s"},
        "filter_enabled": always,
        "filter_enforced": always,
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03" if headers else "OFF",
    }
    route = {"match": {"prefix": "/"}, "route": {"cluster": "origin"}}
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "http",
        "access_log": [
            {
                "name": "file",
                "typed_config": {
                    "@type": f"{_TYPES}.access_loggers.file.v3.FileAccessLog",
                    "path": str(log),
                    "log_format": {
                        "text_format_source": {
                            "inline_string": "%REQ(X-API-KEY)% %RESPONSE_CODE% %REQ(:METHOD)% %REQ(:PATH)%\n"
                        }
                    },
                },
            }
        ],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.local_ratelimit", "typed_config": limit},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"},
            },
        ],
    }
    return {
        "address": _address(port),
        "filter_chains": [{"filters": [{"name": "http_connection_manager", "typed_config": manager}]}],
    }


def _cluster(port: int) -> dict[str, Any]:
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": "origin",
        "connect_timeout": "2s",
        "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}
