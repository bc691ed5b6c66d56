# SPDX-License-Identifier: BSD-3-Clause
"""For ci/bench and ci/costs: puts what they found into a page of the documentation."""


def put_into_page(page, kind, text):
    """Between the marks `<!-- kind -->` and `<!-- end of kind -->`."""
    old = page.read_text()
    begin, end = f"<!-- {kind} -->\n", f"<!-- end of {kind} -->"
    page.write_text(old[:old.index(begin) + len(begin)] + f"```\n{text}```\n" + old[old.index(end):])
