"""Reports: a page, a picture, the figures."""
