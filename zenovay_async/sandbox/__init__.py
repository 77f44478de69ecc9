"""The Zenovay External API as documented, on the loopback, with faults on demand.

    async with Sandbox(websites=200) as sandbox:
        async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
            ...

In a test without an event loop, ``with Sandbox() as sandbox:`` serves on a thread. From a shell: ``python -m
zenovay_async.sandbox --port 8787``. What the sandbox generates shares no code with the client, so that an error of one
is not hidden by the other; only data that are given to ``Sandbox.respond`` are checked against the client's types.
"""

from zenovay_async.sandbox.faults import Fault, FaultHandler
from zenovay_async.sandbox.keys import Plan
from zenovay_async.sandbox.limits import LimiterKind, LimitHeaders
from zenovay_async.sandbox.own_responses import OperationRequest, OwnData, OwnDataFunction
from zenovay_async.sandbox.recording import RecordedRequest
from zenovay_async.sandbox.server import Sandbox

__all__ = [
    "Fault",
    "FaultHandler",
    "LimitHeaders",
    "LimiterKind",
    "OperationRequest",
    "OwnData",
    "OwnDataFunction",
    "Plan",
    "RecordedRequest",
    "Sandbox",
]
