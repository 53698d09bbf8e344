"""Without a network: exploration, tempering, start laws, and the plan that islands follow."""
