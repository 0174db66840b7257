"""Encryption of what is kept secret in the database, with keys from the environment that can be rotated.

Fernet: AES-128-CBC with HMAC-SHA256 (https://github.com/fernet/spec).
"""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from doppel.errors import ConfigError

NEW_KEY = "`doppel workspaces key` makes one"


class Keys:
    """Keys of which the first encrypts and any decrypts, so that a new one can be put before an old one."""

    def __init__(self, setting: str) -> None:
        """From keys separated by commas; raises ConfigError where one is none."""
        words = [word.strip() for word in setting.split(",") if word.strip()]
        if not words:
            raise ConfigError(f"DOPPEL_TOKEN_KEYS is empty; {NEW_KEY}.")
        try:
            self._keys = MultiFernet([Fernet(word) for word in words])
        except ValueError:
            raise ConfigError(f"DOPPEL_TOKEN_KEYS holds something that is no key; {NEW_KEY}.") from None

    def seal(self, text: str) -> str:
        """Encrypt; "" stays empty."""
        return self._keys.encrypt(text.encode()).decode() if text else ""

    def open(self, sealed: str, seconds: int | None = None) -> str:
        """Decrypt what was sealed, at most `seconds` ago if given. Raises ConfigError for what no key opens."""
        try:
            return self._keys.decrypt(sealed.encode(), ttl=seconds).decode() if sealed else ""
        except InvalidToken:
            raise ConfigError(
                "What is encrypted in the archive can't be read with DOPPEL_TOKEN_KEYS; put the key back that it was "
                "written with, after the new one, or install the app again."
            ) from None

    def seal_again(self, sealed: str) -> str:
        """The same under the first key."""
        return self.seal(self.open(sealed))


def new_key() -> str:
    """A key that nobody knows yet."""
    return Fernet.generate_key().decode()
