"""What the estate's program takes: alone, as preview and as update, beside kubectl, as it grows, and while a service is replaced: `make bench-estate`."""
