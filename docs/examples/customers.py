"""One client for many customers, each with a key of their own.

Run it with: python docs/examples/customers.py KEY...
"""

import asyncio
import logging
import sys

from zenovay_async import Event, QuotaThresholdReached, RateLimited, SchemaDrift, Zenovay, ZenovayError


def on_event(event: Event) -> None:
    match event:
        case RateLimited(seconds=seconds):
            print(f"rate limited: paused for {seconds:.0f} s")
        case QuotaThresholdReached(used=used, limit=limit):
            print(f"{used} of {limit} requests of this month are used")
        case SchemaDrift(path=path, problem=problem):
            print(f"the schema of the API has changed at {path}: {problem}")
        case _:
            pass


async def main(keys: list[str]) -> None:
    logging.basicConfig(level=logging.WARNING)
    async with Zenovay(keys[0], on_event=on_event, timeout=20) as zenovay:
        for number, key in enumerate(keys, 1):
            # A sibling shares the connections, and has a budget of its own, as the API counts each key separately.
            customer = zenovay.with_options(api_key=key)
            try:
                websites = await customer.websites.list()
            except ZenovayError as error:
                print(f"customer {number}: {error}")
                continue
            response = await customer.with_raw_response(customer.usage)()
            print(f"customer {number}: {websites.total} websites, request {response.request_id}, {customer.quota}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
