"""authsvc: the decision behind nginx's auth_request."""

__version__ = "0.1.0"
