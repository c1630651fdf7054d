"""What stands between the cells of a text."""

import pytest

from cohort.readers.delimited_text import delimiter_of


@pytest.mark.parametrize(
    ("lines", "delimiter"),
    [
        (["a,b,c\n", "1,2,3\n"], ","),
        (["a;b;c\n", "1,5;2;3\n"], ";"),
        (["a\tb c\n", "1\t2, 3\n"], "\t"),
        (["a|b\n", "1|2\n"], "|"),
        (["image,labels\n", '1.png,"a;b;c"\n'], ","),
        (["image,labels\n", "1.png,a|b|c\n"], ","),
        (["00000003_000.png 0 0 1\n", "00000003_001.png 0 1 0\n"], " "),
        (["image\n", "a b.png\n"], ","),
        (["image\n"], ","),
        (["image,a,b\n", "1.png,1\n"], ","),
        (["image,report\n", '1.png,"two\n', 'lines; of text"\n'], ","),
        ([], ","),
    ],
)
def test_a_delimiter_cuts_all_rows_alike(lines, delimiter):
    assert delimiter_of(lines) == delimiter
