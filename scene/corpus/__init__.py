"""Data sets in one record type: importers, builders and the on-disk store."""
