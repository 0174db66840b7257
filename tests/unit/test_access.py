"""Who may read what. Unknown means no."""

from __future__ import annotations

import pytest

from doppel.access import OPERATOR, ConsentAction, ConsentRecord, ReadPolicy, has_consent, is_paused
from doppel.errors import ConfigError
from doppel.records import Channel, ChannelKind

CHANNELS = [Channel("T1", f"C{kind.value}", f"a-{kind.value}", kind) for kind in ChannelKind]


def readable(setting: str) -> set[str]:
    return {channel for _, channel in ReadPolicy.parse(setting).readable(CHANNELS)}


def test_public_is_public_channels_only() -> None:
    assert readable("public") == {"Cpublic"}


def test_a_name_adds_just_that_channel() -> None:
    assert readable("public, #a-private") == {"Cpublic", "Cprivate"}
    assert readable("Cmpim") == {"Cmpim"}


def test_the_operator_reads_all() -> None:
    assert OPERATOR.readable(CHANNELS) == {("T1", c.id) for c in CHANNELS}
    assert readable("all") == {c.id for c in CHANNELS}


@pytest.mark.parametrize("setting", ["", "public,", " , "])
def test_a_hole_in_the_setting_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="public"):
        ReadPolicy.parse(setting)


def test_a_name_that_means_no_one_channel_is_told() -> None:
    twice = [*CHANNELS, Channel("T1", "C9", "a-private", ChannelKind.PRIVATE)]
    assert ReadPolicy.parse("public, a-public, Cmpim, nope").unknown(CHANNELS) == ["nope"]
    assert ReadPolicy.parse("a-private, all").unknown(twice) == ["a-private"]


def said(action: ConsentAction) -> ConsentRecord:
    return ConsentRecord("T1", "U1", action, "2026-01-01", "ada")


def test_the_newest_answer_counts() -> None:
    yes, paused, resumed = said(ConsentAction.GRANT), said(ConsentAction.PAUSE), said(ConsentAction.RESUME)
    assert not has_consent([])
    assert has_consent([yes])
    for no in (said(ConsentAction.REVOKE), said(ConsentAction.DECLINE)):
        assert not has_consent([yes, no])
        assert has_consent([yes, no, yes])
    assert has_consent([yes, paused])
    assert not has_consent([paused, resumed])


def test_a_pause_lasts_until_it_is_ended_or_consent_is_given_anew() -> None:
    yes, paused, resumed = said(ConsentAction.GRANT), said(ConsentAction.PAUSE), said(ConsentAction.RESUME)
    assert not is_paused([])
    assert is_paused([yes, paused])
    assert not is_paused([yes, paused, resumed])
    assert not is_paused([yes, paused, yes])
