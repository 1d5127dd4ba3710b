"""Markdown as HTML that is safe to put into a page: whole texts, and texts that are still growing."""
