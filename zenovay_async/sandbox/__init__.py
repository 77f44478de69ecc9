"""The Zenovay External API as its documentation says, on the loopback, with faults on demand.

    async with Sandbox(websites=200) as sandbox:
        async with Zenovay(sandbox.api_key, base_url=sandbox.url) as zenovay:
            ...

From a shell: ``python -m zenovay_async.sandbox --port 8787``. It is the other side of the wire, and shares no code with
the client.
"""

from zenovay_async.sandbox.faults import Fault
from zenovay_async.sandbox.server import Sandbox, Seen

__all__ = ["Fault", "Sandbox", "Seen"]
