"""Outputs on disk: whole or as they were at every moment of a death, one writer, nothing of others' touched."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from references.dying import Killed, dying
from references.synthetic_paths import synthetic_path
from saddlescope import files
from saddlescope.errors import RecordExistsError, StorageError
from saddlescope.files import beside, claim, recover, require_free, restored, write_file, writing
from saddlescope.records.store import load_path, save_path

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}


def _listing(folder: Path) -> list[str]:
    return sorted(str(place.relative_to(folder)) for place in folder.rglob("*"))


def _die_everywhere(
    folder: Path, prepare: Callable[[], None], act: Callable[[], None], check: Callable[[], None]
) -> int:
    """Let ``act`` die at each of its writes, and check what is there, and again after ``act`` has come to its end."""
    with dying(folder, 0) as counted:
        prepare()
        before = counted.count
        act()
        moments = counted.count - before
    for at in range(1, moments + 1):
        prepare()
        with dying(folder, at), pytest.raises(Killed):
            act()
        check()
        act()
        check()
    return moments


# At every moment of a death.


@pytest.mark.parametrize("linked", [False, True])
def test_a_file_is_the_old_or_the_new_whenever_its_writer_dies(tmp_path: Path, linked: bool) -> None:
    file, old, new = tmp_path / "a.json", "old" * 1000, "new" * 2000
    if linked:
        (tmp_path / "deep").mkdir()
        file.symlink_to("deep/real.json")

    def check() -> None:
        assert file.read_text() in (old, new)
        assert file.is_symlink() == linked

    def act() -> None:
        with claim(file):
            write_file(file, new, "the test")

    moments = _die_everywhere(tmp_path, lambda: file.write_text(old) and None, act, check)
    assert moments >= 2
    assert file.read_text() == new
    assert _listing(tmp_path) == (["a.json", "deep", "deep/real.json"] if linked else ["a.json"])


@pytest.mark.parametrize("exchanges", [True, False], ids=["one step", "two renames"])
def test_a_folder_is_the_old_or_the_new_whenever_its_writer_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    folder = tmp_path / "run.saddle"
    old, new = synthetic_path(seed=0), synthetic_path(seed=1)
    if not exchanges:
        monkeypatch.setattr(files, "_exchange", lambda *_: False)

    def prepare() -> None:
        save_path(old, folder, overwrite=folder.exists())

    def check() -> None:
        assert folder.exists() or not exchanges
        losses = load_path(folder).losses.tolist()  # gives a name back that was lost between two renames
        assert losses in (old.losses.tolist(), new.losses.tolist())

    def act() -> None:
        with claim(folder):
            save_path(new, folder, overwrite=True)

    moments = _die_everywhere(tmp_path, prepare, act, check)
    assert moments >= 8
    assert load_path(folder).losses.tolist() == new.losses.tolist()
    assert _listing(tmp_path) == ["run.saddle", "run.saddle/arrays.nc", "run.saddle/result.json"]


def test_this_system_exchanges_names_in_one_step(tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("renameat2 is Linux's")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"in {name}").touch()
    assert files._exchange(tmp_path / "a", tmp_path / "b")
    assert _listing(tmp_path) == ["a", "a/in b", "b", "b/in a"]
    assert not files._exchange(tmp_path / "a", tmp_path / "none")


KILLED = """
import sys
from pathlib import Path
from references.dying import dying
from references.synthetic_paths import synthetic_path
from saddlescope import files
from saddlescope.records.store import save_path
files._exchange = lambda *_: False
folder = Path(sys.argv[1])
with dying(folder.parent, int(sys.argv[2]), real=True):
    save_path(synthetic_path(seed=1), folder, overwrite=True)
"""


@pytest.mark.parametrize("at", [5, 7, 9])
def test_a_killed_process_loses_nothing_and_the_next_command_leaves_nothing(tmp_path: Path, at: int) -> None:
    folder = tmp_path / "run.saddle"
    save_path(synthetic_path(seed=0), folder)
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder), str(at)], env=ENVIRONMENT, check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(_listing(tmp_path)) > 3
    with claim(tmp_path / "another"):  # the next command, whatever it writes in this folder
        pass
    assert _listing(tmp_path) == ["run.saddle", "run.saddle/arrays.nc", "run.saddle/result.json"]
    assert load_path(folder).losses.tolist() in (
        synthetic_path(seed=0).losses.tolist(),
        synthetic_path(seed=1).losses.tolist(),
    )


def test_an_interruption_between_the_two_renames_gives_the_old_its_name_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run.saddle"
    save_path(synthetic_path(seed=0), folder)
    real, calls = os.rename, []

    def rename(source: Path, target: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        save_path(synthetic_path(seed=1), folder, overwrite=True)
    assert len(calls) == 3
    assert _listing(tmp_path) == ["run.saddle", "run.saddle/arrays.nc", "run.saddle/result.json"]
    assert load_path(folder).losses.tolist() == synthetic_path(seed=0).losses.tolist()


# One writer.

HOLDER = """
import sys, time
from pathlib import Path
from saddlescope.files import claim
with claim(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_processes_on_one_output_one_is_refused_until_the_other_has_ended(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a.json")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "link")], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for name in ("a.json", "link"):
            with pytest.raises(StorageError, match=r"another process is writing this output: out=.*a\.json.*Wait"):
                write_file(tmp_path / name, "mine", "the test")
        write_file(tmp_path / "b.json", "mine", "the test")
        holder.kill()
    write_file(tmp_path / "a.json", "mine", "the test")
    assert _listing(tmp_path) == ["a.json", "b.json", "link"]


def test_a_claim_may_be_taken_again_inside_and_is_given_back(tmp_path: Path) -> None:
    with claim(tmp_path / "a"), claim(tmp_path / "a"), writing(tmp_path / "a", "the test") as draft:
        draft.write_text("x")
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "a")], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.kill()


# Of others nothing is touched.

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=250)


@given(NAMES.filter(lambda name: name not in (".", "..")))
def test_names_beside_fit_on_every_disk_and_are_known_again(name: str) -> None:
    for ending in ("part", "old", "next"):
        hidden = beside(Path("x") / name, ending).name
        assert len(os.fsencode(hidden)) <= 255
        found = files.LEFTOVER.fullmatch(hidden)
        assert (found is not None) == (ending != "next")
        if found is not None and len(os.fsencode(name)) <= files.LABEL_BYTES:
            assert found["label"] == name
            assert found["digest"] == files._digest(os.fsencode(name))


@given(
    NAMES,
    st.sampled_from(["part", "old", "lock", "next", "tmp"]),
    st.text("0123456789abcdef", min_size=10, max_size=10),
)
def test_foreign_names_of_the_same_form_are_left_alone(
    tmp_path_factory: pytest.TempPathFactory, label: str, ending: str, digest: str
) -> None:
    assume(len(os.fsencode(label)) < 200)
    assume(digest != files._digest(os.fsencode(label)))
    folder = tmp_path_factory.mktemp("foreign")
    place = folder / f".{label}.{digest}.{ending}"
    place.write_text("precious")
    with claim(folder / "mine"):
        pass
    assert place.read_text() == "precious"


def test_what_lies_beside_is_put_right_for_every_output_of_the_folder_but_the_claimed(tmp_path: Path) -> None:
    part, old = beside(tmp_path / "a", "part"), beside(tmp_path / "b", "old")
    kept = beside(tmp_path / "c", "part")
    for place in (part, old, kept):
        place.mkdir()
        (place / "x").touch()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "d")], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        held = beside(tmp_path / "d", "part")
        held.mkdir()
        with claim(tmp_path / "e"):
            pass
        assert _listing(tmp_path) == sorted(["b", "b/x", held.name])
        holder.kill()


def test_a_result_that_is_read_gets_its_name_back_first(tmp_path: Path) -> None:
    old = beside(tmp_path / "run", "old")
    old.mkdir()
    assert restored(tmp_path / "run") == tmp_path / "run"
    assert _listing(tmp_path) == ["run"]
    recover(tmp_path / "run")
    assert _listing(tmp_path) == ["run"]


@pytest.mark.parametrize("place", ["nowhere", "loop", "file", "folder"])
def test_links_are_followed_or_refused_never_broken(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to(link if place == "loop" else tmp_path / place)
    with pytest.raises(RecordExistsError, match="Use another name"):
        require_free(link, overwrite=True, objection=lambda _: "not mine", kind="a result")
    if place in ("nowhere", "file"):
        write_file(link, "new", "the test")
        assert (tmp_path / place).read_text() == "new"
    else:
        with pytest.raises(StorageError, match="the test cannot be written"):
            write_file(link, "new", "the test")
    assert link.is_symlink()
    assert not list(tmp_path.glob(".*"))
