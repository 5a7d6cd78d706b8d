"""Whether the disk has enough free space for a result."""

from __future__ import annotations

import logging
import os

import numpy as np

from ..errors import DiskSpaceError, OutputError, translate
from ..formats.base import Content
from ..formats.output import Output
from ..humanize import format_bytes
from ..text.reader import TextSize
from ..types import Tally
from .options import EmbedOptions

__all__ = ["DiskSpace"]

_log = logging.getLogger(__name__)


class DiskSpace:
    """Refuses a result that is too large, or, if its size is unknown, watches the free space.

    Args:
        output: Where the result is written.
        options: Whether to check at all, and whether a partial output is resumed.
    """

    def __init__(self, output: Output, options: EmbedOptions) -> None:
        self._output = output
        self._is_enabled = options.disk_check and not output.target.is_stream
        self._can_resume = not options.restart
        self._is_watching = False

    def check(self, content: Content, size: TextSize | None) -> None:
        """Compare the size of the result with the free space.

        Args:
            content: What the result contains.
            size: Size of the text, or None if it is unknown; then :meth:`watch` warns later.

        Raises:
            DiskSpaceError: if the result does not fit.
        """
        if not self._is_enabled or size is None:
            self._is_watching = self._is_enabled
            return
        output = self._output
        needed = size.words * content.width * content.dtype.itemsize
        needed += size.lines * output.format.writer.bytes_per_sentence
        needed -= output.leftover
        if needed > (free := self._free()):
            # A partial output determines the data type.
            is_resuming = self._can_resume and output.saved_state is not None
            can_be_halved = content.dtype != np.float16 and not is_resuming
            raise DiskSpaceError(output.target.name, needed, free, can_be_halved)

    def watch(self, tally: Tally) -> None:
        """Warn, once, when less space is free than has been written."""
        if not self._is_watching or not tally.words:
            return
        free, written = self._free(), self._output.size
        if free < written:
            self._is_watching = False
            _log.warning(
                "%s are free on the disk, which is enough for about %s more words",
                format_bytes(free),
                f"{free * tally.words // written:,}",
            )

    def _free(self) -> int:
        target = self._output.target
        with translate(OutputError, f"write {target.name}"):
            found = os.statvfs(target.path.parent)
        return found.f_bavail * found.f_frsize
