"""YAML keeps what was written, says where it stood, and makes nothing of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from clock import own_seconds

from titrant.config.yaml_source import (
    MAX_BYTES,
    MAX_NODES,
    Document,
    Plain,
    Position,
    dotted,
    expand_environment,
    parse_document,
    read_document,
)
from titrant.core.errors import SpecError


def parsed(text: str) -> Document:
    return parse_document(text, name="study.yaml")


def problems_of(text: str) -> list[str]:
    document = parsed(text)
    return str(document.error(list(document.problems))).split("\n") if document.problems else []


def test_scalars_keep_the_text_that_was_written() -> None:
    value = parsed("a: no\nb: 010\nc: 12:30\nd: 1e-4\ne: 2020-01-01\nf: 0x1F\ng: ~\nh: 'no'\n").value
    assert value == {
        "a": "no",
        "b": "010",
        "c": "12:30",
        "d": "1e-4",
        "e": "2020-01-01",
        "f": "0x1F",
        "g": "~",
        "h": "no",
    }
    assert isinstance(value["a"], Plain)
    assert not isinstance(value["h"], Plain)


def test_every_key_and_item_has_its_place() -> None:
    document = parsed("arms:\n  doses:\n    general: [96, {tokens: 3}]\n")
    assert document.position(("arms",)) == Position(line=1, column=1)
    assert document.position(("arms", "doses", "general")) == Position(line=3, column=5)
    assert document.position(("arms", "doses", "general", 1, "tokens")) == Position(line=3, column=20)
    assert document.position(("arms", "seeds")) == document.position(("arms",))
    assert dotted(("arms", "doses", "a b", 1)) == "arms.doses.'a b'[1]"


def test_a_duplicate_key_names_both_places() -> None:
    assert problems_of("name: a\nmodel: b\nname: c\n") == [
        "study.yaml:3:1: name: the key stands twice, first at 1:1. Fix: keep one of the two"
    ]
    assert parsed("name: a\nname: {x: [1]}\n").value == {"name": "a"}


def test_tags_make_no_object_and_are_refused(tmp_path: Path) -> None:
    made = tmp_path / "made"
    lines = problems_of(f"name: !!python/object/apply:os.mkdir ['{made}']\nmodel: !!str 5\nother: !mine {{}}\n")
    assert [line.partition(" (")[0] for line in lines] == [
        "study.yaml:1:7: name: a tag is not allowed",
        "study.yaml:2:8: model: a tag is not allowed",
        "study.yaml:3:8: other: a tag is not allowed",
    ]
    assert not made.exists()


def test_an_alias_bomb_is_refused_in_no_time() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    began = own_seconds()
    lines = problems_of("\n".join(rows))
    assert lines[0].startswith("study.yaml:2:10: a1[0]: an alias is not allowed (got '*a0')")
    assert len(lines) == 51
    assert lines[-1] == "study.yaml: and 49 more problems"
    assert own_seconds() - began < 2


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "study.yaml:1:1: the study file is empty. Fix: titrant init writes one"),
        ("# only a comment\n", "study.yaml:1:1: the study file is empty. Fix: titrant init writes one"),
        ("a: 1\n---\nb: 2\n", "study.yaml:2:1: a second document begins here"),
        ("%YAML 1.1\n---\na: no\n", "study.yaml:2:1: another version of YAML (got '1.1'; expected 1.2)"),
        ("a: [1, 2\nb: 3\n", "study.yaml:2:2: this is no YAML: while parsing a flow sequence expected ',' or ']'"),
        ("\ta: 1\n", "study.yaml:1:1: this is no YAML: while scanning for the next token found character"),
        ("[" * 60, "study.yaml:1:26: nested too deeply (expected at most 24 levels)"),
        ('a: "\\UFFFFFFFF"', "study.yaml"),
        ("a: \x00", "study.yaml:1: this is no YAML: special characters are not allowed"),
    ],
)
def test_what_is_no_study_is_refused_with_its_place(text: str, line: str) -> None:
    with pytest.raises(SpecError) as caught:
        parsed(text)
    assert str(caught.value).startswith(line)


def test_half_a_surrogate_pair_is_no_text() -> None:
    assert problems_of('a: "\\ud83d"')[0].startswith("study.yaml:1:4: a: half a surrogate pair")


def test_a_key_that_is_no_text_is_refused_and_the_rest_read() -> None:
    document = parsed("? [a, b]\n: 1\nname: x\n")
    assert document.value == {"name": "x"}
    assert "a key that is no text is not allowed" in str(document.error(list(document.problems)))


def test_size_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(SpecError, match="too large"):
        read_document(path, name="study.yaml")
    with pytest.raises(SpecError, match="too many values"):
        parsed("a: [" + "1," * (MAX_NODES + 1) + "]")


def test_files_that_cannot_be_read_name_the_cause(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="No such file"):
        read_document(tmp_path / "absent.yaml", name="absent.yaml")
    with pytest.raises(SpecError, match="directory"):
        read_document(tmp_path, name="folder")
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"name: x\nmodel: caf\xe9\n")
    with pytest.raises(SpecError, match=r"latin\.yaml:2: the study file is not UTF-8"):
        read_document(path, name="latin.yaml")
    path.write_bytes(b"\xef\xbb\xbfname: x\n")
    assert read_document(path, name="bom.yaml").value == {"name": "x"}


def test_the_environment_is_read_in_every_scalar() -> None:
    value = {"a": Plain("${HOME_OF_ROWS:-../data}/x"), "b": [Plain("${SIZE}")], "c": "$${kept} $HOME ${EMPTY:-d}"}
    expanded, problems = expand_environment(value, {"SIZE": "48", "EMPTY": ""})
    assert expanded == {"a": "../data/x", "b": ["48"], "c": "${kept} $HOME d"}
    assert isinstance(expanded["b"][0], Plain)
    assert not problems


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("${ABSENT}", "the environment variable ABSENT is not set"),
        ("${ABSENT", "this is no reference to an environment variable"),
        ("${}", "this is no reference to an environment variable"),
        ("${A B}", "this is no reference to an environment variable"),
        ("${A:=b}", "this is no reference to an environment variable"),
        ("${HF_TOKEN}", "the environment variable HF_TOKEN looks like a secret"),
        ("${OPENAI_API_KEY:-x}", "the environment variable OPENAI_API_KEY looks like a secret"),
    ],
)
def test_a_reference_that_leads_nowhere_is_a_problem(text: str, problem: str) -> None:
    expanded, problems = expand_environment({"a": Plain(text)}, {"HF_TOKEN": "hf_abc", "OPENAI_API_KEY": "sk-abc"})
    assert [found.problem for found in problems] == [problem]
    assert "abc" not in str(expanded) + str(problems)
