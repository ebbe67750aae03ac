"""Run the command `estate` as `python -m estate`."""

from estate.cli.main import main

main()
