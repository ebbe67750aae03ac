"""`estate browser`: install the browser for tests of web pages, if there is none."""

from pathlib import Path

from estate.cluster.preflight import install_packages
from estate.report.dashboard import CHROMIUM


def install() -> None:
    """Install the browser, unless there is one."""
    if not Path(CHROMIUM).exists():
        install_packages(("chromium",))
