"""The relay: a coordinator's edge for many devices behind one thin link."""
