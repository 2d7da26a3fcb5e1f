"""What is too small for a job: retired files, the end of the log, rows of dead processes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from kalamdb_lab.catalog.keeper import SystemKeeper
from kalamdb_lab.catalog.system_tables import FIRST_FREE_TABLE_KEY
from kalamdb_lab.errors import KalamError
from kalamdb_lab.jobs.cleanup import CleanUp
from kalamdb_lab.jobs.upkeep import TableUpkeep
from kalamdb_lab.partitions.hot_tally import HotTally

_EVERY_US: Final = 60_000_000
_TRIM_EVERY_US: Final = 600_000_000
_MANY_SYSTEM_ROWS: Final = 1_000


class Housekeeping:
    """Work that nobody asks for and nobody misses; every process may do it.

    Parameters
    ----------
    forget_live : callable
        Takes the rows of live queries away whose process is gone.
    now_us : int
        When the database was opened: the first round is a minute later.
    """

    def __init__(
        self,
        upkeep: TableUpkeep,
        cleanup: CleanUp,
        system: SystemKeeper,
        forget_live: Callable[[], object],
        *,
        now_us: int,
    ) -> None:
        self._upkeep = upkeep
        self._cleanup = cleanup
        self._system = system
        self._forget_live = forget_live
        self._next_us = now_us + _EVERY_US
        self._trim_us = now_us + _TRIM_EVERY_US

    def keep(self, tally: HotTally, now_us: int) -> int:
        """Do the round if it is time; return when the next one is.

        What hinders a part of it, a busy database say, leaves that to the next round.
        """
        # The machine's clock may have gone back by years.
        if self._next_us - _EVERY_US <= now_us < self._next_us:
            return self._next_us
        self._next_us = now_us + _EVERY_US
        with suppress(KalamError):
            self._cleanup.delete_retired()
        with suppress(KalamError):
            self._forget_live()
        if any(
            table_key < FIRST_FREE_TABLE_KEY and hot.most_rows > _MANY_SYSTEM_ROWS
            for table_key, hot in tally.tables.items()
        ):
            self._system.keep()
        if not self._trim_us - _TRIM_EVERY_US <= now_us < self._trim_us:
            self._trim_us = now_us + _TRIM_EVERY_US
            with suppress(KalamError):
                self._upkeep.trim()
        return self._next_us
