"""What the program's exit codes mean, in one place. Knows nothing of what leads to them."""

OK = 0
FAILED = 1  # the answer failed or misses its schema; what there is of it was written
USAGE = (
    2  # the command line, a setting, a profile, a model or an attached file is wrong; nothing was generated
)
INTERNAL = 70  # a fault of this program; a log file says more
HANGUP = 129
INTERRUPTED = 130  # ctrl+c; what there is of the answer was written
BROKEN_PIPE = 141  # whoever read the output left
TERMINATED = 143

# Of `dsv3chat review`, which has an answer that can be bad news.
FINDINGS = 1  # findings at or above --fail-on, in a review that is complete
INCOMPLETE = (
    3  # a file was not reviewed, the budget ran out, a report could not be written: outranks findings
)

DOES_NOT_FIT = (
    4  # of `dsv3chat plan` and `bench`: the numbers were written, and the machine cannot hold the model so
)

HELP = """\b
Exit codes:
    0  done (also when the answer ends at --max-tokens: stderr and JSON say so)
    1  the answer failed, or ended before it was the JSON that --schema asks for; what there is of it was written
    2  the command line, a setting, a profile, a model or a file is wrong
    3  of `review`, whose --help has its codes: the review is incomplete
    4  of `plan` and `bench`: a model does not fit as the profile places it
   70  a fault of this program; stderr names a log file
  130  interrupted with ctrl+c; what there is of the answer was written
  129, 143  ended by SIGHUP, SIGTERM
  141  whoever read the output left (as in `| head -1`)"""

PLAN_HELP = """\b
Exit codes:
    0  it fits
    2  the command line, a setting, a profile, a rule or the model's config is wrong
    4  it does not fit; the numbers and what would help were written"""

BENCH_HELP = """\b
Exit codes:
    0  measured
    1  a profile failed while it was measured; the others were
    2  the command line, a profile, a rule or the model is wrong, or the prompt does not fit the cache; nothing was measured
    4  a profile does not fit into memory; the others were measured
  130  interrupted (ctrl+c); what was measured until then was written"""

REVIEW_HELP = """\b
Exit codes:
    0  reviewed to the end: no findings, or none at or above --fail-on; also when a diff changes nothing or every file
       is skipped, which standard error and every report say in words
    1  findings at or above --fail-on that are neither in the baseline nor suppressed
    2  the command line, a setting, a profile, a model, a path, a revision, standard input or a baseline is wrong;
       nothing was reviewed
    3  incomplete: a file was not reviewed to the end, --budget ran out, or a report could not be written; outranks 1
   70  a fault of this program; stderr names a log file
  130  interrupted (ctrl+c, SIGTERM, SIGHUP); the findings so far were written, --resume goes on
  141  whoever read the output left"""
