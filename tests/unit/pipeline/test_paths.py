# SPDX-License-Identifier: Apache-2.0
"""No path of an audit leads out of the allowed folders."""

from pathlib import Path

import pytest

from pipeline.errors import SpecError
from pipeline.paths import AllowedRoots, PathEscapeError, is_remote


@pytest.fixture
def roots(tmp_path: Path) -> AllowedRoots:
    """One allowed folder beside a forbidden one."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "secret.png").write_bytes(b"secret")
    return AllowedRoots((tmp_path / "in",))


def test_relative_text_counts_from_the_base(roots: AllowedRoots) -> None:
    """A relative path is looked for in the spec's folder, wherever the process is."""
    base = roots.roots[0]
    assert roots.resolve("a/../b.png", base=base) == base / "b.png"


@pytest.mark.parametrize(
    "text", ["../out/secret.png", "/etc/passwd", "a/../../out/secret.png", ".."]
)
def test_a_path_out_of_the_roots_is_refused(roots: AllowedRoots, text: str) -> None:
    """Dots and absolute paths lead nowhere else, and the message names the setting."""
    with pytest.raises(PathEscapeError, match="AFFIDAVIT_ALLOWED_ROOTS") as caught:
        roots.resolve(text, base=roots.roots[0])
    assert "\n" not in str(caught.value)


def test_a_symlink_out_of_the_roots_is_refused(
    roots: AllowedRoots, tmp_path: Path
) -> None:
    """What counts is where a link ends and not where it lies."""
    (roots.roots[0] / "link").symlink_to(tmp_path / "out")
    with pytest.raises(PathEscapeError):
        roots.resolve("link/secret.png", base=roots.roots[0])


def test_a_root_may_itself_be_a_symlink(roots: AllowedRoots, tmp_path: Path) -> None:
    """Files under a linked root are allowed, by either name."""
    (tmp_path / "alias").symlink_to(roots.roots[0])
    aliased = AllowedRoots((tmp_path / "alias",))
    assert aliased.resolve("x.png", base=tmp_path / "alias").parent == roots.roots[0]


def test_a_neighbour_whose_name_begins_alike_is_outside(
    roots: AllowedRoots, tmp_path: Path
) -> None:
    """The folder `in` does not allow the folder `in2`."""
    with pytest.raises(PathEscapeError):
        roots.resolve(str(tmp_path / "in2" / "x"), base=tmp_path)


def test_text_that_is_no_path_is_a_spec_error(roots: AllowedRoots) -> None:
    """A NUL character or a link to itself gives a sentence and no crash."""
    loop = roots.roots[0] / "loop"
    loop.symlink_to(loop)
    for text in ("a\0b", "loop/x"):
        with pytest.raises(SpecError, match="cannot be followed"):
            roots.resolve(text, base=roots.roots[0])


def test_only_s3_addresses_are_remote() -> None:
    """Everything else is a local path."""
    assert is_remote("s3://bucket/key")
    assert not is_remote("photos/s3://x")
    assert not is_remote("/data/x.png")


def test_a_root_that_is_given_twice_counts_once(tmp_path: Path) -> None:
    """The message names each folder once, however it came to be on the list."""
    (tmp_path / "link").symlink_to(tmp_path)
    roots = AllowedRoots((tmp_path, tmp_path / "link", tmp_path))
    assert roots.roots == (tmp_path.resolve(),)
    with pytest.raises(PathEscapeError) as caught:
        roots.resolve("/elsewhere", base=tmp_path)
    assert str(caught.value).count(str(tmp_path)) == 1
