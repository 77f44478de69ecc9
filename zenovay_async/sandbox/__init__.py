"""The Zenovay External API as documented, on the loopback, with faults on demand.

    async with Sandbox(websites=200) as sandbox:
        async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
            ...

From a shell: ``python -m zenovay_async.sandbox --port 8787``. The sandbox shares no code with the client, so that an
error of one is not hidden by the other.
"""

from zenovay_async.sandbox.faults import Fault, FaultHandler
from zenovay_async.sandbox.keys import Plan
from zenovay_async.sandbox.limits import LimiterKind, LimitHeaders
from zenovay_async.sandbox.recording import RecordedRequest
from zenovay_async.sandbox.server import Sandbox

__all__ = ["Fault", "FaultHandler", "LimitHeaders", "LimiterKind", "Plan", "RecordedRequest", "Sandbox"]
