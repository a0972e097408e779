"""The HTML report of a run, which imports utils alone: `page` collects and writes it, with pictures by `thumbnails`."""
