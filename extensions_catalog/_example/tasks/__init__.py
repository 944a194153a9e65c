"""The extension's tasks; the module of a new one is imported here."""

from app.extensions._example.tasks.word_count import count_missing_words, count_words

__all__ = ["count_missing_words", "count_words"]
