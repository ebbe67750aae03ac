"""Fuzz the running estate's API by its own documents, through the Ingress: `python -m tests.fuzz 300`."""

import os
import subprocess
import sys
from pathlib import Path

from tests.running import STACK
from toolchain.cluster import layout
from toolchain.estate import new_token
from toolchain.paths import PROJECT
from toolchain.stack import Stack, load, outputs
from toolchain.target import target

DOCUMENTS = PROJECT / "apps" / "user-service" / "openapi"


def fuzz(version: str, url: str, token: str, examples: int) -> int:
    """Exit code of schemathesis: 0 where every check held.

    Args:
        version: of the API.
        url: of the gateway.
        token: for the API.
        examples: at the most for each operation and phase; about six cases come of each.
    """
    schemathesis = Path(sys.executable).with_name("st")
    return subprocess.run(
        [
            schemathesis,
            f"--config-file={PROJECT / 'tests/fuzz/schemathesis.toml'}",
            "run",
            DOCUMENTS / f"{version}.json",
            f"--url={url}",
            f"--max-examples={examples}",
            f"--tls-verify={layout.CA_CERTIFICATE}",
            "--checks=all",
            "--generation-database=none",
            "--no-color",
        ],
        env=os.environ | {"TOKEN": token, "PYTHONPATH": str(PROJECT)},
        check=False,
    ).returncode


def main() -> None:
    """Fuzz both versions."""
    stack = Stack(STACK, load(STACK), target())
    url = outputs(stack)["urls"]["gateway"]
    codes = [fuzz(version, url, new_token(stack), int(sys.argv[1])) for version in ("v1", "v2")]
    sys.exit(max(codes))


if __name__ == "__main__":
    main()
