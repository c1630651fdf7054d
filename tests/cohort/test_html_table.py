from html.parser import HTMLParser

from cohort.html_table import html_table


class _Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        if data.strip():
            self.text.append(data)


def test_a_table_holds_what_it_was_given_and_no_markup_of_strangers():
    evil = "<script>alert('x')</script>"
    reader = _Cells()
    reader.feed(html_table(evil, [("label", evil), (evil, 0.5), ("a & b", 3)]))
    assert reader.tags == ["table", "caption", "tr", "th", "th", "tr", "td", "td", "tr", "td", "td"]
    assert reader.text == [evil, "label", evil, evil, "0.5", "a & b", "3"]
