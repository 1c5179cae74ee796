"""What a profile costs in quality: perplexity, KL divergence, greedy agreement, repetition. Knows no interface."""
