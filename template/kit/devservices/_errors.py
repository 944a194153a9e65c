"""What this package raises."""


class DevServicesError(Exception):
    """A development server cannot be had; the message says what, where and what to do."""


class PortTakenError(DevServicesError):
    """Another program listens on the port that a server was to have."""
