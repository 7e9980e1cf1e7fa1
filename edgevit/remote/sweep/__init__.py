"""Many builds and large evaluations, on this machine or on a cluster, with Ray."""
