"""The API's resources: one module each, with its Structs and its methods.

A method checks its parameters and describes a call; the session carries it out. A new endpoint is one Struct, one
decoder and one short method.
"""
