"""An answer in the web chat: each sentence that a source carries has its number, and nothing but that is HTML."""

from __future__ import annotations

from doppel.records import Passage, Persona, Sentence
from doppel.web.chat_session import Exchange
from doppel.web.markup import answer_html

ADA = Persona("T1", "U1", "Ada", "ada", "v0001")


def passage(link: str) -> Passage:
    return Passage("ops", None, "1742300000.0", "1742300000.0", ("Ada: x",), (0, 1), "Ada: x", link, 0.5)


def shown(text: str, *sentences: Sentence, link: str = "https://acme.slack.com/p1") -> str:
    sources = (passage(link), passage(link))
    return answer_html(Exchange("?", ADA, sources=sources, text=text, sentences=sentences, open=False, finished=True))


def test_a_sentence_leads_to_its_source() -> None:
    html = shown("It woke us. <b>Often</b>.", Sentence("It woke us.", 1), Sentence("<b>Often</b>."))
    assert 'It woke us.<sup class="source"><a href="https://acme.slack.com/p1"' in html
    assert ">2</a></sup> &lt;b&gt;Often&lt;/b&gt;." in html
    assert html.count("<sup") == 1


def test_what_leads_nowhere_is_a_number() -> None:
    assert '<sup class="source">1</sup>' in shown("So.", Sentence("So.", 0), link='javascript:alert("x")')
    assert "<sup" not in shown("So.", Sentence("Not there.", 0), Sentence("So.", 7))
    assert "<sup" not in shown("```\nSo.\n```", Sentence("So.", 0))
