"""The policy pack: every rule, mandatory unless a file of levels says otherwise."""

import io
import sys
from pathlib import Path

from pulumi_policy import EnforcementLevel, PolicyPack

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # Pulumi runs this folder, wherever it has been put
from policies.pack import policies

# Pulumi waits for the port, which PolicyPack writes and never flushes: in a pipe's buffer it would stay for ever.
sys.stdout = io.TextIOWrapper(io.FileIO(sys.stdout.fileno(), "wb", closefd=False), write_through=True)  # pyright: ignore[reportArgumentType]
PolicyPack("estate", policies=policies(), enforcement_level=EnforcementLevel.MANDATORY)
