"""Stored answers to arrays: in this process, or in processes of their own."""
