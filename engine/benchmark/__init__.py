"""How fast a model and its kernels are, beside what the memory could give. Knows no command line."""
