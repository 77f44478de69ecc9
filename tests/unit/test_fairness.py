"""Permits are divided as one by one: direct calls first, and of the members the one that had least."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zenovay_async._limits.sharing.fairness import Claim, ahead_of, divide, next_streak

CLAIMS = st.dictionaries(
    st.sampled_from("abcdef"),
    st.builds(Claim, st.integers(0, 12), st.integers(0, 8), st.integers(0, 8)),
    min_size=1,
)


def one_by_one(free: int, wanted: dict[str, int], tags: dict[str, int]) -> dict[str, int]:
    """Give each permit to the member with the lowest tag that still wants one."""
    given, tags = dict.fromkeys(wanted, 0), dict(tags)
    for _ in range(free):
        waiting = [name for name in wanted if given[name] < wanted[name]]
        if waiting:
            name = min(waiting, key=lambda name: (tags[name], name))
            given[name] += 1
            tags[name] += 1
    return given


@given(CLAIMS, st.integers(0, 40))
def test_shares_of_one_kind_are_those_of_one_by_one(claims: dict[str, Claim], free: int) -> None:
    """Where all wait for direct calls, each permit goes to the member that had least so far."""
    claims = {name: Claim(claim.tag, claim.direct, 0) for name, claim in claims.items()}
    shares = divide(claims, free, free, 0)
    wanted = {name: claim.direct for name, claim in claims.items()}
    expected = one_by_one(free, wanted, {name: claim.tag for name, claim in claims.items()})
    assert shares.direct == {name: cost for name, cost in expected.items() if cost}
    assert not shares.background


@given(CLAIMS, st.integers(0, 40), st.integers(0, 40), st.integers(0, 3))
def test_no_permit_is_given_twice_or_without_a_claim(
    claims: dict[str, Claim], free: int, free_background: int, streak: int
) -> None:
    """All that may be given is given, no more, and none to a member that does not want it."""
    shares = divide(claims, free, min(free, free_background), streak)
    direct, background = sum(shares.direct.values()), sum(shares.background.values())
    assert all(cost <= claims[name].direct for name, cost in shares.direct.items())
    assert all(cost <= claims[name].background for name, cost in shares.background.items())
    assert background <= min(free, free_background)
    wanted_direct = sum(claim.direct for claim in claims.values())
    wanted_background = min(free_background, sum(claim.background for claim in claims.values()))
    assert direct + background == min(free, wanted_direct + wanted_background)


def test_direct_calls_of_any_member_come_before_background_calls_of_all() -> None:
    """One permit in four goes to background calls while direct calls wait, whoever waits for what."""
    claims = {"page": Claim(9, 8, 0), "night": Claim(0, 0, 8)}
    assert divide(claims, 4, 4, 0).of("page") == (3, 0)
    assert divide(claims, 4, 4, 0).of("night") == (0, 1)
    assert divide(claims, 1, 1, 2).of("page") == (1, 0)
    assert divide(claims, 1, 1, 3).of("night") == (0, 1)


def test_what_background_calls_may_not_have_goes_to_direct_calls() -> None:
    """Background calls that have to leave room hold back no direct call."""
    claims = {"page": Claim(0, 8, 0), "night": Claim(0, 0, 8)}
    assert divide(claims, 4, 0, 3).of("page") == (4, 0)


def test_a_costly_background_call_waits_for_all_that_it_needs() -> None:
    """A background call that costs three requests gets them together, once it is its turn."""
    claims = {"page": Claim(0, 8, 0), "night": Claim(0, 0, 3, background_head=3)}
    assert divide(claims, 1, 1, 3).of("page") == (0, 0)
    assert divide(claims, 3, 3, 3).of("night") == (0, 3)


def test_the_streak_counts_direct_calls_that_overtook() -> None:
    """Three direct calls overtake, then a background call has its turn."""
    assert next_streak(0, 2, 0) == 2
    assert next_streak(2, 5, 0) == 3
    assert next_streak(3, 0, 1) == 0


@given(CLAIMS, st.sampled_from("abcdef"), st.integers(0, 8))
def test_calls_ahead_are_those_that_are_given_before(claims: dict[str, Claim], me: str, before: int) -> None:
    """What stands before a call is what is given until it has its permit."""
    claims = {name: Claim(claim.tag, claim.direct, 0) for name, claim in claims.items()} | {me: Claim(5, before + 1, 0)}
    ahead = ahead_of(claims, me, before, background=False)
    assert divide(claims, ahead + before, 0, 0).of(me)[0] == before
    assert divide(claims, ahead + before + 1, 0, 0).of(me)[0] == before + 1
