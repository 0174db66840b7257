"""The models that Doppel runs, and what they run on."""
