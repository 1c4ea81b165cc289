"""Runs a command and prints one JSON line: seconds from start to end, the largest resident memory, and from the line of JSON that the
command prints at its end, where there is one, how long it took until the generator began.   measure.py NAME COMMAND..."""

import json
import resource
import subprocess
import sys
import time

start = time.perf_counter()
ended = subprocess.run(sys.argv[2:], check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
row = {"program": sys.argv[1], "seconds_to_picture": seconds, "peak_bytes_of_sampling": peak}
last = ended.stdout.strip().splitlines()[-1:]
if last and last[0].startswith("{"):
    told = json.loads(last[0])
    row.update({"seconds_to_generator": told["start_seconds"], "seconds_to_opened": told["opened_seconds"]})
print(json.dumps(row))
