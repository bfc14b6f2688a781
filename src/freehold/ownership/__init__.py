"""Whose model is it: secret marks, suspects that are asked about them, and verdicts."""
