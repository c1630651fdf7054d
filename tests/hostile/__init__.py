"""Strangers' files: whatever they hold, they are read or refused in one line."""
