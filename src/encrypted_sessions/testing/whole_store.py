"""The suite for whole stores, as maintenance uses them."""

from __future__ import annotations

from .whole_store_changing import WholeStoreChanging
from .whole_store_putting_back import WholeStorePuttingBack
from .whole_store_reading import WholeStoreReading

__all__ = ["WholeStoreConformance"]


class WholeStoreConformance(WholeStoreReading, WholeStoreChanging, WholeStorePuttingBack):
    """Tests that every `WholeStore` should pass. For pytest: inherit from it, and say how a store is opened.

        class TestMyStore(WholeStoreConformance):
            @pytest.fixture(autouse=True)
            def _folder(self, tmp_path):
                self.folder = tmp_path

            def open_store(self):
                return MyStore(self.folder)

            async def write_rows(self, rows):
                ...   # append them, as sessions do

            async def change_row(self, session_id, position, text):
                ...   # as another program would do it

    Each test begins with an empty store, and runs in an event loop of its own.
    """
