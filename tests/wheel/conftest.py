"""What all tests of the wheel begin with."""

import signal

# A shell that runs the tests in the background starts them with SIGINT ignored, and so would be every process that they
# start. Then Ctrl-C raises nothing.
signal.signal(signal.SIGINT, signal.default_int_handler)
