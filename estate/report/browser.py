"""python -m estate.report.browser: install the browser for tests of web pages, if there is none."""

from pathlib import Path

from estate.cluster.preflight import install_packages
from estate.core.console import run_command
from estate.report.dashboard import CHROMIUM


def main() -> None:
    if not Path(CHROMIUM).exists():
        install_packages(("chromium",))


if __name__ == "__main__":
    run_command(main)
