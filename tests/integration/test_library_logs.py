# SPDX-License-Identifier: Apache-2.0
"""Nothing personal leaves through what libraries log, at the most talkative level."""

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from botocore.exceptions import BotoCoreError
from PIL import Image, TiffImagePlugin

from pipeline.decoding import decode
from pipeline.errors import InfrastructureError
from pipeline.logs import configure_library_logging, configure_logging
from pipeline.paths import AllowedRoots
from pipeline.reading import ItemReader
from pipeline.settings import Settings
from storage.objects.s3 import s3_client
from storage.objects.s3_config import S3Config
from tests.support.processes import free_port

NAME = "wilhelmina"


@pytest.fixture
def lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a worker writes to standard error at the level debug."""
    errors = io.StringIO()
    monkeypatch.setattr("sys.stderr", errors)
    root = logging.getLogger()
    before, level = root.handlers, root.level
    settings = Settings(home=tmp_path, log_level="debug", log_format="json")
    configure_logging(settings)
    configure_library_logging(settings)
    yield errors
    root.handlers = before
    root.setLevel(level)
    structlog.reset_defaults()


def test_tags_of_a_picture_are_not_logged(lines: io.StringIO) -> None:
    """Pillow reports each TIFF tag at debug; a patient's name in one stays unsaid."""
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[270] = NAME
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "TIFF", tiffinfo=tags)
    assert NAME.encode() in stream.getvalue()
    decode(stream.getvalue())
    assert NAME not in lines.getvalue()


def test_the_key_of_an_object_is_not_logged(lines: io.StringIO) -> None:
    """Botocore reports each request at debug; neither address nor cause is told."""
    place = f"http://127.0.0.1:{free_port()}"
    config = S3Config(
        endpoint_url=place, access_key_id="a", secret_access_key="b", max_attempts=1
    )
    reader = ItemReader(AllowedRoots(()), lambda: s3_client(config))
    with pytest.raises(InfrastructureError):
        reader.read(f"s3://hospital/{NAME}.png")
    assert NAME not in lines.getvalue()
    assert "hospital" not in lines.getvalue()


@pytest.mark.parametrize("own_level", [None, logging.DEBUG])
def test_a_warning_of_a_library_says_where_and_not_what(
    lines: io.StringIO, own_level: int | None
) -> None:
    """The logger's name and the error's class remain, also where it set a level."""
    logger = logging.getLogger("urllib3.connectionpool")
    if own_level is not None:
        logger.setLevel(own_level)
    try:
        logger.debug("GET /hospital/%s.png", NAME)
        logger.info("GET /hospital/%s.png", NAME)
        logger.warning("Retrying after connection broken: /hospital/%s.png", NAME)
        logger.error(NAME, exc_info=BotoCoreError())
    finally:
        logger.setLevel(logging.NOTSET)
    assert NAME not in lines.getvalue()
    first, second = (json.loads(line) for line in lines.getvalue().splitlines())
    assert first["event"] == "library_warning"
    assert first["logger"] == "urllib3.connectionpool"
    assert second["error"] == "BotoCoreError"


def test_the_queues_warnings_stay_readable(lines: io.StringIO) -> None:
    """Celery and kombu see ids alone, and an operator needs what they say."""
    logging.getLogger("celery.worker").warning("Connection to broker lost, retry %d", 3)
    (line,) = lines.getvalue().splitlines()
    assert json.loads(line)["event"] == "Connection to broker lost, retry 3"


def test_our_own_events_keep_their_level(lines: io.StringIO) -> None:
    """Debug is still debug for what this program says, with listed keys alone."""
    structlog.get_logger().debug("hints_sent", count=3, uri=NAME)
    line = json.loads(lines.getvalue())
    assert (line["event"], line["count"]) == ("hints_sent", 3)
    assert "uri" not in line
