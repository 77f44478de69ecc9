"""Whose permit it is, between the members that share a budget. Pure.

**Start-time fair queueing**: each member has a tag, the cost of its permits so far in a common count, and the next
permit is of the waiting member with the lowest tag. A member that did not wait for a while starts at the common count,
so it has saved nothing up; one busy member among idle ones gets every permit. Direct calls of all members come before
the background calls of any, except for one permit in four.
"""

from __future__ import annotations

from typing import NamedTuple

from zenovay_async._limits.headroom import BACKGROUND_SHARE


class Claim(NamedTuple):
    """What one member waits for.

    Attributes:
        tag: Cost of its permits so far, in the common count.
        direct: Cost of its direct calls that wait.
        background: Cost of its background calls that wait.
        background_head: Cost of the first of these.
    """

    tag: int
    direct: int
    background: int
    background_head: int = 1


class Shares(NamedTuple):
    """How permits are divided.

    Attributes:
        direct: Permits for direct calls, by member; none for those not named.
        background: Permits for background calls, by member.
    """

    direct: dict[str, int]
    background: dict[str, int]

    def of(self, member: str) -> tuple[int, int]:
        """Permits of one member, for its direct and its background calls."""
        return self.direct.get(member, 0), self.background.get(member, 0)


def divide(claims: dict[str, Claim], free: int, free_background: int, streak: int, *, is_owed: bool = True) -> Shares:
    """Divide the permits that are free now.

    Args:
        claims: What each member waits for, by name.
        free: Permits in all.
        free_background: How many of them background calls may have.
        streak: Direct calls that overtook background calls in a row.
        is_owed: Whether background calls have had less than their share of the window.
    """
    direct_wanted = sum(claim.direct for claim in claims.values())
    background_wanted = min(free_background, sum(claim.background for claim in claims.values()))
    if is_owed:
        head = max((claim.background_head for claim in claims.values()), default=0)
        direct, background = _split(free, direct_wanted, background_wanted, streak, head)
    else:
        direct = min(free, direct_wanted)
        background = min(free - direct, background_wanted)
    tags = {name: claim.tag for name, claim in claims.items()}
    for_direct = _fill(direct, {name: claim.direct for name, claim in claims.items() if claim.direct}, tags)
    for name, cost in for_direct.items():
        tags[name] += cost
    for_background = _fill(
        background, {name: claim.background for name, claim in claims.items() if claim.background}, tags
    )
    return Shares(for_direct, for_background)


def ahead_of(claims: dict[str, Claim], me: str, before: int, *, background: bool) -> int:
    """Cost of the permits of other members that come before one of a member.

    Args:
        claims: What each member waits for, by name.
        me: The member.
        before: Cost of its own permits of the same kind that come before it.
        background: Whether the permit is for a background call.
    """
    mine, ahead = claims[me].tag + before, 0
    for name, claim in claims.items():
        if name != me:
            wanted = claim.background if background else claim.direct
            ahead += min(wanted, max(0, mine - claim.tag + (name < me)))
    if background:
        return ahead + sum(claim.direct for name, claim in claims.items() if name != me)
    return ahead


def next_streak(streak: int, direct: int, background: int) -> int:
    """The streak after permits were acquired, while background calls wait."""
    return max(0, min(BACKGROUND_SHARE - 1, streak + direct - (BACKGROUND_SHARE - 1) * background))


def _split(free: int, direct: int, background: int, streak: int, head: int) -> tuple[int, int]:
    """How many of the free permits are for direct calls, and how many for background calls."""
    free = min(free, direct + background)
    if not direct or not background:
        return min(free, direct), min(free, background)
    share = (free + min(streak, BACKGROUND_SHARE - 1)) // BACKGROUND_SHARE
    if streak >= BACKGROUND_SHARE - 1:
        # A call that costs several requests needs them at once: until there are as many, the others wait.
        share = max(share, min(free, head))
    share = min(background, max(share, free - direct))
    return free - share, share


def _fill(free: int, wanted: dict[str, int], tags: dict[str, int]) -> dict[str, int]:
    """Give permits one by one to the member with the lowest tag: up to a level, and what is left in order of names."""
    if free <= 0 or not wanted:
        return {}
    if len(wanted) == 1:
        return {name: min(free, cost) for name, cost in wanted.items()}
    low, high = min(tags[name] for name in wanted), max(tags[name] + cost for name, cost in wanted.items())
    while low < high:
        level = (low + high + 1) // 2
        if sum(min(max(level - tags[name], 0), cost) for name, cost in wanted.items()) <= free:
            low = level
        else:
            high = level - 1
    given = {name: min(max(low - tags[name], 0), cost) for name, cost in wanted.items()}
    left = free - sum(given.values())
    for name in sorted(wanted):
        if left and tags[name] <= low and given[name] < wanted[name]:
            given[name] += 1
            left -= 1
    return {name: cost for name, cost in given.items() if cost}
