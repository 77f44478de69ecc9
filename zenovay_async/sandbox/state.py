"""What tests change of a sandbox: API keys, faults, own responses, and what was recorded.

The test's thread changes it while the server's thread serves: a lock guards it.
"""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from zenovay_async.sandbox.faults import FaultRule
from zenovay_async.sandbox.own_responses import OwnResponses
from zenovay_async.sandbox.recording import Recorder

if TYPE_CHECKING:
    import random

    from zenovay_async.sandbox.faults import Fault
    from zenovay_async.sandbox.keys import ApiKey
    from zenovay_async.sandbox.own_responses import OwnResponse


class _Saved(NamedTuple):
    keys: dict[str, ApiKey]
    faults: list[FaultRule]
    own_responses: OwnResponses
    randomness: Any

    def copy(self) -> _Saved:
        # Copies of the rules share the random numbers.
        faults = [copy.copy(rule) for rule in self.faults]
        return _Saved(copy.deepcopy(self.keys), faults, self.own_responses.copy(), self.randomness)


class State:
    """The state of a sandbox, which can be saved and restored.

    Args:
        rng: The random numbers of the sandbox.

    Attributes:
        keys: The API keys that are accepted.
        recorder: Records requests; another one after :meth:`restore`.
    """

    def __init__(self, rng: random.Random) -> None:
        self.keys: dict[str, ApiKey] = {}
        self.recorder = Recorder()
        self._faults: list[FaultRule] = []
        self._own_responses = OwnResponses()
        self._rng = rng
        self._lock = threading.Lock()
        self._saved: _Saved
        self.save()

    def add_key(self, key: str, account: ApiKey) -> None:
        """Accept an API key."""
        with self._lock:
            self.keys[key] = account

    def add_fault(self, fault: Fault, times: int | None, path: str, share: float) -> None:
        """Add a fault, behind the others."""
        with self._lock:
            self._faults.append(FaultRule(fault, times, path, share, self._rng))

    def clear_faults(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def unused_faults(self) -> list[str]:
        """Return the faults for a number of requests that no request met."""
        with self._lock:
            return [str(rule) for rule in self._faults if rule.is_unused]

    def take_fault(self, path: str) -> Fault | None:
        """Return the fault that a request meets, and count it."""
        with self._lock:
            return next((rule.fault for rule in self._faults if rule.matches(path)), None)

    def add_own_response(self, response: OwnResponse) -> None:
        """Add an own response, in front of the others."""
        with self._lock:
            self._own_responses.add(response)

    def take_own_response(self, operation: str, website_id: str | None) -> OwnResponse | None:
        """Return the own response that a request gets, and count it."""
        with self._lock:
            return self._own_responses.take(operation, website_id)

    def save(self) -> None:
        """Save the present state, but for what was recorded."""
        with self._lock:
            self._saved = _Saved(self.keys, self._faults, self._own_responses, self._rng.getstate()).copy()

    def restore(self) -> None:
        """Go back to the saved state, with nothing recorded."""
        with self._lock:
            # A copy, as requests that are served from now on change it.
            self.keys, self._faults, self._own_responses, randomness = self._saved.copy()
            self._rng.setstate(randomness)
            self.recorder = Recorder()
