"""Floor 3: losses, estimators, the trainer, checkpoints."""
