"""What the user is told of an error: one line that names a section of the README that there is."""

import re
from errno import ENOSPC
from pathlib import Path

import pytest

from msabench import commands, errors, params, training
from msabench.text import load_bert

README = Path(__file__).resolve().parents[1] / "README.md"


NAMED = {*errors.SECTIONS.values(), *(command.SECTION for command in commands.found().values())}


@pytest.mark.parametrize("section", sorted(NAMED))
def test_every_section_is_a_heading_of_the_readme(section):
    content = re.sub("^```.*?^```", "", README.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert section in re.findall("^#+ (.+)$", content, re.MULTILINE)


def test_no_kind_hides_a_later_one():
    """The first that fits is taken: a kind must stand before those that it is a special case of."""
    kinds = list(errors.SECTIONS)
    for place, kind in enumerate(kinds):
        assert not any(issubclass(later, kind) for later in kinds[place + 1 :])


@pytest.mark.parametrize(
    ("error", "section"),
    [
        (errors.ParamsError("lr: 'abc'"), "Try one setting"),
        (errors.DataError("data.pkl: truncated"), "Data"),
        (OSError(ENOSPC, "No space left on device", "runs"), "Interrupted"),
        (ModuleNotFoundError("No module named 'torch'"), "Systems"),
    ],
)
def test_a_line_says_what_is_wrong_and_where_to_read_on(error, section):
    line = errors.told(error, place="ours-1")
    assert line.startswith(f"error: ours-1: {error}")
    assert line.endswith(f' (README: "{section}")')


def test_a_message_of_several_lines_becomes_one():
    assert errors.told(errors.DataError("a\n  b")) == 'error: a b (README: "Data")'


def test_errors_say_themselves_which_section_is_theirs(tmp_path):
    """Those of devices and text encoders are about data no more than about settings."""
    with pytest.raises(errors.EncoderError, match="no BERT at 'bert-huge'") as encoder:
        load_bert("bert-huge")
    assert errors.told(encoder.value).endswith('(README: "The report\'s own setting")')
    with pytest.raises(errors.ParamsError) as setting:
        params.load(_written(tmp_path / "params.yaml", "lr: abc"))
    assert errors.told(setting.value).endswith('(README: "Try one setting")')


def test_a_device_that_is_not_there(monkeypatch):
    monkeypatch.setattr(training.torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(errors.DeviceError, match="device: 'mps' is not available here") as device:
        training.choose_device("mps")
    assert errors.told(device.value).endswith('(README: "Systems")')


def _written(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path
