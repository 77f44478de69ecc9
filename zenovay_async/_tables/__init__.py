"""What a :class:`zenovay_async.tables.Table` is made of."""
