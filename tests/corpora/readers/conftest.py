import pytest
from corpora.readers.skeletons import Skeleton, published


@pytest.fixture
def corpus(tmp_path):
    """Build the skeleton of a kind of corpus."""
    return lambda kind: published(tmp_path / "published", kind)


@pytest.fixture
def skeleton(tmp_path):
    """An empty folder for a corpus of a kind."""
    return lambda kind: Skeleton(tmp_path / "published", kind)
