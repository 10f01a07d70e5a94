"""Speech recognition with bidirectional LSTMs, variational dropout and CTC.

Importing this package is cheap: each module imports what it needs when it is itself imported.
"""

__version__ = "0.1.0"
