"""Criteria without a teacher."""
