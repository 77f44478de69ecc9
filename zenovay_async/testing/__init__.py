"""For tests of your own code: no waits, no live requests, mocked responses.

The sandbox is in ``zenovay_async.sandbox``. For pytest there are fixtures: ``zenovay_sandbox``, ``zenovay``,
``zenovay_no_waits``, ``zenovay_aioresponses``; see the guide "Testing your code".
"""

from zenovay_async.testing.canned import aioresponses
from zenovay_async.testing.limits import forget_limits
from zenovay_async.testing.live import block_live
from zenovay_async.testing.waits import NoWaits, no_waits

__all__ = ["NoWaits", "aioresponses", "block_live", "forget_limits", "no_waits"]
