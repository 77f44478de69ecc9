"""Traces and metrics of a client, made of its events.

from zenovay_async.telemetry import OpenTelemetry

zenovay = Zenovay(telemetry=OpenTelemetry())
"""

from zenovay_async.telemetry.otel import OpenTelemetry

__all__ = ["OpenTelemetry"]
