-- For mod_lua's access checker, which takes one function for a request: `guarded` asks Daegi's gate, in its `forwarded`
-- dialect, whether a visitor may go on; `open` does not. Both remove the headers that only we may send. Needs LuaSocket
-- (Debian: lua-socket).

local http, ltn12 = require "socket.http", require "ltn12"

local GATE = "http://127.0.0.1:8000/api/v1/gate/checkout/forwarded/authorize"
http.TIMEOUT = 5

local TOLD = {"Accept", "Accept-Language", "Sec-Fetch-Mode", "Sec-Purpose", "Purpose", "Access-Control-Request-Method"}
local HANDED_ON = {"Location", "Retry-After", "Content-Language", "Content-Security-Policy", "Referrer-Policy",
                   "X-Content-Type-Options", "Cache-Control", "Vary"}
local OURS_TO_SAY = {"^x%-daegi", "^x%-forwarded", "^x%-original", "^x%-rewrite", "^forwarded"}

-- Daegi's own cookies: it could not read a header with characters that are not ASCII, which others may have.
local function ours(cookies)
    local kept = {}
    for pair in (cookies or ""):gmatch("[^;,]+") do
        pair = pair:match("^%s*(.-)%s*$")
        if pair:gsub("^__Host%-", ""):find("^daegi_%l_%x+=[!-~]*$") then kept[#kept + 1] = pair end
    end
    return #kept > 0 and table.concat(kept, "; ") or nil
end

function open(r)
    for name in pairs(r:headers_in_table()) do
        local plain = name:lower():gsub("_", "-")
        for _, pattern in ipairs(OURS_TO_SAY) do
            if plain:find(pattern) then r.headers_in[name] = nil end
        end
    end
    return apache2.OK
end

function guarded(r)
    open(r)
    local headers = {
        ["X-Forwarded-Uri"] = r.unparsed_uri:gsub("^%a[%w+.-]*://[^/?]*", ""),
        ["X-Forwarded-Method"] = r.method,
        ["X-Forwarded-Proto"] = r.is_https and "https" or "http",
        ["Cookie"] = ours(r.headers_in["Cookie"]),
    }
    for _, name in ipairs(TOLD) do
        local value = r.headers_in[name]
        if value then headers[name] = value:gsub("[^ -~]", "") end
    end

    local body = {}
    local ok, status, said = http.request{url = GATE, headers = headers, redirect = false, sink = ltn12.sink.table(body)}
    -- LuaSocket takes what is no HTTP for HTTP/0.9: 200, without headers.
    if not ok or not said or status >= 500 then return 503 end
    if status < 300 then
        for name, value in pairs(said) do
            if name:find("^x%-daegi%-") then r.headers_in[name] = value end
        end
        if said["set-cookie"] then r.err_headers_out["Set-Cookie"] = said["set-cookie"] end
        return apache2.OK
    end
    for _, name in ipairs(HANDED_ON) do
        if said[name:lower()] then r.err_headers_out[name] = said[name:lower()] end
    end
    r.status = status
    r.content_type = said["content-type"] or "text/plain"
    r:puts(table.concat(body))
    return apache2.DONE
end
