"""The API's resources: one module for each attribute of the client, with its Structs and its methods.

A method checks its arguments and describes a call; a ``Caller`` carries the call out. A new endpoint needs its Structs,
one :class:`~zenovay_async._protocol.call.Endpoint` (a :class:`~zenovay_async.resources.paging.PagedEndpoint` if it
lists in pages), and one short method. A new attribute of the client needs a new module with a ``Resource``.
"""
