"""Names in any script on the sheets that Pillow draws."""

from cohort.fonts import Font, by_numbers

NOWHERE = "\U000f1234\U000f1235"
"""Letters for private use, which no font has."""


def test_plain_names_are_drawn_in_pillows_own_font():
    font = Font(["Pleural Effusion", "p-1 (n = 3)"], size=10)
    assert font.drawn.getname()[0] == "Aileron" and font.lacking == set()


def test_another_font_is_taken_for_what_pillows_own_lacks():
    font = Font(["Épanchement", "Жидкость", "β"], size=10)
    assert font.lacking == set() and font.drawn.getname()[0] == "DejaVu Sans"
    assert font.as_drawn("Épanchement") == "Épanchement"
    assert bytes(font.drawn.getmask("É")) != bytes(font.drawn.getmask("\U0010ffff"))


def test_what_no_font_has_is_written_by_its_number_so_that_two_names_differ():
    font = Font([NOWHERE, "Ödem"], size=10)
    assert font.lacking == set(NOWHERE)
    assert font.as_drawn(f"Ödem {NOWHERE[0]}") == "Ödem U+F1234"
    assert by_numbers(NOWHERE * 4, NOWHERE).endswith("U+F1235…")
