"""Logs as JSON lines with RFC 3339 times, those of libraries included."""

import logging
import sys
from datetime import UTC, datetime
from typing import Any

import orjson

STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}
OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE
_service = {"service": ""}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, and whatever `extra` holds."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        fields = vars(record)
        extra = {key: fields[key] for key in fields.keys() - STANDARD}
        if record.exc_info:
            extra["exception"] = self.formatException(record.exc_info)
        written = line(record.created, record.levelname.lower(), record.name, record.getMessage(), extra)
        return written.decode().rstrip("\n")


def line(at_s: float, level: str, logger: str, message: str, fields: dict[str, Any]) -> bytes:
    """One line.

    Args:
        at_s: Unix time.
        level: in lower case.
        logger: name of it.
        message: what happened.
        fields: what belongs to it.
    """
    time = datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds")
    head = {"time": f"{time[:-6]}Z", "level": level, "logger": logger, "message": message}
    return orjson.dumps(head | _service | fields, default=str, option=OPTIONS)


def event(at_s: float, message: str, fields: dict[str, Any]) -> None:
    """Write a line about a request: as a logger would, at a fifth of the time, which every request takes twice."""
    sys.stdout.write(line(at_s, "info", "request", message, fields).decode())
    sys.stdout.flush()


def configure(service: str) -> None:
    """Send every log of the process to standard output as JSON, with the service's name."""
    _service["service"] = service
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name in ("uvicorn", "uvicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
