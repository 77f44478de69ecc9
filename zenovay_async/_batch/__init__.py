"""What a batch is made of; ``zenovay_async.batch`` puts it together."""
