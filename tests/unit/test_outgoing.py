"""What a model writes can't ping, mislead or tell secrets in Slack, whole or in pieces; long answers are cut well."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doppel.engine.redaction import MASK
from doppel.slack.markup import Names, render_text
from doppel.slack.outgoing import NO_LINK, Mentionable, OutgoingPieces, outgoing, plain
from doppel.slack.splitting import split

MENTIONABLE = Mentionable(
    frozenset({"U1"}), frozenset({"C1"}), Names({"U7": "Grace <!here> @channel"}, {"C1": "general", "C2": "layoffs"})
)
BROADCAST = re.compile(r"[@＠﹫](channel|here|everyone|group)", re.IGNORECASE)


def pings(text: str) -> bool:
    """Whether Slack could notify anybody but U1: by a control sequence, or by a name where `link_names` is on."""
    controls = re.findall(r"<[^<>]*>", text)
    seen = re.sub("[\u200c\u200d\ufe00-\ufe0f]", "", unicodedata.normalize("NFKC", text))
    return bool(set(controls) - {"<@U1>", "<#C1>"} or BROADCAST.search(seen))


def read(text: str) -> str:
    """As a reader sees it."""
    return render_text(text, MENTIONABLE.names).replace("\u200b", "")


@pytest.mark.parametrize(
    "text",
    [
        "<!channel>",
        "<!here|here>",
        "<!everyone> <!group>",
        "<!subteam^S1> <!subteam^S1|@devs>",
        "&lt;!channel&gt;",
        "@channel @here @everyone, _@channel_ *@HERE*",
        "＠channel @ｃｈａｎｎｅｌ ﹫here @𝐜𝐡𝐚𝐧𝐧𝐞𝐥",
        "@\u200bchannel <\u200b!channel> @ch\u200dannel \u202e<!here>",
        "x@channel 你好@channel",
        "<@U2> <@U7> <@W9|joe>",
        "<#C2> <#C3|layoffs>",
        "`<!channel>` ```<!here> @channel```",
        "[<!channel>](https://a.org) [@here](https://a.org) <https://a.org|<!here>> <https://a.org|@here>",
        "https://a.org/@channel [a](@here) <!channel <!here",
        "<<!channel>> <<@U2>>",
    ],
)
def test_nobody_is_pinged(text: str) -> None:
    assert not pings(outgoing(text, MENTIONABLE))


def test_only_people_and_channels_of_the_conversation_are_linked() -> None:
    assert outgoing("<@U1> in <#C1>", MENTIONABLE) == "<@U1> in <#C1>"
    assert outgoing("<@U1> in <#C1>") == "U1 in #C1"
    assert read(outgoing("ask <@U7>, <@U8|joe> or <@U9>", MENTIONABLE)) == "ask Grace <!here> @channel, joe or U9"
    assert "layoffs" not in outgoing("see <#C2>", MENTIONABLE)


def test_a_name_is_written_but_not_notified() -> None:
    shown = outgoing("thanks @ada, mail ada@example.org", MENTIONABLE)
    assert "@ada," not in shown
    assert read(shown) == "thanks @ada, mail ada@example.org"


@pytest.mark.parametrize(
    "text",
    [
        "a < b && c > d",
        "<!-- a comment --> <br> &lt;b&gt; &amp;amp;",
        "Map<String, List<Integer>> and a <- b",
        "`if a < b & c:`",
        "```\n@dataclass\nclass A[T]: x[0][1] <!-- -->\n```",
        "1. *one*\n2. _two_\n• three :tada: 👩🏽‍💻",
        "see https://a.org/x?y=1&z=2 (https://b.org/@ada/p), or write to a@b.org",
    ],
)
def test_what_is_harmless_reads_as_it_was_written(text: str) -> None:
    assert read(outgoing(text, MENTIONABLE)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<https://evil.org|https://good.org>", "https://evil.org"),
        ("[https://good.org](https://evil.org)", "https://evil.org"),
        ("[good.org/login](https://evil.org)", "https://evil.org"),
        ("[the docs](https://a.org/x_(y) 'title')", "the docs (https://a.org/x_(y))"),
        ("<https://a.org|the docs>", "the docs (https://a.org)"),
        ("<https://a.org> and [](https://b.org)", "https://a.org and https://b.org"),
        ("<mailto:a@b.org|a@b.org> <mailto:a@b.org|write>", "a@b.org write (mailto:a@b.org)"),
        ("![a cat](https://a.org/cat.png)", "a cat (https://a.org/cat.png)"),
        ("![](https://a.org/cat.png)", "https://a.org/cat.png"),
        ("[click](javascript:alert(1))", f"click {NO_LINK}"),
        ("<slack://open|click> <data:text/html,x>", f"click {NO_LINK} {NO_LINK}"),
        ("https://good.org@evil.org/x", "https://evil.org/x"),
    ],
)
def test_a_link_shows_where_it_leads(text: str, expected: str) -> None:
    assert read(outgoing(text, MENTIONABLE)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "[a [b] https://good.org](https://evil.org)",
        "[a](b](https://evil.org))",
        "[x](http://a[https://good.org](https://evil.org))",
        "https://a[https://good.org](https://evil.org)",
        "![x][y] [https://good.org][y]\n\n[y]: https://evil.org",
        "```[a [b] c](https://evil.org)```",
        "`[a](https://evil.org)`",
        "<@[x](https://evil.org)>",
    ],
)
def test_no_link_of_markdown_is_left(text: str) -> None:
    shown = outgoing(text, MENTIONABLE)
    assert not re.search(r"\]\(|\]\[|\]:", shown)


def test_secrets_are_masked_even_with_unseen_characters_in_them() -> None:
    token = "hf" + "_abcdefghijklmnop\u200bqrstuvwxyz"
    assert outgoing(f"It is {token}.") == f"It is {MASK}."
    assert outgoing("[here](https://ada:hunter22@evil.org)").count("hunter22") == 0


def test_a_name_stands_on_one_line() -> None:
    assert plain("Ada\n> quoted `x` <!here>\t") == "Ada &gt; quoted 'x' @\u200bhere"


FRAGMENTS = st.sampled_from(
    [
        *("<!channel>", "<!here|here>", "<!subteam^S1|@devs>", "<@U1>", "<@U7>", "<@U8|joe>", "<#C1>", "<#C2|x>"),
        *("@channel", "＠here", "@ada", "a@b.org", "&lt;!here&gt;", "&amp;", "<!date^0^{date}|then>", "<!--"),
        *("[a](https://b.org)", "![a](https://b.org)", "<https://a.org|b c>", "https://a.org/(x)?y&z", "mailto:a@b.c"),
        *("```", "`", "[", "]", "](", "](https://", ")", "<", ">", "|", "@", "!", "\n", " ", "\u200b", "\u200d", "é"),
        *("hf" + "_abcdefghijklmnopqrstuvwxyz", "password=", "hunter22", "https://ada:hunter22@c.org", "javascript:"),
    ]
)
TEXTS = st.lists(FRAGMENTS | st.text(max_size=4), max_size=12).map("".join)


@given(TEXTS)
def test_whatever_is_written_pings_nobody(text: str) -> None:
    shown = outgoing(text, MENTIONABLE)
    assert not pings(shown)
    assert "](" not in shown
    assert "<" not in re.sub("<@U1>|<#C1>", "", shown)


@given(TEXTS, st.data())
def test_pieces_say_what_the_whole_says(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=12)))
    whole, stream, shown = outgoing(text, MENTIONABLE), OutgoingPieces(MENTIONABLE), ""
    for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True):
        shown += stream.feed(text[start:stop])
        assert whole.startswith(shown)
    assert shown + stream.close() == whole


@given(st.lists(TEXTS, max_size=6))
def test_a_cited_source_changes_nothing_else(texts: list[str]) -> None:
    stream, whole, shown = OutgoingPieces(MENTIONABLE), OutgoingPieces(MENTIONABLE), ""
    plain = ""
    for text in texts:
        shown += stream.feed(text) + stream.cite(1, "https://a.slack.com/archives/C1/p1?cid=C1&thread_ts=1.2")
        plain += whole.feed(text) + whole.feed(" " if not text or text[-1].isspace() else "  ")
    shown, plain = shown + stream.close(), plain + whole.close()
    bare = shown.replace("[1](https://a.slack.com/archives/C1/p1?cid=C1&amp;thread_ts=1.2)", "")
    assert "](" not in bare
    assert bare.split() == plain.split()


def test_a_source_is_cited_behind_its_sentence() -> None:
    stream = OutgoingPieces(MENTIONABLE)
    link = "https://a.slack.com/archives/C1/p1"
    shown = [
        stream.feed("We ship on Monday. "),
        stream.cite(1, link),
        stream.feed("Nobody asked."),
        stream.cite(2, "https://a/(x)"),
        stream.feed("\n```\nx = 1\n"),
        stream.cite(1, link),
        stream.feed("```"),
        stream.close(),
    ]
    assert "".join(shown) == (f"We ship on Monday. [1]({link}) Nobody asked. [2](https://a/%28x%29)\n```\nx = 1\n ```")


def test_pieces_are_shown_word_by_word() -> None:
    stream = OutgoingPieces(MENTIONABLE)
    shown = [stream.feed(piece) for piece in ("We shi", "p on Mon", "day, if a < b ", "(see [1] and ", "#general) ")]
    assert shown == ["We ", "ship on ", "Monday, if a &lt; b ", "(see [1] and ", "#general) "]


WORDS = st.sampled_from(
    ["word", "A sentence.", "\n\n", "\n", "```", "```py\n", "&lt;", "<@U1>", "x&lt;" * 90, "密<@U1>" * 60, " "]
)


@given(st.lists(WORDS, max_size=120).map(" ".join), st.integers(100, 400))
def test_parts_keep_the_limit_and_every_word(text: str, limit: int) -> None:
    parts = split(text, limit)
    assert all(part.strip() and len(part) <= limit for part in parts)
    assert all(part.count("```") % 2 == 0 for part in parts)
    bare = re.compile(r"```|py|\s")
    assert bare.sub("", "".join(parts)) == bare.sub("", text)
    assert not any(re.search("[&<]", re.sub("&lt;|<@U1>", "", part)) for part in parts)


def test_it_is_cut_between_paragraphs_first_then_sentences() -> None:
    first, second = "One. " * 14, "Two. " * 14
    assert split(f"{first}\n\n{second}", 120) == [first.strip(), second.strip()]
    parts = split("This is a sentence of some length. " * 10, 120)
    assert all(part.endswith("length.") for part in parts)


def test_code_that_is_cut_stays_code() -> None:
    code = "\n".join(f"    line {i}" for i in range(40))
    parts = split(f"So:\n```python\n{code}\n```\nThat's it.", 200)
    assert len(parts) > 2
    assert all(part.startswith("```python\n    line") for part in parts[1:-1])
    assert all(part.endswith("\n```") for part in parts[:-1])
    assert re.findall(r"    line \d+", "\n".join(parts)) == code.split("\n")


def test_a_short_answer_is_one_message_and_silence_none() -> None:
    assert split("Hello.") == ["Hello."]
    assert split("``` never closed") == ["``` never closed\n```"]
    assert split(" \n") == []
    with pytest.raises(ValueError, match="room"):
        split("x", 10)
