"""Floor 1: closed forms, the project's conscience: targets that know their normaliser, and metrics
with errors."""
