"""python -m user_service."""

from user_service.main import main

main()
