"""The API's resources: one module for each attribute of the client, with its Structs and its methods.

A method checks its arguments and describes a call; a ``Caller`` carries the call out. A new endpoint costs here: its
Structs, one :class:`~zenovay_async._protocol.call.Endpoint` (a :class:`~zenovay_async.resources.paging.PagedEndpoint`
if it lists in pages), and one short method. An endpoint of a new attribute is a new module and a new ``Resource``.
"""
