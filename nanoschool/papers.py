"""papers: PAPERS.md from the first lines of the methods: `python -m nanoschool.papers > PAPERS.md`."""

import re

from nanoschool import methods

ARXIV = re.compile(r"\b\d{4}\.\d{5}\b")


def page() -> str:
    """The methods and the papers that they name, as Markdown; a paper without an arXiv id is in the words."""
    rows = []
    for name, line in methods.describe().items():
        papers = ", ".join(f"[{id}](https://arxiv.org/abs/{id})" for id in ARXIV.findall(line))
        rows.append(f"| [`{name}`](nanoschool/methods/{name}.py) | {line.partition(': ')[2]} | {papers} |")
    head = "# Papers\n\nMade by `python -m nanoschool.papers`; a test compares. One method, one file.\n"
    return "\n".join([head, "| method | what it is | arXiv |", "|---|---|---|", *rows]) + "\n"


if __name__ == "__main__":
    print(page(), end="")
