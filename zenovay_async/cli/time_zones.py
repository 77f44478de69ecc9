"""The time zone of a table: UTC, that of the machine, or one by its name in the IANA database."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime, tzinfo
from difflib import get_close_matches

from zenovay_async import ConfigurationError

# ISO 8601 with a zone is at least as long; shorter text is no time of the API.
_LEAST_TIME = 20


def find_zone(name: str) -> tzinfo | None:
    """The zone of a name: ``UTC``, ``local``, or as in ``Europe/Zurich``; ``None`` is that of the machine.

    Raises:
        ConfigurationError: There is none of this name.
    """
    if name.casefold() == "utc":
        return UTC
    if name.casefold() == "local":
        return None
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigurationError(f"--tz {name!r}: {_doubt(name)}") from error


def _doubt(name: str) -> str:
    known = zoneinfo.available_timezones()
    if not known:
        return "this machine has no time zones; pip install tzdata, or use UTC or local"
    names = {zone.casefold(): zone for zone in sorted(known, reverse=True)}
    # A city without its region is the usual mistake.
    near = [zone for lower, zone in names.items() if lower.rpartition("/")[2] == name.casefold().replace(" ", "_")]
    near += [names[lower] for lower in get_close_matches(name.casefold(), names, 1, 0.75)]
    if near:
        return f"unknown time zone; did you mean {near[0]}?"
    return "unknown time zone; expected UTC, local or a name such as Europe/Zurich"


class Clock:
    """Shows times in one zone, and says which: in the title of a column for UTC, else at each time.

    Args:
        zone: The zone; ``None`` is that of the machine.

    Attributes:
        title: What the title of a column of times ends with.
    """

    def __init__(self, zone: tzinfo | None) -> None:
        self._zone = zone
        self.title = " (UTC)" if zone is UTC else ""

    def show(self, time: datetime) -> str:
        """A time to the minute, as in a column.

        Raises:
            OverflowError: It has no year in the zone.
        """
        # Each has its offset, as the clock has some hours twice when summer ends.
        local = time.astimezone(self._zone)
        return local.replace(tzinfo=None if self._zone is UTC else local.tzinfo).isoformat(" ", "minutes")

    def show_with_zone(self, time: datetime) -> str:
        """A time to the minute, as in a sentence; raises as :meth:`show`."""
        return f"{self.show(time)} UTC" if self._zone is UTC else self.show(time)


def read_time(value: object) -> datetime | None:
    """A time with its zone, of text that is one."""
    if not isinstance(value, str) or len(value) < _LEAST_TIME or value[10] != "T":
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    return None if time.tzinfo is None else time
