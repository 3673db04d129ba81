-- What wrk sends, from BENCH_BODY (a file), and what it found, as one line of JSON. The same for every side.
local file = assert(io.open(os.getenv("BENCH_BODY"), "rb"))
wrk.method, wrk.body = "POST", file:read("*a")
file:close()

function done(summary, latency, requests)
   local e = summary.errors
   io.write(string.format(
      'JSON {"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p99_ms": %.4f, "errors": %d, "timeouts": %d}\n',
      summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      e.connect + e.read + e.write + e.status, e.timeout))
end
