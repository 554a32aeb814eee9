"""Where results and waiting inputs lie: a folder, or an object store that replicas share."""
