"""Values of telling names: what stands behind `password=`, `"apiKey":`, `the token is`. Pure.

A name of a password takes any value that isn't a word of the sentence; a name of a key takes what looks like one.
Neither takes a placeholder, code that reads the value from elsewhere, an address or a path.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from doppel.engine.secret_forms import MASK, SCHEME, Span, is_placeholder

_PASSWORDS = (
    "password|passwd|passphrase|passcode|pass|pwd|pswd|pw|psw|passwort|kennwort|contraseña|contrasena|senha|parola|"
    "mot_?de_?passe|mdp|hasło|haslo|wachtwoord|lösenord|salasana|пароль|密码|密碼|口令|パスワード|비밀번호|secret|pgpassword"
)
_KEYS = (
    "(?:[a-z0-9]+_)*(?:api|access|secret|private|account|shared|shared_access|master|encryption|encrypt|signing|session|"
    "storage|service|license|licence|auth|client|consumer|application|app|deploy|webhook|write|server|integration|"
    "ingest|ingestion|admin|project|hmac|aes|instrumentation|subscription|jwt|ssh|rsa|pgp|gpg|root|security|user_api|"
    "functions?|host|cookie|data)_?keys?(?:_base|_data|_id_secret)?|client_key_data"
)
_TOKENS = (
    "token|auth|authtoken|apikey|accesskey|secretkey|credential|credentials|creds?|sig|signature|jwt|pat|bearer|dsn|"
    "connection_?string|conn_?str|sessionid|accountkey|sharedaccesskey|sharedaccesssignature|secretaccesskey|"
    "authkey|licensekey|instrumentationkey|access_?code|unlock_key|secret_key_base|key_base|appkey|private|webhook"
)
_TELLS = re.compile(rf"(?:.*_)?(?:(?P<password>{_PASSWORDS})|{_KEYS}|{_TOKENS})s?\d?")
_COUNTS = re.compile(r"(?:.*_)?(?:tokens|passes|keys|auths)")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")

_ID = r"[^\W\d_][\w.-]{0,60}|_\w[\w.-]{0,60}"
_FOR = r"(?:[ ](?:for|of|to|on|in|für|von|pour|de)(?:[ ](?:the|our|my|der|die|das))?(?:[ ][\w.@/-]{1,40}){1,2}?){0,2}"
_SEPARATOR = re.compile(
    r"(?P<sign>:=|=>|->|={1,3}|[:：＝])[*_]{0,2}[ \t]{0,8}(?P<below>\n[ \t]{0,8})?|"
    r"[ \t](?:(?:is|was|has[ ]been)[ ](?:now[ ])?)?(?:set|changed|reset|updated)[ ]to:?[ \t]{1,3}|"
    r"[ \t](?:is|was|are|ist|lautet|es|est|é)(?:[ ]now)?:?[ \t]{1,3}|"
    r"(?<=[\w*`])[ \t]{1,3}\|[ \t]{1,3}|(?<=[\"'])[ \t]{1,3}value[ \t]{0,2}=[ \t]{0,2}|(?<=\w)>(?=[^\s<>])|"
    r"(?P<blank>(?<=\w)(?:[ \t]{1,3}|\n)(?=[\"'`]?[\w+/-]{10}))"
)
_NAME = re.compile(
    rf"(?<![\w.-])(?P<name>(?:--?)?(?:(?:{_ID})[ ]){{0,2}}?(?:{_ID}|\$\w{{1,60}}))(?P<for>{_FOR})"
    rf"(?:\[[^\]\s]{{0,20}}\])?[\\\"'`*_)\]]{{0,4}}[ \t]{{0,8}}\Z"
)
_APART = 40
"""Characters between a name's sign and its value, at most."""
_JUDGED = 256
"""Characters of a value that tell whether it is a secret."""
_FLAG = re.compile(r"(?<!\S)--?(?P<name>[A-Za-z][\w-]{1,40})[ \t]{1,3}[\"']?(?P<secret>[^\s\"']+)")
_VALUE = re.compile(rf"[\\]?[\"'`*<]{{0,3}}(?i:{SCHEME})?(?P<secret>[^\s\"'`]{{1,{_JUDGED}}})")
_REST = re.compile(r"[^\s\"'`]*")
_STRONG = re.compile(r"(?=\S{0,60}[a-z])(?=\S{0,60}[A-Z])(?=\S{0,60}\d)|(?=\S{0,60}[a-z])(?=\S{0,60}\d)[\w+/-]{24}")
_ALONE = re.compile(r"(?=\S{0,60}[^\W\d_])(?=\S{0,60}\d)[^\s:=]{6,}")
"""What may stand on a line of its own below the name: there it may be the next setting, too."""
_BEFORE_VALUE = re.compile(rf"[\\]?(?i:{SCHEME})?")
_OPENS = re.compile(
    rf"(?:[:=>：＝*_|\\]|[ \t](?:is|was|are|ist|lautet|es|est|é|now)(?=[ \t])|[:=][ \t]{{0,8}}(?i:{SCHEME}))[ \t]*\Z"
)
_PAIR_END = re.compile(r"</|[&;][\w. -]{1,40}=|,[\w\"'{]{1,40}[:=]|[&;]\Z|;\Z")
_CODE = re.compile(r"[A-Za-z_]\w*(?:(?:\.|::|->)[A-Za-z_]\w*)+|[a-z]+(?:_[a-z]+)+|[A-Z]+(?:_[A-Z]+)+")
_ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|[a-z][a-z0-9+.-]*://.*", re.IGNORECASE)
_PATH = re.compile(r"(?:~|\.{1,2})?/(?:[\w.@+-]+/)+[\w.@+-]*|(?:~|\.{1,2})/\S*|/\w+|[A-Za-z]:\\.*|[\w/.-]+\.[a-z]{2,4}")
_FIGURES = re.compile(r"v?\d+(?:[.:/-]\d+)*(?:[a-z]{1,3}|%)?")


def named(text: str, start: int = 0) -> Iterator[Span]:
    """Values of telling names, such as in `password=…`, that reach beyond `start`."""
    reached = 0
    for sign in _SEPARATOR.finditer(text, max(0, start - _APART)):
        value = _VALUE.match(text, sign.end())
        if sign.start() < reached or value is None or value.end() <= start:
            continue
        name = telling(text, sign.start())
        if name is None:
            continue
        begin, end = value.span("secret")
        if sign["blank"] and not _STRONG.match(value["secret"]):
            continue
        if sign["below"] and not _ALONE.fullmatch(value["secret"]):
            continue
        if is_secret(name, text[begin : _end_of_value(text, begin, end)], quoted=False):
            rest = _REST.match(text, end) if end - begin == _JUDGED else None
            reached = _end_of_value(text, begin, rest.end() if rest else end)
            yield begin, reached
    for option in _FLAG.finditer(text):
        if option.end() > start and is_secret(option["name"], option["secret"], quoted=False):
            yield option.span("secret")


def telling(text: str, end: int) -> str | None:
    """The name that stands before `end`, where it tells of a secret."""
    match = _NAME.search(text, max(0, end - 100), end)
    if match is None:
        return None
    name = match["name"]
    return name if _tells(name) else None


def opens(text: str) -> str | None:
    """The telling name whose value begins right behind `text`."""
    if not _OPENS.search(text[-24:]):
        return None
    for sign in _SEPARATOR.finditer(text, max(0, len(text) - 24)):
        if _BEFORE_VALUE.fullmatch(text, sign.end()):
            return telling(text, sign.start())
    return None


def is_secret(name: str, value: str, quoted: bool) -> bool:
    """Whether `value` is a secret that `name` names, and no placeholder, no code and no word of a sentence."""
    kind, value = _tells(name), value[:_JUDGED].removesuffix(MASK).removesuffix(MASK.split()[0])
    if kind is None or len(value) < 4 or is_placeholder(value) or _ADDRESS.fullmatch(value):
        return False
    if _CODE.fullmatch(value.rstrip(".,;)")):
        return False
    if kind == "key":
        return _random(value)
    if any(sign.isdigit() for sign in value):
        return not _FIGURES.fullmatch(value) or (len(value) >= 4 and value.isdigit())
    return quoted or _made_up(name, value)


def _made_up(name: str, value: str) -> bool:
    """Whether what has no digit is a password rather than the next word of a sentence."""
    letters = value.rstrip(".,;:!?)")
    if not letters.isalpha():
        return (
            (len(letters) >= 6 and not letters.replace("-", "").replace("'", "").islower())
            or "_" in name
            or "-" in letters
        )
    mixed = letters != letters.lower() and letters != letters.capitalize()
    return len(letters) >= 6 and (mixed or name.isupper() or "_" in name)


def _tells(name: str) -> str | None:
    """What a name tells of: "password", "key" or nothing."""
    words = _HUMP.sub("_", name.lstrip("-$")).lower()
    words = re.sub(r"[\s.\-_]+", "_", words).strip("_")
    if _COUNTS.fullmatch(words):
        return None
    match = _TELLS.fullmatch(words)
    return None if match is None else "password" if match["password"] else "key"


def _random(value: str) -> bool:
    """Whether a value looks like a key: long, of letters and digits, and neither an address, a path nor a date."""
    if _PATH.fullmatch(value) or _FIGURES.fullmatch(value):
        return False
    digits, letters = any(c.isdigit() for c in value), any(c.isalpha() for c in value)
    if digits and letters:
        return len(value) >= 8 and not re.fullmatch(r"[a-z]+(?:[-_][a-z]+)*[-_.]?\d{1,5}", value, re.IGNORECASE)
    if digits:
        return len(value) >= 12
    return _credentials(value) or (len(value) >= 16 and len(re.findall("[a-z][A-Z]", value)) >= 4)


def _credentials(value: str) -> bool:
    """Whether a value is `user:password` in base64."""
    try:
        return b":" in base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False


def _end_of_value(text: str, begin: int, end: int) -> int:
    """Where a value without quotes ends: at the next pair's beginning, or before what closes a sentence."""
    pair = _PAIR_END.search(text, begin + 1, end)
    if pair:
        return pair.start()
    return begin + len(text[begin:end].rstrip(",;)]}>|*"))
