"""The demo room: an API to protect, and the programs around it, started on loopback.

The demo and the end-to-end tests share it. Nothing that serves real requests imports it.
"""
