"""Responses that are kept, so that no question is asked twice."""
