"""Questions of several hops: MetaQA from its own files, and chains from the demo's world."""
