"""What a shared budget exchanges besides permits, with each update of its store: outage, monthly quota, retries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from zenovay_async._limits.shared_state import SharedState


class Exchange(Protocol):
    """Brings the news of this process into the shared state, and those of others out of it."""

    def write(self, state: SharedState, me: str, now: float) -> bool:
        """Bring own news into the state; called in each update, perhaps again with a newer state.

        Args:
            state: The state, to be changed in place.
            me: Name of this member.
            now: Time of the store's clock.

        Returns:
            Whether all others have to look at once.
        """
        ...

    def read(self, state: SharedState, me: str, now: float) -> None:
        """Adopt what others wrote, once the update that called :meth:`write` is done: own news are delivered."""
        ...
