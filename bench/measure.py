"""Runs a command and prints one JSON line: seconds from start to end and the largest resident memory.   measure.py NAME COMMAND..."""

import json
import resource
import subprocess
import sys
import time

start = time.perf_counter()
subprocess.run(sys.argv[2:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
print(json.dumps({"program": sys.argv[1], "seconds_to_picture": seconds, "peak_bytes_of_sampling": peak}))
