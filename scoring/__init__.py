"""Captions to numbers: metrics, the collapse alarm, evaluations, comparisons."""
