"""What can be shown to others: claims, evidence, whose copy leaked, and a registry of all of it."""
