-- wrk's side of a round: makes the requests of one workload and ends with the round's figures as one line of JSON.
--
-- wrk -s load.lua URL -- WORKLOAD EVENT SEED [TOKEN FILE]
-- WORKLOAD is join, keyed (an Idempotency-Key each), user (a verified user each), or with the tokens in the file in
-- turn poll, lease (polls too) or enter, or with the cookies in it gate (what nginx asks). SEED makes users and keys of
-- one round different from every other round's. It runs on one thread.

local JOIN = "/api/v1/queue/join"
local AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"
local make
local sent = 0

local function join(event, seed, header)
  local headers = { ["Content-Type"] = "application/json", ["Accept"] = "application/json", ["User-Agent"] = AGENT }
  return function(number)
    local user = string.format("%s-%08d", seed, number)
    if header then
      headers[header] = user
    end
    return wrk.format("POST", JOIN, headers, '{"event_id":"' .. event .. '","user_id":"' .. user .. '"}')
  end
end

local function each_of(file, ask)
  local requests = {}
  for token in io.lines(file) do
    requests[#requests + 1] = ask(token)
  end
  return function(number)
    return requests[number % #requests + 1]
  end
end

local function poll(token)
  return wrk.format("GET", "/api/v1/queue/status?token=" .. token, { ["Accept"] = "application/json", ["User-Agent"] = AGENT })
end

local function enter(token)
  local headers = { ["Content-Type"] = "application/json", ["Accept"] = "application/json", ["User-Agent"] = AGENT }
  return wrk.format("POST", "/api/v1/queue/enter", headers, '{"waiting_token":"' .. token .. '"}')
end

local function gate(event)
  local path = "/api/v1/gate/" .. event .. "/nginx/authorize"
  return function(cookie)
    return wrk.format("GET", path, {
      ["X-Original-URI"] = "/tickets/42?seats=2", ["X-Forwarded-Method"] = "GET", ["Cookie"] = cookie,
      ["Accept"] = "text/html", ["Sec-Fetch-Mode"] = "navigate", ["User-Agent"] = AGENT,
    })
  end
end

function init(args)
  local workload, event, seed, file = args[1], args[2], args[3], args[4]
  if file then
    make = each_of(file, ({ enter = enter, gate = gate(event) })[workload] or poll)
  else
    make = join(event, seed, ({ keyed = "Idempotency-Key", user = "X-User-Id" })[workload])
  end
end

function request()
  sent = sent + 1
  return make(sent)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests":%d,"us":%d,"p50":%d,"p95":%d,"p99":%d,"refused":%d,"broken":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(95), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout
  ))
end
