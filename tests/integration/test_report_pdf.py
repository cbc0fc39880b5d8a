# SPDX-License-Identifier: Apache-2.0
"""The report as a PDF: its canonical JSON inside, nothing fetched, extras named."""

import io
import json
import socket
import sys
from ctypes.util import find_library
from pathlib import Path

import pytest
from pypdf import PdfReader

from pipeline.errors import InfrastructureError
from pipeline.reports.document import build_document, document_bytes
from pipeline.reports.html import render_html
from pipeline.reports.inputs import Picture
from pipeline.reports.pdf import render_pdf, require_pdf
from tests.support.workspace import Workspace, photograph
from tests.unit.pipeline.reports.conftest import sample_inputs

#: WeasyPrint leaves the file of the colour profile of PDF/A to the collector.
pytestmark = [
    pytest.mark.skipif(
        find_library("pango-1.0") is None,
        reason="WeasyPrint draws with Pango, which no Python package brings",
    ),
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def _read(data: bytes) -> tuple[PdfReader, str]:
    reader = PdfReader(io.BytesIO(data))
    text = " ".join(page.extract_text() for page in reader.pages)
    return reader, " ".join(text.split())


def test_the_pdf_holds_the_canonical_json(tmp_path: Path) -> None:
    """The attachment is byte for byte the report that the ledger names."""
    workspace = Workspace(folder=tmp_path / "w").lay_out(4)
    workspace.run(workspace.write_spec(metrics=["deletion"]))
    assert workspace.call("sign-off", "latest", "--verdict", "accept").code == 0
    answer = workspace.call(
        "report", "latest", "--pdf", "r.pdf", "--out", "out", "--json"
    )
    assert answer.code == 0, answer.err
    assert answer.document["pdf"] == str(workspace.folder / "r.pdf")
    reader, text = _read((workspace.folder / "r.pdf").read_bytes())
    attached = reader.attachments["report.json"][0]
    assert attached == (workspace.folder / "out" / "report.json").read_bytes()
    document = json.loads(attached)
    for section in document["sections"]:
        assert section["title"] in text
    assert "Signed since this report was written" in text
    entries = [json.loads(row["body"]) for row in workspace.rows("ledger_entries")]
    assert sum(entry["action"] == "report:read" for entry in entries) == 1


def test_a_pdf_that_cannot_be_written_records_nothing(tmp_path: Path) -> None:
    """A folder in its place is one sentence, exit 4, and no entry."""
    workspace = Workspace(folder=tmp_path / "w").lay_out(4)
    workspace.run(workspace.write_spec())
    before = len(workspace.rows("ledger_entries"))
    answer = workspace.call("report", "latest", "--pdf", "photos")
    assert answer.code == 4
    assert "photos" in answer.err
    assert len(workspace.rows("ledger_entries")) == before


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without WeasyPrint the sentence has the line that installs it."""
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    with pytest.raises(InfrastructureError, match=r"pip install 'affidavit\[pdf\]'"):
        require_pdf()


def test_numbers_of_the_page_are_on_paper() -> None:
    """What the HTML shows of means and sections, the PDF shows too."""
    document = build_document(sample_inputs())
    picture = Picture(
        title="Input",
        description="A dot.",
        data_uri="data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAA"
        "CklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==",
    )
    page = render_html(document, {0: [picture]})
    data = render_pdf(page.encode(), document_bytes(document))
    _reader, text = _read(data)
    for part in document["metrics"]:
        if part["n"]:
            assert part["title"] in text
    assert "All" in text
    assert document["provenance"]["digests"]["result"][:40] in text.replace(" ", "")
    assert "Signed since" not in text


def test_nothing_is_fetched(tmp_path: Path) -> None:
    """A page that refers to a file or a server gets neither, whatever it says."""
    photograph(0).save(tmp_path / "secret.png")
    document = build_document(sample_inputs())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        addresses = [
            (tmp_path / "secret.png").as_uri(),
            f"http://127.0.0.1:{server.getsockname()[1]}/x.png",
        ]
        extra = "".join(f'<img src="{address}" alt="">' for address in addresses)
        page = render_html(document).replace("</main>", f"{extra}</main>")
        data = render_pdf(page.encode(), document_bytes(document))
        with pytest.raises(BlockingIOError):
            server.accept()
    reader, _text = _read(data)
    assert [image.name for page in reader.pages for image in page.images] == []
