"""Commands in a network namespace of their own, where there is no network at all."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_study import write_study

from titrant.storage.store import Store

TITRANT = (sys.executable, "-c", "from titrant.cli import main; main()")


@pytest.fixture(scope="module")
def no_wire() -> tuple[str, ...]:
    """What puts a command where no address can be reached; skips where the system does not allow that."""
    command = ("unshare", "--user", "--map-root-user", "--net")
    if shutil.which("unshare") is None or subprocess.run([*command, "true"], check=False).returncode:
        pytest.skip("no network namespaces here (unshare --net)")
    return command


def test_without_network_a_study_of_a_local_model_runs_to_its_verdict(
    no_wire: tuple[str, ...], tmp_path: Path, make_toy_folder: Callable[[Path], Path]
) -> None:
    make_toy_folder(tmp_path / "model")
    training = {"passes": 1, "batch_rows": 8, "max_tokens": 400, "learning_rate": 1e-3}
    arms = {"target_rows": [6], "doses": {"general": [4]}, "seeds": 1}
    study = write_study(
        tmp_path / "study", test=6, model="../model", arms=arms, training=training, retention=None,
        numerics={"dtype": "fp32", "device": "cpu"},
    )  # fmt: skip
    out = tmp_path / "out"
    done = subprocess.run(
        [*no_wire, *TITRANT, "run", str(study), "--out", str(out), "--jobs", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "TITRANT_CACHE": str(tmp_path / "cache")},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "verdict: " in done.stdout
    assert (out / "model" / "model.safetensors").is_file()
    assert Store(out).damages() == []


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a hub that takes the call and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("what", ["model", "rows"])
@pytest.mark.parametrize("network", ["none", "silent"])
def test_a_name_of_the_hub_that_is_not_cached_fails_in_under_five_seconds_with_what_to_do(
    request: pytest.FixtureRequest, tmp_path: Path, what: str, network: str
) -> None:
    said = {"model": "maker/nothing"} if what == "model" else {"generalist": {"general": {"rows": "hub:maker/nothing"}}}
    study = write_study(tmp_path / "study", **said)
    prefix = request.getfixturevalue("no_wire") if network == "none" else ()
    endpoint = request.getfixturevalue("silent") if network == "silent" else "https://huggingface.co"

    def timed(**variables: str) -> tuple[subprocess.CompletedProcess[str], float]:
        environment = {**os.environ, "HF_HOME": str(tmp_path / "hf"), "HF_ENDPOINT": endpoint, **variables}
        command = [*prefix, *TITRANT, "plan", str(study)]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        return done, time.monotonic() - began

    done, seconds = timed()
    assert done.returncode == 2, done.stderr
    assert "maker/nothing" in done.stderr
    assert "Fix: " in done.stderr
    assert "Traceback" not in done.stderr
    if seconds >= 5:  # on a machine with so much else to do that starting takes long: waiting is what is bounded
        _, starting = timed(HF_HUB_OFFLINE="1")
        assert seconds - starting < 3.5
