"""The program that Pulumi runs: infra/ declares the estate.

It is here, and not named by `main` in Pulumi.yaml, since Pulumi's dynamic providers look for .venv where the program is.
"""

import infra.__main__  # noqa: F401
