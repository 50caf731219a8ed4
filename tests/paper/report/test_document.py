from __future__ import annotations

from hmn.paper.report.document import Block, as_html, as_markdown


def test_footnotes_stand_below_the_table() -> None:
    block = Block("One", ["above"], ["a", "b"], [["1", "2|3"]], ["below `code`"])
    assert as_markdown([block]) == "# One\n\nabove\n\n| a | b |\n|---|---|\n| 1 | 2\\|3 |\n\nbelow `code`\n"
    assert "<p>above</p><table>" in as_html([block])
    assert "</table><p>below <code>code</code></p>" in as_html([block])


def test_a_figure_is_kept_in_one_line_with_its_spread() -> None:
    page = as_html([Block("One", [], ["a"], [["2,472 ± 36 †"], ["more: 1 ± 2, 3 ± 4"]])])
    assert '<td class="figure">2,472 ± 36 †</td>' in page
    assert "<td>more: 1 ± 2, 3 ± 4</td>" in page
