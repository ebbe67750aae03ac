"""python -m api_gateway."""

from api_gateway.main import main

main()
