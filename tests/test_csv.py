"""Tables of utterances: what is wrong with a file as text, by line, byte and likely cause."""

from pathlib import Path

import pytest

from msabench.data.sources import _csv
from msabench.errors import DataError

HEADER = "id,split,text,label\n"
ROWS = HEADER + "".join(f"a{i},train,I give it {i} points,{i}\n" for i in range(5))


def refused(path: Path, content: bytes) -> str:
    """Return the one line that refuses a file, without its name."""
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(_csv.rows_of(path, ["id", "split", "text", "label"]))
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


WESTERN, ASIAN = "Windows-1252", "or another encoding of East Asia"
ENCODED = {
    "cp1252": ("It\u2019s a café", "0x92", WESTERN),
    "latin-1": ("très bien", "0xe8", WESTERN),
    "latin-1, two in a row": ("créée", "0xe9", WESTERN),
    "latin-1, within a word": ("célèbre", "0xe9", WESTERN),
    "latin-1, German": ("Größe über alles", "0xf6", WESTERN),
    "gbk": ("很好 我喜欢这部电影", "0xba", f"GBK {ASIAN}"),
    "gbk, short": ("很好", "0xba", f"GBK {ASIAN}"),
    "gbk, traditional": ("很好 我喜歡這部電影", "0xba", f"GBK {ASIAN}"),
    "big5": ("很好 我喜歡這部電影", "0xab", f"Big5 {ASIAN}"),
    "big5, short": ("電影", "0xb9", f"Big5 {ASIAN}"),
}


@pytest.mark.parametrize("above", [HEADER, ROWS])
@pytest.mark.parametrize("name", ENCODED)
def test_another_encoding_is_named_with_line_and_byte(
    tmp_path: Path, name: str, above: str
) -> None:
    text, byte, likely = ENCODED[name]
    content = f"{above}b,train,{text},1\n".encode(name.partition(",")[0])
    place = f"line {above.count(chr(10)) + 1}: byte {byte} is not UTF-8"
    remedy = f"the file looks like {likely}: save it as UTF-8"
    assert refused(tmp_path / "a.csv", content) == f"{place}; {remedy}"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_the_unicode_text_of_excel_is_named(tmp_path: Path, encoding: str) -> None:
    message = refused(tmp_path / "a.csv", ROWS.encode(encoding))
    likely = encoding[:6].upper()
    assert message.startswith("line 1: byte 0x")
    assert message.endswith(f"; the file looks like {likely}: save it as UTF-8")


def test_an_alphabet_that_nothing_tells_is_not_guessed(tmp_path: Path) -> None:
    content = f"{ROWS}b,train,хороший фильм,1\n".encode("cp1251")
    message = "line 7: byte 0xf5 is not UTF-8; save it as UTF-8"
    assert refused(tmp_path / "a.csv", content) == message


@pytest.mark.parametrize("byte", ["c3", "00"])
def test_a_damaged_line_of_utf8_is_to_be_corrected(tmp_path: Path, byte: str) -> None:
    content = f"{ROWS}b,train,très bien,1\n".encode() + bytes.fromhex(byte) + b",train,c,1\n"
    problem = "no text" if byte == "00" else "not UTF-8"
    message = f"line 8: byte 0x{byte} is {problem}, as the rest of the file is: correct this line"
    assert refused(tmp_path / "a.csv", content) == message


@pytest.mark.parametrize(
    ("separator", "words"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")]
)
def test_another_separator_is_named(tmp_path: Path, separator: str, words: str) -> None:
    message = refused(tmp_path / "a.csv", ROWS.replace(",", separator).encode())
    assert message.startswith(f"the separators are {words}; save it with commas: 'id")
