"""Fuzz the running estate's API by its own documents, through the Ingress: `python -m tests.fuzz 300`."""

import os
import re
import subprocess
import sys
from pathlib import Path

from estate.cluster import layout
from estate.core.console import EstateError, run_command
from estate.core.paths import PROJECT
from estate.ops.tokens import new_token
from estate.stack.model import Stack, load, outputs
from estate.stack.target import target
from tests.support.running import STACK

DOCUMENTS = PROJECT / "apps" / "user-service" / "openapi"


def fuzz(version: str, url: str, token: str, examples: int) -> int:
    """Return the exit code of schemathesis: 0 where every check passed.

    Args:
        version: the version of the API.
        url: the URL of the gateway.
        token: the token for the API.
        examples: the maximum for each operation and phase; each example makes about six cases.
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
    """Fuzz both versions.

    Raises:
        EstateError: the number of examples is not valid.
    """
    examples = sys.argv[1]
    if not re.fullmatch("[1-9][0-9]{0,5}", examples):
        raise EstateError(f"EXAMPLES={examples} is no number of examples, such as EXAMPLES=300")
    stack = Stack(STACK, load(STACK), target())
    url = outputs(stack)["urls"]["gateway"]
    codes = [fuzz(version, url, new_token(stack), int(examples)) for version in ("v1", "v2")]
    sys.exit(max(codes))


if __name__ == "__main__":
    run_command(main)
