"""People's conversations below the API: files, exports, shared links, search, rooms."""
