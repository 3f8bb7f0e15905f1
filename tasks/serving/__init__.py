"""Serving: the live release's parts, the release in memory, its answers, the HTTP service and its page."""
