"""Floor 2: from a network to a posterior, and functions from posteriors to posteriors."""
