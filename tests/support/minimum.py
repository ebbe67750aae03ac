"""The minimal settings of a stack."""

from typing import Any

MINIMUM: dict[str, Any] = {
    "stage": "local",
    "registry": "r",
    "api_server": {"networks": ["192.0.2.1/32"]},
    "ingress": {"namespace": "ingress-nginx"},
}
