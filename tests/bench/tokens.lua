-- wrk: the Authorization headers of a file, one a request; the summary as one line.
-- Arguments: the file, at which line to begin, how many to take, each of them once (0: all, again and again), requests
-- a second (0: as many as can be) and the number of connections.
local ffi = require("ffi")
ffi.cdef("typedef struct { long seconds, nanoseconds; } span; int clock_gettime(int clock, span *now);")
local requests, at, once, thread = {}, 0, false, nil
took_us = 0 -- until the last token was used; wrk itself sleeps on

local function now_us()
    local now = ffi.new("span")
    ffi.C.clock_gettime(1, now) -- CLOCK_MONOTONIC
    return tonumber(now.seconds) * 1e6 + tonumber(now.nanoseconds) / 1e3
end

local function pace(rate, connections)
    local longest_ms = 2000 * connections / rate
    -- each waits anew by chance, so that the connections do not come in step
    delay = function()
        return math.random() * longest_ms
    end
end

function setup(made)
    thread = made
end

function init(arguments)
    local begin, take, rate = tonumber(arguments[2]), tonumber(arguments[3]), tonumber(arguments[4])
    local line = 0
    for token in io.lines(arguments[1]) do
        line = line + 1
        if take == 0 or (line > begin and line <= begin + take) then
            requests[#requests + 1] = wrk.format("GET", "/api/orders", { ["Authorization"] = token })
        end
    end
    once = take > 0
    at = once and 0 or begin % #requests
    if rate > 0 then
        pace(rate, tonumber(arguments[5]))
    end
    began_us = now_us()
end

function request()
    if once and at == #requests then
        took_us = took_us > 0 and took_us or now_us() - began_us
        wrk.thread:stop()
        return requests[at]
    end
    at = at % #requests + 1
    return requests[at]
end

function done(summary, latency)
    local errors, took = summary.errors, thread:get("took_us")
    io.write(string.format("summary %d %d %d %d %d %d\n",
        summary.requests, took > 0 and took or summary.duration, latency:percentile(50), latency:percentile(99),
        errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
