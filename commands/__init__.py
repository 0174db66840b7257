"""The commands, wired from the parts: with `app.py` the only code that sees all of them."""
