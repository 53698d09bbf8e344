"""Floor 4: data, recipes, the command line, the demo."""
