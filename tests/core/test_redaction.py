"""Secrets of the environment are said nowhere and stored nowhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_study import write_study

from titrant.config.study import load_study
from titrant.core.errors import SpecError
from titrant.core.redaction import names_a_secret, redacted, secrets

TOKENS = {"HF_TOKEN": "hf_ThisIsNoRealToken", "OPENAI_API_KEY": "sk-neither-is-this", "DB_PASSWORD": "correct horse"}


def test_secrets_are_known_by_their_variables_and_by_the_hubs_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_FromTheFile\n")
    environment = {
        **TOKENS,
        "HF_HOME": str(tmp_path),
        "HOME_KEY": "/home/me/key.pem",
        "A_KEY": "short",
        "MONKEY": "x" * 9,
    }
    assert set(secrets(environment)) == {*TOKENS.values(), "hf_FromTheFile"}
    assert not names_a_secret("TOKENIZERS_PARALLELISM")


def test_every_secret_goes_from_a_text_the_longest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "abcdefgh")
    monkeypatch.setenv("B_TOKEN", "abcdefghijkl")
    assert redacted("(abcdefghijkl) (abcdefgh) abcdefg") == "([hidden]) ([hidden]) abcdefg"


def test_a_study_that_holds_a_secret_is_refused_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKENS["HF_TOKEN"])
    path = write_study(tmp_path, name="toy")
    path.write_text(path.read_text().replace("Name the kind.", f"Name the kind. {TOKENS['HF_TOKEN']}"))
    with pytest.raises(SpecError, match=r"study\.yaml:\d+: the study holds the secret of HF_TOKEN") as caught:
        load_study(path)
    assert TOKENS["HF_TOKEN"] not in str(caught.value)


@pytest.mark.parametrize("kind", ["non_finite", "out_of_memory", "bug"])
def test_no_secret_is_in_a_log_a_store_a_report_or_a_traceback(tmp_path: Path, kind: str) -> None:
    study, out = write_study(tmp_path / "study"), tmp_path / "out"
    fails = {"kind": kind, "seed": 1, "tells": list(TOKENS)}
    said = {"prepared": str(tmp_path / "prepared"), "backend": {"fails": fails}}
    script = Path(__file__).parents[1] / "support" / "titrant_with_fakes.py"
    done = subprocess.run(
        [sys.executable, str(script), "run", str(study), "--out", str(out), "--jobs", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, **TOKENS, "TITRANT_TRIAL": json.dumps(said)},
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert "it fails: as the test asked [hidden] [hidden] [hidden]" in done.stderr
    assert ("Traceback" in done.stderr) == (kind == "bug")
    stored = {str(path): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert (kind == "bug") == (str(out / "report.html") not in stored)
    if kind != "bug":
        assert b"as the test asked [hidden]" in stored[str(out / "ledger.jsonl")]
        assert b"as the test asked [hidden]" in stored[str(out / "report.html")]
    for token in TOKENS.values():
        assert token not in done.stdout + done.stderr
        assert [name for name, data in stored.items() if token.encode() in data] == []


def test_a_traceback_that_python_prints_itself_hides_secrets() -> None:
    code = "from titrant.core.redaction import guard_output; guard_output(); import os; "
    code += "raise OSError(os.environ['HF_TOKEN'])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **TOKENS}, check=False
    )
    assert done.returncode == 1
    assert "OSError: [hidden]" in done.stderr
    assert TOKENS["HF_TOKEN"] not in done.stderr
