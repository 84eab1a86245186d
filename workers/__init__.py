"""Model servers. Law: one worker process serves one Triton-style model repository, and knows nothing of the gateway."""
