"""Generated files: a new service, and pages that follow from the code."""
