"""What carries out the calls of a client: a Session, and in front of it what its options ask for."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from zenovay_async._cache.options import parts_of
from zenovay_async._cache.stats import Counters
from zenovay_async._limits.registry import entry_of
from zenovay_async._protocol.call import Caller
from zenovay_async._session.cache import CachingCaller
from zenovay_async._session.client_cache import ClientCache
from zenovay_async._session.coalescing import Coalescer
from zenovay_async._session.kept_responses import KeptResponses
from zenovay_async._session.observing import Observation, ObservingCaller
from zenovay_async._session.session import Session
from zenovay_async._session.shared_cache import SharedCachingCaller

if TYPE_CHECKING:
    from zenovay_async._cache.options import Reuse
    from zenovay_async._limits.budget import Budget
    from zenovay_async._limits.options import Limits
    from zenovay_async._protocol.auth import Auth
    from zenovay_async._session.drift import DriftReporter
    from zenovay_async._session.observing import Observe
    from zenovay_async._session.session import Options
    from zenovay_async._session.transport import Transport
    from zenovay_async.events import ListenerRef


class Callers(msgspec.Struct, frozen=True, eq=False):
    """What carries out the calls of a client.

    Attributes:
        caller: What its resources call.
        cache: What its users do with the cache.
        coalescer: Joins equal calls, and refreshes responses that are kept; ``None`` if neither is wanted.
        caching: Keeps responses; ``None`` for none.
    """

    caller: Caller
    cache: ClientCache
    coalescer: Coalescer | None = None
    caching: CachingCaller | None = None

    async def aclose(self) -> None:
        """Cancel the refreshes of this client, and close what it keeps responses in if nobody else uses it."""
        if self.coalescer is not None:
            await self.coalescer.aclose()
        if self.caching is not None:
            await self.caching.aclose()


def make_callers(
    transport: Transport,
    auth: Auth,
    base_url: str,
    budget: Budget,
    options: Options,
    limits: Limits,
    drift: DriftReporter,
    reuse: Reuse,
    listener: ListenerRef | None,
) -> Callers:
    """Make what carries out the calls of a client.

    Args:
        transport: Sends the requests.
        auth: The key and its header.
        base_url: Base URL of the API.
        budget: What the client may spend.
        options: How calls are carried out.
        limits: The options that concern limits.
        drift: Reports schema drift.
        reuse: The options that concern responses which serve several calls.
        listener: Gets the events of the client.
    """
    observe = None if options.on_event is None else partial(Observation, options.on_event, auth)
    session = Session(transport, auth, base_url, budget, options, drift)
    cache = reuse.cache
    parts = None if cache is None else parts_of(cache)
    counters = Counters() if parts is None else parts.counters
    if parts is None and not reuse.coalesce:
        return Callers(_observed(session, observe), ClientCache(budget, counters))
    # What decides how a request is sent. Those who join have the other options, such as their timeouts, for themselves.
    kind = (
        *(options.attempt_timeout, options.max_attempts, options.strict),
        *(limits.quota_reserve, limits.batch_headroom),
    )
    coalescer = Coalescer(session, budget, kind, counters, observe, enabled=reuse.coalesce)
    if cache is None or parts is None:
        return Callers(_observed(coalescer, observe), ClientCache(budget, counters), coalescer)
    make = CachingCaller if parts.tiers is None else partial(SharedCachingCaller, tiers=parts.tiers, listener=listener)
    caching = make(
        parts,
        KeptResponses(cache, auth, strict=options.strict),
        entry_of(auth, base_url, limits).account,
        max_age=reuse.max_age,
        session=session,
        coalescer=coalescer,
        transport=transport,
        budget=budget,
    )
    cache_of_client = ClientCache(budget, counters, parts.memory, caching)
    return Callers(_observed(caching, observe), cache_of_client, coalescer, caching)


def _observed(caller: Caller, observe: Observe | None) -> Caller:
    return caller if observe is None else ObservingCaller(caller, observe)
