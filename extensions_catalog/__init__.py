"""Extensions: each folder here is one, and works when `ENABLED_EXTENSIONS` names it."""

# An extension's tables take their constraints' names from the convention that this sets.
import app.models  # noqa: F401
