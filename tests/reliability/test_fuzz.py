"""Every door holds against any bytes: our error or none, soon, in bounded memory."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from fuzz_targets import DOORS, SEEDS
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

# What parsers stumble over: marks without their partner, depth, numbers without end, bytes that are no text.
_PIECES = [
    *(b"", b"\0", b'"', b"\\", b"]", b"}", b",", b"\n", b"\r", b"-", b"..", b"/", b"=" * 50, b"[" * 300, b"{" * 300),
    *(b"1e999", b"9" * 5000, b"null", b"NaN", b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7),
    *(b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"\xe2\x80\xa8", b"\x1b[2J"),
    *(b"&a", b"*a", b"<<: *a", b"${", b"!!python/object:os.system"),
]
_edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 40), st.sampled_from(_PIECES) | st.binary(max_size=12)), max_size=5
)


def edited(seed: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """The seed with pieces of it replaced."""
    for place, length, piece in edits:
        at = int(place * len(seed))
        seed = seed[:at] + piece + seed[at + length :]
    return seed


def tries(door: str, examples: int) -> int:
    """Try that many edits of honest inputs on a door; how many it were."""
    tried: list[int] = []

    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(data=st.builds(edited, st.sampled_from(SEEDS[door]), _edits) | st.binary(max_size=200))
    @example(data=b"")
    def one(data: bytes) -> None:
        tried.append(len(data))
        began = time.process_time()
        DOORS[door](data)
        assert time.process_time() - began < 5

    one()
    return len(tried)


@pytest.mark.parametrize("door", DOORS)
def test_no_bytes_get_through_a_door_with_an_error_that_is_not_ours(door: str) -> None:
    assert tries(door, 60) > 50


@pytest.mark.parametrize("door", DOORS)
def test_an_honest_input_is_taken(door: str) -> None:
    for seed in SEEDS[door]:
        DOORS[door](seed)


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("door", DOORS)
def test_many_inputs_get_through_no_door(door: str, tally: Counter[str]) -> None:
    tally["inputs tried, hypothesis"] += tries(door, 1_000)


@pytest.mark.torture
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("door", DOORS)
def test_a_fuzzer_that_watches_the_code_finds_no_way_through_a_door(
    door: str, tally: Counter[str], tmp_path: Path
) -> None:
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: pip install titrant[fuzz]")
    script = Path(__file__).parents[1] / "support" / "fuzz_targets.py"
    options = ["-runs=30000", "-max_total_time=25", f"-artifact_prefix={tmp_path}/"]
    done = subprocess.run([sys.executable, str(script), door, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:] + "".join(str(path.read_bytes()) for path in tmp_path.iterdir())
    ended = re.search(r"Done (\d+) runs", done.stderr)
    assert ended is not None
    assert int(ended[1]) > 100
    tally["inputs tried, atheris"] += int(ended[1])
