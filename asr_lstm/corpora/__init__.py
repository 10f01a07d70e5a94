"""Corpora: one module each, with `prepare_NAME` and, where the corpus may be fetched, `download_NAME`."""
