-- wrk: the requests of a file, in turn; the summary as one line.
-- Arguments: the file, in which each request ends with a zero byte, at which to begin, how many to take, each of them
-- once (0: all, again and again), requests a second (0: as many as can be) and the number of connections.
--
-- The file stays out of Lua's memory: now and then its hash of strings took minutes for 100,000 that look alike.
local ffi = require("ffi")
ffi.cdef([[
    typedef struct { long seconds, nanoseconds; } span;
    int clock_gettime(int clock, span *now);
    int open(const char *path, int flags);
    char *mmap(void *at, size_t size, int protection, int flags, int file, long offset);
    char *memchr(const char *begin, int byte, size_t size);
]])
local MONOTONIC, READ, PRIVATE = 1, 1, 2
local data, starts, at, last, once, thread = nil, {}, 0, 0, false, nil
took_us = 0 -- until the last token was used; wrk itself sleeps on

local function now_us()
    local now = ffi.new("span")
    ffi.C.clock_gettime(MONOTONIC, now)
    return tonumber(now.seconds) * 1e6 + tonumber(now.nanoseconds) / 1e3
end

local function load(path)
    local file = io.open(path)
    local size = file:seek("end")
    file:close()
    data = ffi.C.mmap(nil, size, READ, PRIVATE, ffi.C.open(path, 0), 0)
    local start = 0
    while start < size do
        starts[#starts + 1] = start
        start = tonumber(ffi.C.memchr(data + start, 0, size - start) - data) + 1
    end
    starts[#starts + 1] = size
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
    load(arguments[1])
    local count = #starts - 1
    once, at = take > 0, begin % count
    last = once and math.min(at + take, count) or count
    if rate > 0 then
        pace(rate, tonumber(arguments[5]))
    end
    began_us = now_us()
end

function request()
    if at == last then
        if once then
            took_us = took_us > 0 and took_us or now_us() - began_us
            wrk.thread:stop()
            at = at - 1
        else
            at = 0
        end
    end
    at = at + 1
    return ffi.string(data + starts[at], starts[at + 1] - starts[at] - 1)
end

function done(summary, latency)
    local errors, took = summary.errors, thread:get("took_us")
    io.write(string.format("summary %d %d %d %d %d %d\n",
        summary.requests, took > 0 and took or summary.duration, latency:percentile(50), latency:percentile(99),
        errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
