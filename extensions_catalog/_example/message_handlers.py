"""The extension's handlers of messages."""

from app.extensions._example.tasks import count_words
from kit.messages import Message, handles


@handles("example.note-created", after_commit=True)
def count_words_of_new_note(message: Message) -> None:
    """Send the task, after the commit of the note that it reads."""
    count_words.delay(message.payload["note_id"])
