"""Parts of the service that can be switched off, each in a folder of its own."""

import kit.conventions  # noqa: F401 (names constraints before an extension declares its tables)
