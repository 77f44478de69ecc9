"""What one key may spend: its rate limit, its monthly quota, its retries."""
