"""The transport side: connections and their bytes, who asks, how messages, files and problems travel."""
