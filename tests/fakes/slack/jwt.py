"""Id tokens signed as Slack signs them (RS256), with a key made for this process. Nothing in it is hardened."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
import secrets
import time

from tests.fakes.slack.channels import Json

_BITS, _EXPONENT, _KEY_ID = 2048, 65_537, "fake-slack"
_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")  # names the hash, RFC 8017 section 9.2
_SMALL_PRIMES = math.prod(number for number in range(3, 2000, 2) if all(number % i for i in range(3, number, 2)))


def id_token(claims: Json) -> str:
    """A JWT of these claims, by https://slack.com, good for five minutes."""
    now = int(time.time())
    stamped = {"iss": "https://slack.com", "iat": now, "auth_time": now, "exp": now + 300, **claims}
    parts = ({"alg": "RS256", "typ": "JWT", "kid": _KEY_ID}, stamped)
    text = ".".join(_encode(json.dumps(part).encode()) for part in parts)
    modulus, private = _key()
    digest = _SHA256 + hashlib.sha256(text.encode()).digest()
    size = _BITS // 8
    padded = b"\x00\x01" + b"\xff" * (size - 3 - len(digest)) + b"\x00" + digest
    signature = pow(int.from_bytes(padded), private, modulus).to_bytes(size)
    return f"{text}.{_encode(signature)}"


def public_keys() -> Json:
    """The key set that verifies `id_token`."""
    modulus, exponent = _encode(_key()[0].to_bytes(_BITS // 8)), _encode(_EXPONENT.to_bytes(3))
    return {"keys": [{"kty": "RSA", "alg": "RS256", "use": "sig", "kid": _KEY_ID, "n": modulus, "e": exponent}]}


@functools.cache
def _key() -> tuple[int, int]:
    while True:
        p, q = _prime(_BITS // 2), _prime(_BITS // 2)
        order = math.lcm(p - 1, q - 1)
        if p != q and math.gcd(_EXPONENT, order) == 1:
            return p * q, pow(_EXPONENT, -1, order)


def _prime(bits: int) -> int:
    while True:
        number = secrets.randbits(bits) | 3 << (bits - 2) | 1
        # Fermat's test to a few bases is good enough for a random number that nobody chose.
        if math.gcd(number, _SMALL_PRIMES) == 1 and all(pow(base, number - 1, number) == 1 for base in (2, 3, 5)):
            return number


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
