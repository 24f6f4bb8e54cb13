"""The texts for nginx that keeps decisions: one more file in http { }, and another one for server { }.

They need the Lua module: nginx by itself has no hash, and writes the key of what it keeps into the file beside it.
"""

from __future__ import annotations

from authsvc.nginx_templates import NOT_KEPT, SERVER

CACHE_HTTP = """\
# Include once, inside http { }, after authsvc-http.conf: nginx keeps decisions where decision_cache in authsvc's config
# allows it. In each server { } include authsvc-cache-server.conf INSTEAD of authsvc-server.conf. Takes the Lua module.
#
# What lies in this folder are identity headers as the API gets them (ids, emails, roles), never a token or a key.
# Only nginx can read it (0700); on a tmpfs it is on no disk. nginx makes the folder, not the one above it.
proxy_cache_path <<cache_folder>> levels=1:2 keys_zone=authsvc_kept:10m inactive=1m max_size=256m use_temp_path=off;

# authsvc-cache-server.conf asks for this: without this file nginx does not start.
map "" $authsvc_cache_http {
    default off;
}

# "unknown directive" here? nginx lacks the Lua module: apt-get install libnginx-mod-http-lua, and see that it loads it.
# A secret of this nginx, with which what is kept is named, and the generation of authsvc's that is kept now.
lua_shared_dict authsvc_state 128k;
"""

_KEPT = """\
    # What authsvc allows to be kept is kept for as long as it said in X-Accel-Expires, and for nothing else than the
    # same question. $authsvc_cached is good to have in your log_format: HIT where authsvc was not asked (with
    # authsvc-openresty.conf it stays empty).
    set $authsvc_zone $authsvc_cache_http;  # off
    set $authsvc_ckey "";
    set $authsvc_cgen "";
    set $authsvc_cached "";
    set $authsvc_unkept 1;
    set_by_lua_block $authsvc_ckey {
        local var, kept = ngx.var, ngx.shared.authsvc_state
        local token, key = var.http_authorization or "", var.authsvc_key or ""
        local generation = kept:get("generation")
        if not generation or (token == "" and key == "") then return "" end
        local secret = kept:get("secret")
        if not secret then  -- lost only when nginx ends: all that it kept before is forgotten then
            local random = assert(io.open("/dev/urandom", "rb"))
            kept:safe_add("secret", random:read(32))
            random:close()
            secret = kept:get("secret")
            if not secret then return "" end
        end
        -- Every input of a decision, each with its length before it, so that no two questions read the same.
        local question = {
            "<<made>>", generation, var.request_method, var.request_uri, var.authsvc_served_now, token, key,
            var.remote_addr, var.authsvc_receipt or "",
        }
        for number, part in ipairs(question) do question[number] = #part .. ":" .. part end
        var.authsvc_cgen, var.authsvc_zone = generation, "authsvc_kept"
        return ngx.encode_base64(ngx.hmac_sha1(secret, table.concat(question)))
    }
    header_filter_by_lua_block {
        local var, kept = ngx.var, ngx.shared.authsvc_state
        var.authsvc_cached = var.upstream_cache_status or ""
        if var.authsvc_cached == "HIT" or not var.upstream_http_x_auth_status then return end
        local current = kept:get("generation") or ""
        local name, made = current:match("^%d+:(.+)$"), var.upstream_http_x_auth_generation or ""
        if made ~= (name or "") then
            -- Another generation, or none: all that was kept is forgotten, for the number is in its name. One that was
            -- replaced a moment ago (a worker that is about to end) is not kept again.
            if name and (made == "" or kept:get("past:" .. made)) then made = name end
            if name and made ~= name then kept:set("past:" .. name, true, 60) end
            kept:set("generation", kept:incr("number", 1, 0) .. ":" .. made)
            return
        end
        local plain = not (var.upstream_http_x_auth_receipt or var.upstream_http_x_auth_shadow
            or var.upstream_http_ratelimit or var.upstream_http_x_ratelimit_limit)
        local allowed = ngx.status == 200 and var.upstream_http_x_auth_status == "200"
        local lives = (var.upstream_http_x_accel_expires or ""):match("^[1-9]%d?$")
        local soon = tonumber(var.upstream_header_time)  -- what was long on its way is older than nginx knows
        local fresh = soon and soon < 0.5 and var.authsvc_cgen == current
        if name and allowed and lives and plain and fresh then var.authsvc_unkept = "" end
    }
    proxy_cache $authsvc_zone;
    proxy_cache_key "decision $authsvc_ckey";
    proxy_no_cache $authsvc_unkept;  # looked at when the answer is there
    # Shut out settings of your server that would keep more, or show what is too old. `error_page 502 =200 ...` would
    # open the door.
    proxy_cache_bypass "";
    proxy_cache_valid any 0;
    proxy_cache_methods GET HEAD;  # the question is a GET whatever the call is; the call's method is in the key
    proxy_cache_min_uses 1;
    proxy_cache_lock off;
    proxy_cache_use_stale off;
    proxy_cache_background_update off;
    proxy_cache_revalidate off;
    proxy_ignore_headers Cache-Control Expires;
    open_file_cache max=4096 inactive=10s;  # nginx tells a file from one that took its place
    open_file_cache_errors off;
    proxy_store off;
"""
CACHE_SERVER = SERVER.replace(NOT_KEPT, _KEPT).replace(
    "# Include once in each server { } that",
    "# Include INSTEAD of authsvc-server.conf, with authsvc-cache-http.conf in http { }: nginx then keeps decisions.\n"
    "# Once in each server { } that",
)
