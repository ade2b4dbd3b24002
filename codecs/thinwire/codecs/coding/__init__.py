"""What codecs are built of: coders of bits, gaps and symbols, in strings of bytes. They know no arrays by name."""
