"""The tables of `gans/recipes/results.json`, and the blocks of README files that are made from them."""

import json

import pytest

from gans.commands.results_tables import Table, dumps, filled, marked, read

TABLES = {
    "first": Table("README.md", ["images", "FID"], [["made", "**5.17**"], ["`real`", ""]]),
    "second-one": Table("README.md", ["Fréchet"], [["[1.0](#there)"]]),
}
OPEN, CLOSE = "<!-- results: first -->\n", "<!-- /results -->\n"
SHOWN = "| images | FID |\n|---|---|\n| made | **5.17** |\n| `real` | |\n"


def test_tables_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(f'{{"runs": [], "tables": {dumps(TABLES)}}}', encoding="utf-8")
    assert read(path) == TABLES
    assert list(read(path)) == list(TABLES)


def test_a_row_is_a_line_of_the_file():
    lines = dumps(TABLES).splitlines()
    assert sum(line.strip().rstrip(",") == '["made", "**5.17**"]' for line in lines) == 1
    assert json.loads(dumps({})) == {}


def test_a_table_with_an_unknown_field_is_refused(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"tables": {"first": {"readme": "README.md", "columns": [], "lines": []}}}', encoding="utf-8")
    with pytest.raises(ValueError, match=r"results.json: table 'first' has the fields .*'lines'.*expected .*'rows'"):
        read(path)


def test_blocks_are_found_outside_of_code():
    text = f"a\n\n{OPEN}old\n{CLOSE}\n```\n{OPEN}{CLOSE}```\n"
    [(key, start, end)] = marked(text)
    assert (key, text[start:end]) == ("first", "old\n")


def test_a_block_is_made_anew():
    text = f"before\n\n{OPEN}| images |\n|---|\n{CLOSE}\nbetween\n\n<!-- results: second-one -->\n{CLOSE}after\n"
    made = filled(text, TABLES)
    assert made.startswith(
        f"before\n\n{OPEN}{SHOWN}{CLOSE}\nbetween\n\n<!-- results: second-one -->\n| Fréchet |\n|---|\n"
    )
    assert made.endswith(f"| [1.0](#there) |\n{CLOSE}after\n")
    assert filled(made, TABLES) == made


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- results: frist -->\n<!-- /results -->\n", r"the block 'frist' is not in .* \(did you mean first\?\)"),
        (OPEN, "the block 'first' is not closed, expected a line"),
        (OPEN + OPEN + CLOSE, "the block 'first' is not closed before line 2"),
        (CLOSE, "line 1 closes a block that is not open"),
        ((OPEN + CLOSE) * 2, "the block 'first' is there 2 times, expected once"),
    ],
)
def test_a_wrong_block_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        filled(text, TABLES)


def test_a_row_without_a_cell_for_each_column_is_refused():
    tables = {"first": Table("README.md", ["images", "FID"], [["made"]])}
    with pytest.raises(ValueError, match=r"the table 'first' has 2 columns, but its row \['made'\] has 1 cell"):
        filled(OPEN + CLOSE, tables)
