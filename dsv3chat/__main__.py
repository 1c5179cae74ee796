"""`python -m dsv3chat`: the same as the command. Knows nothing else."""

from dsv3chat.cli import main

if __name__ == "__main__":
    main()
