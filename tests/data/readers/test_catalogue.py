"""The cards of public pools: complete, cited, and good for loading a local copy."""

import datetime
import re

import pytest

from titrant.core.errors import DataError
from titrant.data.readers import CardFact, card, catalogue, catalogue_names, is_non_commercial
from titrant.data.readers.hub import parse_address

NAMED = {"alpaca", "alpaca_gpt4", "dolly", "lima", "openassistant", "self_instruct", "p3", "flan", "tulu3", "smoltalk"}


def test_every_pool_of_the_plan_has_a_card() -> None:
    assert set(catalogue_names()) == NAMED | {"no_robots"}
    assert [entry.name for entry in catalogue()] == list(catalogue_names())


@pytest.mark.parametrize("name", catalogue_names())
def test_every_fact_names_its_page_and_day_or_is_null_and_unverified(name: str) -> None:
    for fact in (fact for _, fact in card(name).facts):
        assert fact.verified == (fact.value is not None)
        if fact.verified:
            assert fact.source is not None
            assert re.fullmatch(r"https://\S+", fact.source)
            assert fact.read is not None
            assert datetime.date.fromisoformat(fact.read)
        else:
            assert fact == CardFact(value=None, verified=False)
    for flaw in card(name).flaws:
        assert re.fullmatch(r"https://\S+", flaw.source)
        assert flaw.says.endswith(".")


@pytest.mark.parametrize("name", catalogue_names())
def test_a_card_leads_to_an_address_that_can_be_read(name: str) -> None:
    entry = card(name)
    part = f":{entry.part}" if entry.part else ""
    assert parse_address(f"hub:{entry.hub}@{entry.branch}{part}").repository == entry.hub
    if entry.revision.value is not None:
        assert re.fullmatch(r"[0-9a-f]{40}", entry.revision.value)
        assert entry.revision.value in (entry.revision.source or "")


@pytest.mark.parametrize("name", catalogue_names())
def test_what_a_licence_rules_out_is_what_its_words_say(name: str) -> None:
    entry = card(name)
    assert entry.non_commercial == (None if entry.licence.value is None else is_non_commercial(entry.licence.value))


def test_an_unknown_source_names_those_there_are() -> None:
    with pytest.raises(DataError, match=r"no such source .*dolly.*did you mean dolly\?"):
        card("doly")
