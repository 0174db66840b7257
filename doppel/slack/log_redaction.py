"""Loggers for libraries that quote what they are sent, and so what people said."""

from __future__ import annotations

import logging


def silent_logger(name: str) -> logging.Logger:
    """A logger that nothing comes out of.

    By its level: Bolt hands that on to loggers of its own, and uvicorn's configuration enables loggers again that were
    disabled.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.CRITICAL + 1)
    logger.propagate = False
    return logger
