"""A checkpoint belongs to one configuration, seed, code and data."""

from msabench import scratch


def test_the_folder_follows_what_decides_the_numbers(tmp_path):
    plan, code = tmp_path / "plan.json", tmp_path / "code"
    plan.write_text("1")
    code.mkdir()
    (code / "model.py").write_text("a")
    (code / "model.pyc").write_text("compiled")

    def place(name="ours-1"):
        return scratch.folder(tmp_path, name, plan, code)

    first = place()
    assert place() == first
    assert place("ours-2") != first
    (code / "model.pyc").write_text("compiled again")
    assert place() == first
    (code / "model.py").write_text("b")
    assert place() != first
    (code / "model.py").write_text("a")
    plan.write_text("2")
    assert place() != first
