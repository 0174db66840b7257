"""The web chat and what stands before it."""
