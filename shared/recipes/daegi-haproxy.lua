-- `http-request lua.daegi URL` asks Daegi's gate, URL in its `forwarded` dialect, whether a visitor may go on.
-- If so, txn.daegi_good is 1, the request has the gate's X-Daegi- headers, and txn.daegi_renewed may have a cookie for the
-- visitor; if not, the visitor has the gate's refusal. Nothing of this: the gate could not be asked, or an error here,
-- after which HAProxy would go on.

local TOLD = {"accept", "accept-language", "sec-fetch-mode", "sec-purpose", "purpose", "access-control-request-method"}
local HANDED_ON = {"location", "retry-after", "content-type", "content-language", "content-security-policy",
                   "referrer-policy", "x-content-type-options", "cache-control", "vary"}

-- Daegi's own cookies: it could not read a header with characters that are not ASCII, which others may have.
local function ours(values)
    local kept = {}
    for _, value in pairs(values or {}) do
        for pair in value:gmatch("[^;]+") do
            pair = pair:match("^%s*(.-)%s*$")
            if pair:gsub("^__Host%-", ""):find("^daegi_%l_%x+=[!-~]*$") then kept[#kept + 1] = pair end
        end
    end
    return #kept > 0 and table.concat(kept, "; ") or nil
end

core.register_action("daegi", {"http-req"}, function(txn, gate)
    local sent = txn.http:req_get_headers()
    local headers = {
        ["x-forwarded-uri"] = {txn.sf:pathq()},
        ["x-forwarded-method"] = {txn.sf:method()},
        ["x-forwarded-proto"] = {txn.f:ssl_fc() == 1 and "https" or "http"},
        ["cookie"] = {ours(sent["cookie"])},
    }
    for _, name in ipairs(TOLD) do
        local values = {}
        for _, value in pairs(sent[name] or {}) do values[#values + 1] = value:gsub("[^ -~]", "") end
        if #values > 0 then headers[name] = {table.concat(values, ", ")} end
    end

    local answer = core.httpclient():get{url = gate, headers = headers, timeout = 5000}
    if not answer or answer.status < 200 or answer.status >= 500 then return end
    local said = answer.headers or {}
    if answer.status < 300 then
        for name, values in pairs(said) do
            if name:find("^x%-daegi%-") then txn.http:req_set_header(name, values[0] or values[1]) end
        end
        local renewed = said["set-cookie"]
        if renewed then txn:set_var("txn.daegi_renewed", renewed[0] or renewed[1]) end
        txn:set_var("txn.daegi_good", 1)
        return
    end
    local reply = txn:reply{status = answer.status, body = answer.body}
    for _, name in ipairs(HANDED_ON) do
        for _, value in pairs(said[name] or {}) do reply:add_header(name, value) end
    end
    txn:done(reply)
end, 1)
