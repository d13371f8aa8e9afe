"""The site that the tests of one module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .site import Site, running


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A running lab, configured; see `site.Site` for what can be done with it."""
    with running(tmp_path_factory.mktemp("site")) as made:
        yield made
