"""All rules. A rule checks a resource, or a whole stack, and says what is wrong and what to do.

A rule is a plain function: its name is the rule's, its docstring gives the reason, and its parameters with defaults are its options.
"""

from policies.exposure import ingress_over_tls, internal_services, private_backends
from policies.ownership import no_default_namespace, owner_labels, protected_state
from policies.pods import (
    allowed_registries,
    bounded_resources,
    images_by_digest,
    no_token_by_default,
    probed_containers,
    restricted_pods,
    secrets_in_files,
)
from policies.whole import cost_guard, disruption_budgets

RESOURCE_RULES = (
    restricted_pods,
    no_token_by_default,
    secrets_in_files,
    bounded_resources,
    probed_containers,
    images_by_digest,
    allowed_registries,
    internal_services,
    ingress_over_tls,
    private_backends,
    no_default_namespace,
    owner_labels,
    protected_state,
)
STACK_RULES = (disruption_budgets, cost_guard)
