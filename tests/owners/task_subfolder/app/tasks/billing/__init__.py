"""Tasks of the billing."""
