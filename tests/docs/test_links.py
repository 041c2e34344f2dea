"""Every link between the documents leads somewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from encrypted_sessions_tests.documents import ROOT, anchors, documents, file_of, links, pictures


@pytest.mark.parametrize("path", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_links_of_a_document_lead_somewhere(path: Path) -> None:
    for target in (*links(path), *pictures(path)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        aim = (path.parent / file).resolve() if file else path
        assert aim.is_relative_to(ROOT), target
        aim = file_of(aim.relative_to(ROOT).as_posix())
        assert aim.exists(), target
        assert not anchor or anchor in anchors(aim), target


def test_every_page_is_linked_from_the_index_and_the_index_from_the_readme() -> None:
    index = ROOT / "docs" / "index.md"
    docs = index.parent
    pages = {str(path.relative_to(docs)) for path in documents() if path.is_relative_to(docs)} - {"index.md"}
    assert pages <= {target.partition("#")[0] for target in links(index)}
    assert "docs/index.md" in set(links(ROOT / "README.md"))
