"""Forms of secrets that Doppel knows by itself: beginnings of keys, addresses, headers, options of commands. Pure.

Beginnings are as the services document them, lengths looser than they are: half a key is a secret, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Span = tuple[int, int]

MASK = "[masked secret]"
"""What is shown for a secret."""

SCHEME = r"(?:(?:Bearer|Basic|Token|Digest|ApiKey|Negotiate|SSWS|Splunk|GenieKey|Key|Bot)[ \t]{1,8})"
"""What stands before a key in an HTTP header."""

# Beginnings after which letters and digits follow.
_PLAIN = (
    r"gh[oprsu]_|hf_|api_org_|r8_|gsk_|lin_(?:api|oauth)_|ntn_|secret_|npm_|rubygems_|cio(?=[A-Za-z0-9]{30})|ATTA|ATBB|"
    r"NR[A-Z]{2}-|PMA[KT]-|do[opr]_v1_|(?:dapi|dkea|dose)(?=[0-9a-f]{30})|ddapp_|ddpat_|dd[op]_|sbp_|napi_|"
    r"[erps]k_(?:live|test|prod)_|pk_\d{5,12}_|tvly-(?:[a-z]{2,5}-)?|rpa_|fc-(?=[0-9a-f]{30})|hc[a-z]ik_|cu_(?=[0-9a-f]{30})|"
    r"cal_(?:(?:live|test)_)?(?=[0-9a-f]{30})|retool_|chpt_|a[ks]-(?=[A-Za-z0-9]{22}(?![\w-]))|API-(?=[A-Z0-9]{25})|"
    r"whsec_|shp[a-z]{2}_|SK(?=[0-9a-f]{32})|key-(?=[0-9a-f]{30})|"
    r"(?:AKIA|ASIA|ABIA|ACCA|A3T[A-Z0-9])(?=[A-Z0-9]{12})|LTAI|AKID|pul-|pnu_|shippo_(?:live|test)_|EZ[AT]K|"
    r"FLWSECK(?:_TEST)?-|GR1348941|sgp_(?:[a-f0-9]{16}_|local_)?|tskey-(?:[a-z]+-)?|AKCp|cmVmd|sq[apu]_|"
    r"oy2(?=[a-z0-9]{40})|SCW(?=[A-Z0-9]{17})|bk(?:ua|aa|aj|ar|ct|pt|pat|ps)_|CCI(?:PAT|PRJ)_|vc[a-z]_|nf[a-z]_|glc_|"
    r"rnd_|pplx-|fw_(?=[A-Za-z0-9]{20})|apify_api_|waka_|duffel_(?:live|test)_|rdme_|sntry[su]_|xnd_[a-z]+_|zpka_|"
    r"ucat_|AIK_(?:CI|SECRET)_|cnvca|lsv2_(?:pt|sk)_|unkey_|wandb_v1_|phx_|e2b_|re_[A-Za-z0-9]{8}_|AQVN|cf[au]t_|CCDB1_|"
    r"xkeysib-|xsmtpsib-|mlsn\.|(?:live|test)_(?=[0-9a-f]{35})|sk_(?=[0-9a-f]{40})"
)
# Beginnings after which hyphens, dots and the like may follow, too.
_MIXED = (
    r"xox[a-z](?:\.xox[a-z])?-|xwfp-|xapp-\d-|github_pat_|gl(?:pat|dt|rtr?|ptt|cbt|ft|agent|oas|soat|imt|ffct)-|sk-|csk-|"
    r"xai-|hv[bsr]\.|AIza|GOCSPX-|ya29\.|1//0|pypi-|ATATT3|ATCTT3|BBDC-|glsa_|dp\.(?:pt|st|ct|sa|scim|audit)\.|ops_eyJ|"
    r"pscale_(?:tkn|pw|oauth|otkn)_|mdb_sa_sk_|fo1_|fm[12][ar]?_|pat-(?:na|eu|ap)\d-|sl\.(?=[\w-]{30})|dt0[a-z]\d{2}\.|"
    r"p8e-|fio-u-|(?:sdk|api|mob)-(?=[0-9a-f]{8}-)|EAAA(?=[\w-]{22})|EAA[A-Z](?=[A-Za-z0-9]{30})|v1\.0-(?=[0-9a-f]{20})|"
    r"access-(?:sandbox|development|production)-|access_token\$(?:production|sandbox)\$(?:[a-z0-9]{0,16}\$)?|sha256~|4b1d(?=[A-Za-z0-9]{38})|ABSK|sq0[a-z]{3}-|"
    r"CFPAT-|pcsk_|tfp_|pa-(?=[\w-]{40})|dckr_[a-z]{3}_|sb_secret_|fig[do]r?_|HRKU-|nvapi-|tgp_v1_|sk\.eyJ|"
    r"jina_|xa[ap]t-|tmprl_|essu_|(?:IQoJb3JpZ2lu|F[wQ]oGZXIvYXdz)|dG9rOj|cflt(?=[A-Za-z0-9+/]{50})"
)
# A digit, or letters as no name in code has them.
_MADE_UP = r"(?:(?=[\w./+=~%-]{0,80}\d)|(?=[A-Za-z]{20})(?![a-z]{1,40}(?:[A-Z][a-z]{1,40}){1,8}(?![A-Za-z0-9])))"
_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_BASE58 = "[1-9A-HJ-NP-Za-km-z]"
_WHOLE = "|".join(
    (
        rf"(?:{_PLAIN}){_MADE_UP}[A-Za-z0-9]{{12,}}[A-Za-z0-9_=-]*",
        rf"(?:{_MIXED}){_MADE_UP}[\w./+=~%-]{{16,}}",
        r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*",  # JSON Web Tokens; behind them, Grafana's old keys
        r"eyJrIjoi[A-Za-z0-9+/=_-]{20,}",
        r"\d{8,10}:[\w-]{33,}",  # Telegram
        r"[12]/\d{10,}(?:/\d{10,})?:[0-9a-f]{32}",  # Asana
        r"SG\.[\w-]{16,}\.[\w-]{16,}",  # SendGrid
        r"[MNO][A-Za-z0-9_-]{22,27}\.[\w-]{6}\.[\w-]{27,}",  # Discord
        r"[A-Za-z0-9]{14}\.atlasv1\.[\w-]{30,}",  # Terraform
        r"pat[A-Za-z0-9]{14}\.[0-9a-f]{32,}",  # Airtable
        r"[0-9a-f]{32}-us\d{1,2}",  # Mailchimp
        r"[0-9a-f]{32}-[0-9a-f]{8}-[0-9a-f]{8}",  # Mailgun
        r"[0-9a-f]{30,36}(?:FFFF)?NRAL",  # New Relic
        r"[\w~.]{3}\dQ~[\w~.-]{31,}",  # Entra
        r"A3-[A-Z0-9]{6}-[A-Z0-9]{6,11}-[A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{5}[A-Z0-9-]*",  # 1Password
        r"AGE-SECRET-KEY-1[A-Z0-9]{20,}",
        r"AAAA[\w-]{7}:[\w-]{60,}",  # Firebase
        r"LS0tLS1CRUdJTi[A-Za-z0-9+/=]{20,}",  # a PEM file in base64
        r"s\.(?=[A-Za-z]{0,23}\d)[A-Za-z0-9]{24}(?![A-Za-z0-9.])",  # Vault, before 1.10
        r"(?<![-:+/])[A-Za-z0-9+/]{86}==",  # Azure's storage accounts
        r"rzp_(?:live|test)_[A-Za-z0-9]{14,}",  # Razorpay
        r"live_(?=[\w-]{0,39}\d)[\w-]{40}(?![\w-])",  # GoCardless
        r"t1\.[\w-]{30,}={0,2}\.[\w-]{60,}={0,2}",  # Yandex
        rf"0\.{_UUID}\.[A-Za-z0-9]{{20,}}:[A-Za-z0-9+/]{{20,}}={{0,2}}",  # Bitwarden
        rf"(?:5{_BASE58}{{50}}|[KL]{_BASE58}{{51}}|[xyz]prv{_BASE58}{{100,}})(?![A-Za-z0-9])",  # Bitcoin
        r"\$(?:2[abxy]?|[156y]|gy|7|apr1|argon2i?d?|scrypt|pbkdf2[\w-]{0,10})\$[\w./$=,+-]{22,}",  # hashes of passwords
        r"pbkdf2_sha\d{1,3}\$\d{1,8}\$[\w./$=+-]{22,}",
        r"\{S?SHA\d{0,3}\}[A-Za-z0-9+/=]{20,}",
    )
)
_TOKEN = re.compile(rf"(?<![A-Za-z0-9])(?:{_WHOLE})[\w-]*", re.ASCII)
# A word, a sign and what nobody would type: what services that aren't known here give as a key.
_PREFIXED = re.compile(r"(?<![\w./+~%:@-])(?:[A-Za-z]{2,10}_){1,3}(?P<tail>[A-Za-z0-9]{30,})(?![\w@.-])", re.ASCII)
_HASH = re.compile(r"[0-9a-fx_-]+|[0-9A-F_-]+")
_SPOKEN = re.compile(r"[A-Z]?[a-z]{4,}|[A-Z]{5,}")
_WORDS = re.compile(r"[A-Z][a-z]{2,}|[a-z]{6,}")
_CHANGE = re.compile(r"(?<=[a-z])[A-Z0-9]|(?<=[A-Z])[a-z0-9]|(?<=[0-9])[A-Za-z]")
# An image's or a file's data in its address: what looks like a key there is none, what comes behind it may be.
_DATA = re.compile(r"base64,[A-Za-z0-9+/]*+={0,2}+(?![\w.~%=-])", re.ASCII)
_BLANKED = re.compile(r"([xX*#])\1{7}")
_SHORTEST = 16

_HEX_OR_WORD = r"(?:[A-Za-z0-9_-]{0,40}\d[A-Za-z0-9_-]{0,200}|[A-Za-z0-9]{20,})"
_IN_ADDRESS = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        r"(?<=://)(?P<secret>[^\s/?#@]{0,300}:[^\s/?#]{1,300})@",
        r"(?<=://)(?P<secret>(?=[\w-]{0,40}\d)[\w-]{16,300}(?::\w{0,300})?)@",
        r"jdbc:oracle:\w{1,10}:(?P<secret>[^\s/@]{1,100}/[^\s@]{1,100})@",
        r"://hooks\.slack(?:-gov)?\.com/(?P<secret>[\w/-]{12,})",
        r"://(?:\w{1,20}\.)?discord(?:app)?\.com/api/(?:v\d{1,2}/)?webhooks/(?P<secret>[\w/-]{12,})",
        r"://[\w.-]{1,100}\.office(?:365)?\.com/webhook\w{0,3}/(?P<secret>[\w@/-]{12,})",
        r"://hooks?\.[\w.-]{1,100}/(?P<secret>(?=\w{0,200}\d)\w{24,})",
        r"://(?:[\w-]{1,40}\.)?hc-ping\.com/(?P<secret>[\w/-]{16,})",
        rf"://[\w.:-]{{1,100}}/ping/(?P<secret>{_UUID})",
        r"://[\w.-]{1,100}\.sumologic\.(?:com|net)/receiver/v\d/\w{1,20}/(?P<secret>[\w+/=%-]{20,})",
        r"://[^\s?#]{1,200}/private-(?P<secret>[0-9a-f]{20,})",
        r"://outlook\.[\w.]{1,40}/owa/calendar/(?P<secret>[\w@.-]{20,}(?:/[\w.-]{20,})?)",
        r"://[\w.-]{1,100}\.icloud\.com/published/\d/(?P<secret>[\w-]{20,})",
        r"://[\w.-]{1,100}\.azurewebsites\.\w{2,3}/[^\s#]{0,300}[?&]code=(?P<secret>(?=[\w%./+=-]{0,80}\d)(?=[\w%./+=-]{0,80}[A-Za-z])[\w%./+=-]{20,})",
        r"://(?:events|\w{1,20})\.pagerduty\.com/(?:integration|generic/[\w-]{1,20})/(?P<secret>[\w-]{16,})",
        r"://maker\.ifttt\.com/[\w/-]{0,100}/key/(?P<secret>[\w-]{16,})",
        r"://api\.telegram\.org/bot(?P<secret>[\w:-]{20,})",
        rf"://[^\s?#]{{0,200}}hooks?(?:/[a-z]\w{{0,20}}){{0,3}}/(?P<secret>(?:\w{{1,40}}/){{0,4}}(?=[\w-]*\d)"
        rf"(?:{_HEX_OR_WORD[3:-1]})(?<=[\w-]{{16}})[\w/@.-]*)",
    )
)

_TYPED = r"[\"'`]?(?P<secret>(?=[^\s\"'`]{0,40}[^\W\d])(?=[^\s\"'`]{0,40}\d)[^\s\"'`]{5,100}[^\s\"'`,.;:!?)])"
"""What somebody typed as a password, where it has letters and digits."""
_WHERE = r"(?:[ ](?:for|to|of|on|at)[ ](?:[\w.-]{1,40}[ ]?){1,3}?)?"

# Each with a text, in small letters, that is always there.
_BEHIND = (
    (
        "authorization",
        rf"(?i:Authorization)[\"']?[ \t]{{0,8}}[:=][ \t]{{0,8}}[\"']?(?i:{SCHEME})(?P<secret>[\w.~+/=:-]{{8,}})",
    ),
    (
        "authorization",
        r"(?i:Authorization)[\"']?[ \t]{0,8}[:=][ \t]{0,8}[\"']?(?P<secret>(?=[\w.~+/=-]{0,80}\d)[\w.~+/=-]{12,})",
    ),
    (
        "authorization",
        r"(?i:Authorization)[\"']?[ \t]{0,8}[:=][ \t]{0,8}[\"']?[A-Za-z][\w-]{0,30}[ \t]{1,8}"
        r"(?P<secret>(?=[\w.~+/=:-]{0,80}\d)[\w.~+/=:-]{12,})",
    ),
    ("bearer", r"(?i:Bearer)[ \t]{1,8}(?P<secret>(?=[\w.~+/=-]{0,200}\d)[\w.~+/=-]{12,})"),
    ("flyv1", r"FlyV1[ \t](?P<secret>[\w.~+/=,-]{12,})"),
    ("ssws", r"SSWS[ \t](?P<secret>[\w.~+/=,-]{12,})"),
    ("-u", r"(?<!\S)(?:-u|--user|--proxy-user)[ =]{0,4}[\"']?[^\s:\"'<]{0,100}:[\"']?(?P<secret>[^\s\"']{4,})"),
    (
        " -",
        r"\b(?:mysql(?:dump|admin)?|mariadb|sshpass|(?:docker|podman|helm|az|oc|registry) login|mongo(?:sh|dump)?|"
        r"redis-cli|smbclient|ldapsearch|htpasswd|sqlcmd|mosquitto_pub|curl)\b[^\n|;]{0,120}?\s-[apPwW][ =]?[\"']?"
        r"(?P<secret>[^\s\"'-][^\s\"']{3,})",
    ),
    ("password", r"\blogin\s{1,4}\S{1,100}\s{1,4}password\s{1,4}(?P<secret>\S{3,})"),
    (
        " -",
        rf"\b(?:https?|xhs?)[ ][^\n|;]{{0,120}}?(?<!\S)(?:-a|--auth)[ =]{{1,4}}[\"']?[^\s:\"'<]{{1,100}}:{_TYPED}",
    ),
    (
        "cookie",
        r"(?i:\b(?:set-)?cookies?)[\"']?[ ]?[:=][ ]?[\"']?"
        r"(?:[^\s;=]{1,60}=(?:[^\s;]|(?<=\[masked)[ ]){0,200};[ ]?){0,20}"
        r"[^\s;=]{1,60}=(?P<secret>(?=[^\s;\"']{0,80}\d)(?=[^\s;\"']{0,80}[A-Za-z])[^\s;\"']{16,})",
    ),
    (
        " to",
        r"(?i:\b(?:set|chang|reset|updat|rotat)\w{0,3}[ ](?:(?:the|my|our|your|its|his|her)[ ])?(?:[\w-]{1,20}[ ]){0,2}"
        rf"(?:password|passwd|passphrase|pw)(?:[ ](?:of|for|on)[ ][\w.-]{{1,40}}){{0,1}}[ ]to:?[ ]){_TYPED}",
    ),
    (
        "cred",
        rf"(?i:\bcred(?:s|entials)?{_WHERE}(?::|[ ](?:are|is)(?:[ ]now)?:?)[ ])(?!\w+://)"
        rf"[\w.@-]{{1,60}}[ ]?[/:|,][ ]?{_TYPED}",
    ),
    (
        "log",
        rf"(?i:\b(?:log[ -]?in|logged[ ]in|login){_WHERE}[ ](?:with|as)[ ])[\w.@-]{{1,60}}(?:[ ]/[ ]|[:/]){_TYPED}",
    ),
    ('"', r"\"(?:d|p|q|dp|dq|qi|k)\"[ ]?:[ ]?\"(?P<secret>(?=[\w-]{0,80}\d)(?=[\w-]{0,80}[A-Z])[\w-]{40,})"),
    ("identified", r"(?i:identified[ ](?:with[ ]\w{1,40}[ ])?by)[ ]['\"](?P<secret>[^\s'\"]{4,})"),
    ("with password", r"(?i:with password)[ ]['\"](?P<secret>[^\s'\"]{4,})"),
    ("requirepass", r"\brequirepass[ ](?P<secret>\S{4,})"),
    ("ssh ", r"\bssh[ ](?:-\S+[ ])*[^\s:@]{1,60}:(?P<secret>[^\s@]{4,200})@"),
    ("masked secret]", r"\[masked secret\][\"'`]?[\s,:;/|]{1,4}[\"'`]?(?P<secret>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])"),
)
_ANNOUNCED = tuple((hint, re.compile(pattern)) for hint, pattern in _BEHIND)
_PGPASS = re.compile(r"(?<![\w.*:/-])[\w.*-]{1,100}:(?:\d{2,5}|\*):[\w*-]{1,60}:[\w*-]{1,60}:(?P<secret>[^\s:]{4,})")
_NOTHING = re.compile(
    r"[$%{<(\[].*|.*[({]\S{0,60}[)}]?|[*x.•_#?-]{2,}|.*(?:\.\.\.|…|\*{3,}).*|\\\w.{0,3}|"
    r"(?:process\.env|os\.|env\.|secrets\.|self\.|this\.|config\.|settings\.|vault\.|var\.|data\.|module\.|local\.).*|"
    r"(?:your|my|the|some|any|insert|enter|change|replace|example|sample|dummy|fake|todo)[-_ ]?\S{0,30}"
    r"(?:token|key|password|secret|here|me|value)[\W_]*",
    re.IGNORECASE,
)
_PLAIN_WORDS = {
    "pass", "pwd", "test", "user", "str", "string", "text", "bytes", "int", "integer", "float", "number", "bool",
    "boolean", "none", "null", "nil", "true", "false", "undefined", "optional", "required", "any", "object", "array",
    "list", "dict", "type", "value", "default", "empty", "unset", "missing", "expired", "invalid", "valid", "wrong",
    "incorrect", "correct", "unknown", "hidden", "redacted", "masked", "secret", "password", "token", "example",
    "placeholder", "changeme", "todo", "tbd", "see", "vault", "ask", "rotate", "rotated", "rotation", "reset",
    "needed", "necessary", "enabled", "disabled", "basic", "bearer", "oauth", "oauth2", "jwt", "saml", "ldap", "sso",
    "mfa", "totp", "yes", "no", "on", "off", "public", "private", "shared", "same", "new", "old", "file", "path",
    "env", "environment", "header", "query", "cookie", "body", "form", "json", "yaml", "base64", "hex", "utf-8",
    "sha256", "md5", "bcrypt", "argon2", "hmac", "rs256", "hs256", "stored", "stolen", "leaked", "lost", "found",
    "gone", "here", "there", "that", "this",
}  # fmt: skip


def tokens(word: str) -> Iterator[Span]:
    """Secrets that are known by their own form, in text without white space."""
    if len(word) < _SHORTEST:
        return
    start = 0
    for begin, end in (*(data.span() for data in _DATA.finditer(word)), (len(word), len(word))):
        yield from (match.span() for match in _TOKEN.finditer(word, start, begin) if not _BLANKED.search(match[0]))
        yield from (match.span() for match in _PREFIXED.finditer(word, start, begin) if _is_random(match["tail"]))
        start = end


def _is_random(tail: str) -> bool:
    """Whether nobody typed this: signs of two kinds at least that change often, no hash, no id and no words."""
    if _HASH.fullmatch(tail) or any(_SPOKEN.fullmatch(part) for part in re.split("[_-]", tail)):
        return False
    spoken = sum(len(word) for word in _WORDS.findall(tail))
    figures = len(re.findall(r"\d+", tail))
    return figures >= 2 and len(_CHANGE.findall(tail)) >= len(tail) / 5 and spoken < 0.7 * len(tail)


def in_address(word: str) -> Iterator[Span]:
    """Secrets in an address, in text without white space: a user's password, a webhook's path."""
    if "://" in word or "jdbc:" in word:
        for pattern in _IN_ADDRESS:
            for match in pattern.finditer(word):
                if not re.fullmatch(r"[^:]*:(?:[$%{<*].*|x{3,}|)", match["secret"]):
                    yield match.span("secret")


def behind(text: str) -> Iterator[Span]:
    """Secrets that stand behind what announces one: a header, an option of a command."""
    small = text.lower()
    patterns = [pattern for hint, pattern in _ANNOUNCED if hint in small]
    if text.count(":") >= 4:
        patterns.append(_PGPASS)
    for pattern in patterns:
        for match in pattern.finditer(text):
            value = match["secret"]
            if not (is_placeholder(value) or (value.isdigit() and len(value) < 6)):
                yield match.span("secret")


def is_placeholder(value: str) -> bool:
    """Whether a value is none: a variable, a call, a word of the sentence."""
    return bool(_NOTHING.fullmatch(value)) or value.strip(".,;:!?)]}'\"").lower() in _PLAIN_WORDS
