"""The long versions (`make torture`): every moment, every fault, every size of a disk. Counts go to torture.json."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_study import calm_content, without_times, write_study

from titrant.storage.store import Store

pytestmark = [pytest.mark.torture, pytest.mark.timeout(3600)]
SUPPORT = Path(__file__).parents[1] / "support"
BreakStudy = Callable[..., dict[str, Any]]


def test_killed_at_a_hundred_moments_of_a_real_study_everything_comes_out_bit_for_bit(
    roomy: Path, break_study: BreakStudy, tally: Counter[str]
) -> None:
    found = break_study("kill", roomy, "spread:60,random:40", real=True)
    tally["moments killed, real training"] += found["broken"]
    assert found["wrong"] == {}
    assert found["broken"] == 100


@pytest.mark.parametrize(("how", "counted"), [("kill", "moments killed, fake lab"), ("fail", "faults injected")])
def test_broken_at_any_operation_on_its_store_a_study_ends_as_a_calm_one(
    roomy: Path, break_study: BreakStudy, tally: Counter[str], how: str, counted: str
) -> None:
    arms = {"target_rows": [6], "doses": {"general": [4]}, "seeds": 1}
    found = break_study(how, roomy, "all", arms=arms, train=6, test=6, pool=6)
    tally[counted] += found["broken"]
    assert found["wrong"] == {}
    assert found["broken"] == len(found["operations"]) > 200


def test_any_operation_of_a_real_training_that_fails_loses_nothing(
    roomy: Path, break_study: BreakStudy, tally: Counter[str]
) -> None:
    found = break_study("fail", roomy, "spread:60", real=True)
    tally["faults injected"] += found["broken"]
    assert found["wrong"] == {}


# ---------------------------------------------------------------------------------------------------------- small disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A disk in memory of a size that can be changed; skips where none can be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = False

    def sized(size: str) -> Path:
        nonlocal mounted
        again = ["-o", f"remount,size={size}"] if mounted else ["-t", "tmpfs", "-o", f"size={size}"]
        done = subprocess.run(["mount", *again, "tmpfs", str(folder)], capture_output=True, text=True, check=False)
        if done.returncode and not mounted:
            pytest.skip(f"no small disk can be mounted here, root only: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        mounted = True
        return folder

    yield sized
    if mounted:
        subprocess.run(["umount", str(folder)], check=True)


def titrant(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    said = json.dumps({"prepared": str(folder / "prepared"), "backend": {"saved_bytes": 60_000}})
    return subprocess.run(
        [sys.executable, str(SUPPORT / "titrant_with_fakes.py"), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "TITRANT_TRIAL": said},
        check=False,
    )


def test_on_a_disk_of_any_size_a_study_says_that_it_is_full_and_goes_on_when_there_is_room(
    tmp_path: Path, small_disk: Callable[[str], Path], tally: Counter[str]
) -> None:
    study = write_study(tmp_path / "study")
    assert titrant(tmp_path, "run", str(study), "--out", str(tmp_path / "calm"), "--jobs", "1").returncode == 0
    calm = without_times(calm_content(tmp_path / "calm"))
    sizes = [8, 12, 16, 24, 32, 64, 96, 128, 192, 256, 320, 384, 448, 512, 640, 768]
    filled = 0
    for size in sizes:
        disk = small_disk(f"{size}k")
        out = disk / "out"
        run = ("run", str(study), "--out", str(out), "--jobs", "1")
        done = titrant(tmp_path, *run)
        if done.returncode:
            filled += 1
            assert (done.returncode, done.stdout) == (1, ""), done.stderr
            assert "No space left on device" in done.stderr
            assert "Traceback" not in done.stderr
            damaged = [damage.path for damage in Store(out).damages()] if (out / "store.json").exists() else []
            assert [path for path in damaged if not path.endswith("ledger.jsonl")] == [], size
            small_disk("64m")
            again = titrant(tmp_path, *run)
            assert again.returncode == 0, again.stderr
        assert without_times(calm_content(out)) == calm, size
        assert Store(out).damages() == []
        assert not list(out.rglob(".tmp-*"))
        subprocess.run(["rm", "-rf", str(out)], check=True)
    tally["disks filled"] += filled
    assert filled >= 8
