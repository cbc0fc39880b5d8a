# SPDX-License-Identifier: Apache-2.0
"""The report on paper: the page as it was stored, its canonical JSON attached.

The PDF is drawn when it is asked for and is derived: what counts is the JSON inside,
whose bytes are those that the ledger names. Nothing is fetched: the page may embed
data, and every other address is refused. What was signed since the page was written
follows on pages of its own.
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import ImageFile

from pipeline.errors import InfrastructureError
from pipeline.reports.html import CONTENT_POLICY, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEMPLATES = Path(__file__).parent / "templates"
#: The opening tag of a drawing; what people wrote is escaped and has no such tag.
_DRAWING = re.compile(r"<svg\b[^>]*>")

#: Name of the attachment.
ATTACHMENT = "report.json"


def render_pdf(
    page: bytes, document: bytes, sign_offs: Sequence[Mapping[str, Any]] = ()
) -> bytes:
    """Return the PDF of a report.

    Args:
        page: The HTML report as stored.
        document: The JSON report as stored, which is attached byte for byte.
        sign_offs: What reviewers said since, as `pipeline.sign_off.signed_by` gives it.

    Raises:
        InfrastructureError: the extra `pdf` is not installed.
    """
    with _weasyprint() as weasyprint:
        # The page carries its data; what another address would show is left out.
        fetcher = weasyprint.urls.URLFetcher(
            allowed_protocols=("data",), allow_redirects=False
        )
        report = json.loads(document)
        drawn = weasyprint.HTML(
            string=_on_paper(page.decode()), url_fetcher=fetcher
        ).render()
        pages = list(drawn.pages)
        if sign_offs:
            appendix = weasyprint.HTML(
                string=_on_paper(_appendix(report, sign_offs)), url_fetcher=fetcher
            ).render()
            pages += appendix.pages
        moment = _moment(report)
        drawn = drawn.copy(pages)
        drawn.metadata.attachments = [
            weasyprint.Attachment(
                file_obj=BytesIO(document),
                name=ATTACHMENT,
                description="The canonical JSON report, from which this is drawn.",
                created=moment,
                modified=moment,
                relationship="Source",
            )
        ]
        written: bytes = drawn.write_pdf(pdf_variant="pdf/a-3b")
    return written


def _on_paper(page: str) -> str:
    """Return the page with the rules for paper after its own, so that they count."""
    style, drawn = (
        f"<style>{(_TEMPLATES / name).read_text(encoding='utf-8')}</style>"
        for name in ("paper.css", "paper_plots.css")
    )
    page = page.replace("</head>", f"{style}</head>", 1)
    return _DRAWING.sub(lambda tag: tag[0] + drawn, page)


def _appendix(report: Mapping[str, Any], sign_offs: Sequence[Mapping[str, Any]]) -> str:
    return (
        environment()
        .get_template("signed.html.j2")
        .render(report=report, sign_offs=sign_offs, policy=CONTENT_POLICY)
    )


def _moment(report: Mapping[str, Any]) -> datetime:
    """Return when the run ended, so that the same report gives the same attachment."""
    run = report["run"]
    return datetime.fromtimestamp(run["finished_at"] or run["created_at"], tz=UTC)


def require_pdf() -> None:
    """Nothing happens if PDFs can be drawn here.

    Raises:
        InfrastructureError: the extra `pdf` is not installed.
    """
    with _weasyprint():
        pass


@contextmanager
def _weasyprint() -> "Iterator[Any]":
    truncated = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        import weasyprint  # noqa: PLC0415 - an extra, and slow to load
    except ImportError as exc:
        raise InfrastructureError(
            "A PDF needs the extra 'pdf'; install it with: pip install "
            "'affidavit[pdf]'."
        ) from exc
    except OSError as exc:
        # Its libraries come with the system and not with pip.
        raise InfrastructureError(
            "A PDF needs the library Pango, which is not on this machine; on Debian: "
            "apt install libpango-1.0-0 libpangoft2-1.0-0."
        ) from exc
    finally:
        # It makes Pillow take halves of pictures; an audit must tell them.
        ImageFile.LOAD_TRUNCATED_IMAGES = truncated
    yield weasyprint
