"""Attention of all queries: patterns, and scores of heads for which keys count for which queries."""
