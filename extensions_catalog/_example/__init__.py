"""The skeleton of an extension: notes, whose words are counted in the background."""
