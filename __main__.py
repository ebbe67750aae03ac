"""The program that Pulumi runs: infra/ declares the estate.

It is here, and not named by `main` in Pulumi.yaml, since Pulumi's dynamic providers look for .venv where the program is.
"""

import importlib

import pulumi

from infra.errors import ProjectError

try:
    importlib.import_module("infra.__main__")
except ProjectError as error:  # Pulumi shows a RunError without a traceback
    raise pulumi.RunError(str(error)) from error
