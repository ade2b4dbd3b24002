"""What this program wants of the machine below it: files that last, TCP's own counts, memory given back, quantities as
text. The standard library alone; knows nothing of federated learning.
"""
