"""The text of the include file for nginx with Lua, which may stand in the place of authsvc-location.conf."""

from __future__ import annotations

from authsvc.nginx_templates import LOCATION_NOTES, TO_THE_API

OPENRESTY = f"""# Include INSTEAD of authsvc-location.conf, in nginx with the Lua module (OpenResty).
# It takes over the status directly, and lets nothing pass but a 200 that carries X-Auth-Status: 200.
# Lua cannot ask for HTTP/2 clients (ngx.location.capture refuses): they get 500. Use the other file then.
#
{LOCATION_NOTES}
<<forget>>
if ($authsvc_server != yes) {{ return 500; }}  # authsvc-server.conf is not included in this server
set $authsvc_served "";
set $authsvc_by_lua "";

access_by_lua_block {{
    local identity = {{
        <<lua_identity>>
    }}
    local verdict = {{
        <<lua_verdict>>
    }}

    local function answer_headers(answer)
        local said = {{}}
        for name, value in pairs(answer.header) do
            if type(value) == "table" then value = table.concat(value, ", ") end
            said[name:lower()] = value
        end
        return said
    end

    local function status_for_client(answer, said)
        local status, meant = answer.status, said["x-auth-status"]
        if status == 200 and meant == "200" then return 200 end
        if status == 401 or status == 429 then return status end
        if status ~= 403 then return 503 end
        if meant == "429" or meant == "503" then return tonumber(meant) end
        return 403
    end

    local function refuse(status, said)
        ngx.status = status
        ngx.header["Content-Type"] = "application/problem+json"
        ngx.header["Cache-Control"] = "no-store"
        ngx.header["WWW-Authenticate"] = said["www-authenticate"]
        ngx.header["Retry-After"] = said["retry-after"] or (status == 503 and "5" or nil)
        local plain = status == 503 and '<<unavailable>>' or '{{"title":"Refused"}}'
        ngx.say(said["x-auth-error"] or plain)
        return ngx.exit(ngx.HTTP_OK)
    end

    local _ = ngx.var.request_id  -- read before it is copied, or the question would get an id of its own
    if ngx.var.<<key_source>> then  -- sent twice, authsvc gets both, and refuses them
        local keys = ngx.req.get_headers(0)["<<key_header>>"]
        if type(keys) == "table" then ngx.var.authsvc_key = table.concat(keys, ", ") end
    end
    -- here, not by `set`: a nested location inherits this block, but no `set`
    ngx.var.authsvc_served = ngx.var.uri
    ngx.var.authsvc_by_lua = " yes"  -- for authsvc-cache-server.conf
    local answer = ngx.location.capture("_authsvc", {{ method = ngx.HTTP_GET, copy_all_vars = true }})
    local said = answer_headers(answer)
    local status = status_for_client(answer, said)
    for name, variable in pairs(verdict) do ngx.var[variable] = said[name] or "" end
    ngx.var.authsvc_code = answer.status
    if status ~= 200 then return refuse(status, said) end
    for name, variable in pairs(identity) do ngx.var[variable] = said[name] or "" end
    if (said["x-auth-receipt"] or "") ~= "" then ngx.var.authsvc_receipt = said["x-auth-receipt"] end
}}

# For what is not authsvc's: a `deny` line of yours, trouble of nginx or of Lua.
error_page 401 = @authsvc_401;
error_page 403 = @authsvc_403;
error_page 500 = @authsvc_500;
{TO_THE_API}"""
