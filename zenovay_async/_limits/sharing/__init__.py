"""One budget for all processes that use a key: a rate limiter whose state is kept in a store."""
