"""python -m sample_service."""

from sample_service.main import main

main()
