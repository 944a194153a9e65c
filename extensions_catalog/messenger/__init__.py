"""An incoming channel for the Messenger platform: messages come by webhook, replies go by task."""
