"""python -m toolchain.browser: install the browser that the page of the API is tested in, where it is missing."""

import sys

from toolchain.cluster.preflight import install_packages
from toolchain.console import ToolchainError

if __name__ == "__main__":
    try:
        install_packages(("chromium",))
    except ToolchainError as error:
        sys.exit(f"error: {error}")
