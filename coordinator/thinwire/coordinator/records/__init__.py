"""All that the coordinator remembers, in tables: verbs of the domain in, values of the domain out."""
