"""The test suite of requests, with a ConnectionManager in the place of its Session.

``python -m compat`` runs it both ways and prints the difference.
"""
