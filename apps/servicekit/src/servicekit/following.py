"""Files that change while a service runs, such as mounted Secrets and ConfigMaps."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from servicekit.settings import SettingsError, named

log = logging.getLogger(__name__)
LOOK_EVERY_S = 2.0
"""Seconds between two checks of a file."""

T = TypeVar("T")


class Followed(Generic[T]):
    """The content of a file, read again when the file changes; an invalid file is logged with the reason, and the old content stays.

    Args:
        key: setting that names the file, for errors.
        file: path of the file.
        parse: function that parses its text; raises ValueError if the text is invalid.

    Raises:
        SettingsError: the file cannot be read, or is invalid.
    """

    def __init__(self, key: str, file: Path, parse: Callable[[str], T]) -> None:
        self.key = key
        self.file = file
        self._parse = parse
        self._looked_at = time.monotonic()
        self._changed_at = 0
        self._content = self._read()

    def content(self) -> T:
        """Return the content of the file."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_EVERY_S:
            self._looked_at = now
            self._look()
        return self._content

    def _look(self) -> None:
        try:
            if self.file.stat().st_mtime_ns != self._changed_at:
                self._content = self._read()
                log.info("A file has changed and was read again", extra={"file": str(self.file)})
        except (OSError, SettingsError) as error:
            log.error("A file cannot be read; its old content stays", extra={"reason": str(error)})  # noqa: TRY400

    def _read(self) -> T:
        try:
            changed_at = self.file.stat().st_mtime_ns
            content = self._parse(self.file.read_text())
        except OSError as error:
            raise SettingsError(f"{named(self.key, self.file)} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise SettingsError(f"{named(self.key, self.file)} {error}") from error
        self._changed_at = changed_at
        return content
