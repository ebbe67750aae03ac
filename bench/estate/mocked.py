"""python -m bench.estate.mocked [SERVICES]: run the program of stack `local`, or of SERVICES services, against mocks in this process."""

import sys

from estate.pulumi.program import against_mocks, run_program


def main() -> None:
    """Run the program, and wait for the resources that it registers."""
    if services := sys.argv[1:]:
        against_mocks("bench.estate.synthetic.__main__", "synthetic", "local", {"synthetic:services": services[0]})
    else:
        run_program("local")


if __name__ == "__main__":
    main()
