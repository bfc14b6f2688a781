"""What a protection did, as numbers with their uncertainty."""
