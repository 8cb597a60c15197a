"""Options of the benchmarks: a mistake is one line, not a traceback."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from benchmarks import backends, translation
from benchmarks.arguments import size_argument


def test_sizes_are_those_of_the_command_line() -> None:
    assert size_argument("2GB") == 2_000_000_000
    assert size_argument("1MiB") == 1 << 20


@pytest.mark.parametrize("module", [translation, backends])
def test_malformed_size_is_one_line(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", "--out", "out", "--max-memory", "much"])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    assert stopped.value.code == 2
    assert "size 'much' is not understood" in capsys.readouterr().err.splitlines()[-1]
