"""How long an actor lives without polls, and when its calls are given to others."""

import os

# An actor kills itself, with its calls, so many seconds after the last poll.
LEASE = float(os.environ.get("_TOKIO_ASYNCIO_BRIDGE_RAY_LEASE", "15"))  # The variable is for our tests.

# An actor that is not heard any more may run calls for so many seconds after the last poll with a reply was sent.
GONE_AFTER = LEASE + min(5.0, LEASE / 3)

# The longest that a poll waits for something to reply.
POLL = min(1.0, LEASE / 8)
