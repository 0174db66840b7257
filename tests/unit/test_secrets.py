"""What counts as a secret, and that none is shown, however the text arrives."""

from __future__ import annotations

import random
import re
import string
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from doppel.engine import secret_rules
from doppel.engine.redaction import MASK, mask, masked_pieces
from tests import secret_samples

LETTERS = string.ascii_letters + string.digits
# Put together here, so that no scanner takes this file for a leak.
TOKENS = {
    "Slack bot": "xox" + "b-1234567890-abcdefghijkl",
    "Slack refresh": "xox" + "e.xoxp-1-Mi0yLTEyMzQ1Njc4OTA",
    "Slack app": "xap" + "p-1-A0123456789-1234567890-abcdef",
    "AWS": "AKI" + "AIOSFODNN7EXAMPLE",
    "GitHub": "gh" + "p_" + LETTERS[:36],
    "GitHub, fine-grained": "github" + "_pat_11ABCDEFG0_" + LETTERS[:40],
    "GitLab": "glp" + "at-" + LETTERS[30:50],
    "OpenAI": "sk" + "-" + LETTERS[20:62],
    "OpenAI project": "sk" + "-proj-" + LETTERS[20:62] + "_-x",
    "Anthropic": "sk" + "-ant-api03-" + LETTERS,
    "Hugging Face": "hf" + "_" + LETTERS[:34],
    "Google": "AI" + "za" + LETTERS[:35],
    "Stripe": "sk" + "_live_" + LETTERS[:24],
    "JSON Web Token": "ey" + "JhbGciOiJIUzI1NiJ9.ey" + "JzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
    "npm": "np" + "m_" + LETTERS[:36],
    "PyPI": "py" + "pi-AgEIcHlwaS5vcmc" + LETTERS[:30],
    "Telegram": "123456789" + ":AA" + LETTERS[:33],
    "SendGrid": "S" + "G." + LETTERS[:22] + "." + LETTERS[:43],
}
NAMED = {
    "password=hunter22": "hunter22",
    "DB_PASSWORD: correct-horse": "correct-horse",
    '"password": "my pass word"': "my pass word",
    "passwd = 'p4ss word": "p4ss word",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "api-key: 0123456789abcdef": "0123456789abcdef",
    "Authorization: Bearer abcd.efgh-1234": "abcd.efgh-1234",
    "authorization: Basic dXNlcjpwYXNz": "dXNlcjpwYXNz",
    "curl -H 'Authorization: token 0123456789abcdef'": "0123456789abcdef",
    "send Bearer 0123456789abcdef": "0123456789abcdef",
    "postgres://ada:s3cret@db:5432/x": "s3cret",
    "https://ada:p@ss@example.org/": "p@ss",
    "https://ada:pässwörd@example.org/": "pässwörd",
    "https://hooks.slack.com/services/T0000/B0000/abcdefghijkl": "abcdefghijkl",
}
PRIVATE_KEY = "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc/def+ghi=\n-----END RSA " + "PRIVATE KEY-----"
HARMLESS = [
    "The password is not known to me.",
    "password: str",
    "max_tokens=8, tokens: 12",
    "secret = None",
    "Basic authentication, bearer of news",
    "class sk-fading-circle-container, sk-learn",
    "git@github.com:team/repo.git, https://example.org/@ada/post?x=1:2",
    "Meet at 10:30 in #general; see https://example.org:8080/a@b",
    "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----",
    "eyJust a word. ghp_ and hf_ are prefixes",
    "密码在哪里?",
]
SURROUNDINGS = [
    ("", ""),
    ("use ", " now"),
    ("`", "`"),
    ('"', '",'),
    ("(", ")."),
    ("<", "|x>"),
    ("export K=", "\n"),
    ("https://example.org/?k=", "&b=1"),
    ("密", "码"),
]
HOSTILE = [
    "a", "A1", "-", "=", "= ", "a=", "a:", "::", '"', "'a", "`", "_", "a-", "a_b_", "[masked secret] ", "{{", "${",
    "is is ", " | ", "eyJ", "sk-", "xoxb-1", "ops_eyJ", "://", "x://a:b", "https://a@b:c", "https://hooks.a/", "----",
    "-----BEGIN ", "-----BEGIN PRIVATE " "KEY-----\n-----END ", "password=", "password: ", 'password="', 'password="\\',
    "token=a1b2c3d4&", "密：", "login a password ", "curl -u a:", "mysql -p", "--password ", "Authorization: ",
    "Bearer ", "\\", "api key for a on b ", "Cookie: a=b; ", "cookie:a=b;", "creds for a ", "creds are a/", "live_",
    "a1B2_", "live_a1B2", "$1$", "t1.", "password set to ", "change the password to ", "password:\n", "://a?code=",
    "://hook.", '"d":"',
]  # fmt: skip
SECRETS = [*TOKENS.values(), *NAMED.values(), "MIIEpAIBAAKCAQEA", "abc/def+ghi="]


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
def test_a_token_is_masked_wherever_it_stands(token: str) -> None:
    for before, after in [
        ("", ""),
        ("use ", " now"),
        ("`", "`"),
        ("<", "|x>"),
        ("密", "码"),
        ("(", ")."),
        ("key:", "\n"),
    ]:
        shown = mask(before + token + after)
        assert token not in shown
        assert MASK in shown
        assert shown.startswith(before)


@pytest.mark.parametrize(("text", "secret"), NAMED.items())
def test_what_stands_behind_a_telling_word_is_masked(text: str, secret: str) -> None:
    shown = mask(f"so {text}\nand on")
    assert secret not in shown
    assert MASK in shown
    assert shown.endswith("\nand on")


def test_the_word_before_a_secret_stays() -> None:
    assert mask("DB_PASSWORD=hunter22 next") == f"DB_PASSWORD={MASK} next"
    assert mask("Authorization: Bearer abcd.efgh-1234") == f"Authorization: Bearer {MASK}"
    assert mask("postgres://ada:s3cret@db/x") == f"postgres://{MASK}@db/x"


def test_a_private_key_goes_with_its_body() -> None:
    assert mask(f"Here:\n{PRIVATE_KEY}\nThat's it.") == f"Here:\n{MASK}\nThat's it."
    assert mask(PRIVATE_KEY[:50]) == MASK


@pytest.mark.parametrize("text", HARMLESS)
def test_harmless_text_stays(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize("token", secret_samples.TOKENS.values(), ids=secret_samples.TOKENS)
def test_a_published_form_is_masked_wherever_it_stands(token: str) -> None:
    for before, after in SURROUNDINGS:
        shown = mask(before + token + after)
        assert token not in shown
        assert MASK in shown
        assert shown.startswith(before)


@pytest.mark.parametrize(("text", "secret"), secret_samples.CONTEXTS.values(), ids=secret_samples.CONTEXTS)
def test_what_is_announced_is_masked_as_people_write_it(text: str, secret: str) -> None:
    for before, after in [("", ""), ("so ", "\nand on"), ("```\n", "\n```")]:
        shown = mask(before + text + after)
        assert secret not in shown
        assert MASK in shown
        assert shown.startswith(before)
        assert shown.endswith(after)


def test_what_only_looks_like_a_secret_stays() -> None:
    assert len(secret_samples.HARMLESS) >= 35
    assert [line for line in secret_samples.HARMLESS if mask(line) != line] == []


def test_a_published_form_cut_anywhere_is_never_shown() -> None:
    dice = random.Random(3)
    for text in [*secret_samples.TOKENS.values(), *(text for text, _ in secret_samples.CONTEXTS.values())]:
        text, stream, shown = f"Sure, take {text} and go.", masked_pieces(), ""
        while text:
            cut = dice.randint(1, 9)
            piece, rest = text[:cut], text[cut:]
            shown, text = shown + stream.feed(piece), rest
        assert MASK in shown + stream.close()
    for text, _ in secret_samples.CONTEXTS.values():
        stream = masked_pieces()
        assert "".join([*map(stream.feed, text), stream.close()]) == mask(text)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_takes_time_in_proportion(text: str) -> None:
    def seconds(length: int) -> float:
        started = time.process_time()
        mask((text * length)[:length])
        return time.process_time() - started

    seconds(5_000)
    assert seconds(40_000) < max(0.5, 16 * seconds(5_000))


def test_no_rule_of_the_set_takes_long_over_a_hostile_text() -> None:
    for rule in secret_rules.rules():
        for sign in ("", "=", "_1"):
            text = "".join(word + sign for word in rule.keywords) * 100_000
            started = time.process_time()
            assert sum(1 for _ in rule.find(text[:100_000])) >= 0
            assert time.process_time() - started < 2, rule.name


def test_the_rule_set_is_whole_and_comes_with_its_licence() -> None:
    assert len(secret_rules.rules()) > 300
    for rule in secret_rules.rules():
        assert rule.keywords
        assert isinstance(rule.pattern, re.Pattern)
    notice = secret_rules.FILE.with_name("secret_rules.LICENSE").read_text(encoding="utf-8")
    assert "MIT License" in notice
    assert "Apache License" in notice


FRAGMENTS = (
    st.sampled_from(
        [
            *secret_samples.TOKENS.values(),
            *(text for text, _ in secret_samples.CONTEXTS.values()),
            *secret_samples.HARMLESS,
        ]
    )
    | st.sampled_from(
        [
            *SECRETS,
            *NAMED,
            *HARMLESS,
            PRIVATE_KEY,
            PRIVATE_KEY[:40],
            PRIVATE_KEY[40:],
            MASK,
            "Authorization",
            "password",
        ]
    )
    | st.text(alphabet=" \n\t:=>\"'`-_.@/\\&;ABEeh1xé密：", max_size=8)
)


@given(st.lists(FRAGMENTS, max_size=6).map("".join))
@example(f"Private-Lines: 1\nabc/def+ghi=\nPrivate-MAC: 56d43ad8{TOKENS['Slack bot']}, and on")
@example(f"secret = None{PRIVATE_KEY}")
@example(f"data:image/png;base64,iVBORw0KGgo=){TOKENS['GitHub']}{TOKENS['Slack bot']}")
def test_masking_twice_hides_no_more(text: str) -> None:
    assert mask(mask(text)) == mask(text)


@given(st.lists(FRAGMENTS, max_size=6).map("".join), st.data())
def test_pieces_say_what_the_whole_says(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    stream, shown = masked_pieces(), ""
    for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True):
        shown += stream.feed(text[start:stop])
        assert mask(text).startswith(shown)
    assert shown + stream.close() == mask(text)


@pytest.mark.parametrize("secret", [*TOKENS.values(), *NAMED, PRIVATE_KEY])
def test_a_secret_cut_anywhere_is_never_shown(secret: str) -> None:
    text = f"Sure, take {secret} and go."
    for cut in range(len(text)):
        stream = masked_pieces()
        pieces = [stream.feed(text[:cut]), stream.feed(text[cut:]), stream.close()]
        assert "".join(pieces) == mask(text)
    stream = masked_pieces()
    assert "".join([*map(stream.feed, text), stream.close()]) == mask(text)


def test_harmless_text_is_not_held_back() -> None:
    stream = masked_pieces()
    assert stream.feed("The release is on Monday. So") == "The release is on Monday. "
    assert stream.feed("on 密码在哪里") == "Soon 密码在哪里"
    assert stream.close() == ""


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS)
def test_a_token_beside_the_data_of_an_image_is_masked_and_the_data_stays(token: str) -> None:
    image = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    for between in ("==)", "=,", ";", "|"):
        assert mask(f"![logo]({image}{between}{token}") == f"![logo]({image}{between}{MASK}"
    assert mask(f"{token},{image}") == f"{MASK},{image}"
    assert token not in mask(f"{image}=={token}")
