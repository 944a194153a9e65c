"""The least that could do the same: what the service is compared with, run by its own Python."""
