"""From an unnormalised density: path weights, losses on them, exploration, estimators of log Z, and
the pipeline."""
