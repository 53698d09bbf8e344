"""The learned part: models of a density, what they are worth, and the probe for what they miss."""
