"""The methods: one folder each, a server half in numpy and a client half in torch.

The folder listing is the registry (`registry.py`). Another source root may add folders to this package:
`extend_path` finds every `thinwire/methods` on the import path.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
