"""Where the toolchain keeps what it builds (a cache) and what it runs (state), by the XDG rules."""

from pathlib import Path

import platformdirs

PROJECT = Path(__file__).resolve().parent.parent

CACHE = platformdirs.user_cache_path("estate")
"""Tools and downloads: may be deleted at any time, `make tools` brings them back."""

STATE = platformdirs.user_state_path("estate")
"""The embedded cluster, and the Pulumi state of the stacks that use the local backend."""
