"""What protecting and verifying cost, against floors that are measured in the same run: see ``__main__``."""
