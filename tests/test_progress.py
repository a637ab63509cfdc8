"""Long work is never silent: what stands on standard error where it is no terminal."""

import time

from saddlescope.cli import progress


def test_short_work_writes_nothing(capsys):
    with progress.progress_bar() as report:
        assert report is not None
        report(1, 2, "half")
    assert capsys.readouterr().err == ""


def test_long_work_says_how_far_it_is_and_how_long_it_will_take(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.05)
    with progress.progress_bar() as report:
        time.sleep(0.2)  # nothing called back yet: compiling
        report(1, 4, "distance 1e-1\x1b[2J")
        time.sleep(0.2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("preparing")
    assert "1/4 distance 1e-1" in lines[-1]
    assert lines[-1].endswith("s left")
    assert "\x1b" not in "".join(lines)
    seconds, left = float(lines[-1].split()[0]), float(lines[-1].split()[-3])
    assert left >= 3 * seconds - 1  # a quarter is done; both are rounded to whole seconds


def test_the_lines_end_with_the_work_even_when_it_fails(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.02)
    try:
        with progress.progress_bar():
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    capsys.readouterr()
    time.sleep(0.1)
    assert capsys.readouterr().err == ""


def test_quiet_work_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.01)
    with progress.progress_bar(quiet=True) as report:
        assert report is None
        time.sleep(0.05)
    assert capsys.readouterr().err == ""
