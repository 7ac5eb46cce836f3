"""Validation of everything that comes in, and the two spellings in which records go out."""
