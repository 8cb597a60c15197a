"""The reference of the command line is what the settings say."""

from __future__ import annotations

from benchmarks.commands_page import PAGE, commands_page


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == commands_page(), "run python -m benchmarks.commands_page"


def test_page_shows_choices_and_the_defaults_of_presets() -> None:
    page = commands_page()
    assert "| `--direction` | AtoB |" in page
    assert "mae (paper)" in page
    assert "| `--model` | required | Model file. |" in page
    assert "| `--statistics` | as the model says |" in page.partition("## export")[2]
    assert "| `--statistics` | image |" in page.partition("## import-weights")[2].partition("## export")[0]
    assert "()" not in page
