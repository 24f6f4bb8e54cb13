-- wrk: tokens that name a key nobody has, each of them once; `delay` keeps them to the rate in the second argument.
local parts, connections, rate, at = {}, 1, 1000, 0

function init(arguments)
    for part in io.lines(arguments[1]) do
        parts[#parts + 1] = part
    end
    connections, rate = tonumber(arguments[2]), tonumber(arguments[3])
end

function delay()
    return connections * 1000 / rate
end

function request()
    at = at + 1
    local token = parts[at % #parts + 1]
    return wrk.format("GET", "/api/orders", { ["Authorization"] = "Bearer " .. token })
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format("summary %d %d %d %d %d %d\n",
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
        errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
