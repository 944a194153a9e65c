"""Extensions: each folder here is one, and works when `ENABLED_EXTENSIONS` names it."""
