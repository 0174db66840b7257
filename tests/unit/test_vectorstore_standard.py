"""LangChain's own suite for vector stores, over documents that come from no channel."""

import pytest
from langchain_core.vectorstores import VectorStore
from langchain_tests.integration_tests import VectorStoreIntegrationTests

from indexing.vectors import NO_CHANNEL, FaissVectorStore


class TestFaissVectorStore(VectorStoreIntegrationTests):  # type: ignore[misc]
    @pytest.fixture
    def vectorstore(self) -> VectorStore:
        return FaissVectorStore(self.get_embeddings(), channels=frozenset({NO_CHANNEL}))
