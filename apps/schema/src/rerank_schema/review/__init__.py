"""The local page on which a person settles a result: state, export, server."""
