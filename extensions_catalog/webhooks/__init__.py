"""Outgoing webhooks in the Standard Webhooks format: what happens here, told to other systems."""
