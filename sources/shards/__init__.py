"""Tar shards of pictures and captions in webdataset's layout: written, found, fetched, counted, read by number."""
