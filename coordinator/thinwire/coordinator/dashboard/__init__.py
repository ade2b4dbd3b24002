"""The pages, which ask for what they show."""
