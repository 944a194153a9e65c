"""Transactional mail: what happened elsewhere in the service is told by mail, from an outbox."""
