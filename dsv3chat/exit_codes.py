"""What the program's exit codes mean, in one place. Knows nothing of what leads to them."""

OK = 0
FAILED = 1  # the answer failed; what there is of it was written
USAGE = (
    2  # the command line, a setting, a profile, a model or an attached file is wrong; nothing was generated
)
INTERNAL = 70  # a fault of this program; a log file says more
HANGUP = 129
INTERRUPTED = 130  # ctrl+c; what there is of the answer was written
BROKEN_PIPE = 141  # whoever read the output left
TERMINATED = 143

HELP = """\b
Exit codes:
    0  done (also when the answer ends at --max-tokens: stderr and JSON say so)
    1  the answer failed; what there is of it was written
    2  the command line, a setting, a profile, a model or a file is wrong
   70  a fault of this program; stderr names a log file
  130  interrupted with ctrl+c; what there is of the answer was written
  129, 143  ended by SIGHUP, SIGTERM
  141  whoever read the output left (as in `| head -1`)"""
