"""The network on replicas that Ray Serve spreads over GPUs and machines."""
