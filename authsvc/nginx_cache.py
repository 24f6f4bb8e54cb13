"""The texts for nginx that keeps decisions: one more file in http { }, and another one for server { }.

They need the Lua module: nginx by itself has no hash and no memory for answers but files. What can be done without Lua
is: each call into it costs as much as the rest of the question.
"""

from __future__ import annotations

from authsvc.nginx_templates import ANSWERS, ASKING, QUESTION

CACHE_HTTP = """\
# Include once, inside http { }, after authsvc-http.conf: nginx keeps decisions where decision_cache in authsvc's config
# allows it. In each server { } include authsvc-cache-server.conf INSTEAD of authsvc-server.conf. Takes the Lua module.

# authsvc-cache-server.conf asks for these: without this file nginx does not start.
map "" $authsvc_cache_http {
    default "";
}
# Whether authsvc-cache-server.conf is about to ask: by nobody else may that be asked.
map "" $authsvc_asking {
    default "";
}
# " yes" where authsvc-openresty.conf asks.
map "" $authsvc_by_lua {
    default "";
}

# "unknown directive" here? nginx lacks the Lua module: apt-get install libnginx-mod-http-lua, and see that it loads it.
# Here lie the identity headers of who was admitted, for 30,000 to 60,000 calls, in memory alone; what was not
# called for longest makes room. Never a token or a key.
lua_shared_dict authsvc_kept 32m;
# A secret with which what is kept is named, and the generation of authsvc's that is kept now.
lua_shared_dict authsvc_state 128k;
"""

_KEPT = """
    # What authsvc allows to be kept is kept for as long as it said in X-Accel-Expires, and for nothing else than the
    # same question. $authsvc_cached is good to have in your log_format: HIT where authsvc was not asked (with
    # authsvc-openresty.conf it stays empty).
    set $authsvc_cached "MISS$authsvc_cache_http";
    set $authsvc_ckey "";
    set $authsvc_found "";
    # Every input of a decision, a line each. None of them can hold the end of a line; a question with more lines than
    # these is never kept.
    set $authsvc_asks "<<made>>\\n$request_method\\n$request_uri\\n$authsvc_served_now\\n$authsvc_key";
    set $authsvc_asks "$authsvc_asks\\n$http_authorization\\n$remote_addr\\n$authsvc_receipt";
    set_by_lua_block $authsvc_found {
        local look_up = package.loaded.authsvc_look_up
        if not look_up then return "" end  -- before the first answer
        local found = look_up()
        return found
    }
    # $authsvc_k0 and so on: see authsvc-location.conf, which empties them before each question.
    if ($authsvc_found ~ "<<kept_pattern>>") { set $authsvc_cached HIT$authsvc_by_lua; }
    if ($authsvc_cached = HIT) { return 200; }
    if ($authsvc_cached = "HIT yes") {  # who asks by Lua reads headers
        header_filter_by_lua_block {
            for number, field in ipairs({ <<kept_fields>> }) do
                ngx.header[field] = ngx.var["authsvc_k" .. number - 1]
            end
        }
        return 200;
    }
    set $authsvc_asking yes;
    rewrite ^ _authsvc_ask last;

    # `error_page 500 =200 ...` of your server would open the door.
    error_page 599 = @authsvc_500;
}

# What was not kept is asked here. Apart, because what looks at the answer would look at each that was kept too.
location = _authsvc_ask {
    internal;
    if ($authsvc_asking = "") { return 500; }
    set $authsvc_asking "";
"""

_KEEPING = """\
    proxy_store off;
    header_filter_by_lua_block {
        if not package.loaded.authsvc_look_up then  -- once in each worker
            local ngx, state, kept = ngx, ngx.shared.authsvc_state, ngx.shared.authsvc_kept
            -- SHA-256 by OpenSSL: looked up once, while ngx.hmac_sha1 looks its hash up at each call
            local there, digest = pcall(function()
                local ffi = require "ffi"
                ffi.cdef [[
                    void *authsvc_md(void) __asm__("EVP_MD_CTX_new");
                    const void *authsvc_sha256(void) __asm__("EVP_sha256");
                    int authsvc_md_begin(void *, const void *, void *) __asm__("EVP_DigestInit_ex");
                    int authsvc_md_more(void *, const char *, size_t) __asm__("EVP_DigestUpdate");
                    int authsvc_md_copy(void *, const void *) __asm__("EVP_MD_CTX_copy_ex");
                    int authsvc_md_end(void *, unsigned char *, unsigned *) __asm__("EVP_DigestFinal_ex");
                ]]
                local C, result = ffi.C, ffi.new("unsigned char[32]")
                local begun, running, begun_with = C.authsvc_md(), C.authsvc_md(), nil
                local function begin(secret)
                    begun_with = nil  -- should one of these fail half way
                    assert(C.authsvc_md_begin(begun, C.authsvc_sha256(), nil) == 1)
                    assert(C.authsvc_md_more(begun, secret, #secret) == 1)
                    begun_with = secret
                end
                local function digest(secret, text)
                    if secret ~= begun_with then begin(secret) end
                    assert(C.authsvc_md_copy(running, begun) == 1)
                    assert(C.authsvc_md_more(running, text, #text) == 1)
                    assert(C.authsvc_md_end(running, result, nil) == 1)
                    local named = ffi.string(result, 32)  -- no tail call: LuaJIT would not compile it
                    return named
                end
                assert(begun ~= nil and running ~= nil)
                assert(digest("a", "bc"):sub(1, 4) == "\\186\\120\\022\\191")  -- SHA-256 of abc begins so
                return digest
            end)
            if not there then digest = ngx.hmac_sha1 end
            -- A function of its own: LuaJIT does not compile what stands in the block that nginx calls.
            package.loaded.authsvc_look_up = function()
                local secret = state:get("name")
                if not secret then return "" end
                local question = digest(secret, ngx.var.authsvc_asks)
                local found = kept:get(question)
                if found then return found end
                ngx.var.authsvc_ckey = question
                return ""
            end
        end
        local var, state = ngx.var, ngx.shared.authsvc_state
        if not var.upstream_http_x_auth_status then return end
        local name = state:get("name") or ""
        local known, made = name:sub(33), var.upstream_http_x_auth_generation or ""
        if made ~= known then
            -- Another generation, or none: all that was kept is forgotten, for it has another name. One that was
            -- replaced a moment ago (a worker that is about to end) is not kept again.
            if known ~= "" and (made == "" or state:get("past:" .. made)) then made = known end
            if known ~= "" and made ~= known then state:set("past:" .. known, true, 60) end
            local random = assert(io.open("/dev/urandom", "rb"))
            state:set("name", random:read(32) .. made)
            random:close()
            return
        end
        for _, field in ipairs({ "receipt", "shadow" }) do
            if var["upstream_http_x_auth_" .. field] then return end
        end
        if var.upstream_http_ratelimit or var.upstream_http_x_ratelimit_limit then return end
        local allowed = ngx.status == 200 and var.upstream_http_x_auth_status == "200"
        local lives = (var.upstream_http_x_accel_expires or ""):match("^[1-9]%d?$")
        local soon = tonumber(var.upstream_header_time)  -- what was long on its way is older than nginx knows
        local _, ends = var.authsvc_asks:gsub("\\n", "")
        if not (allowed and lives and soon and soon < 0.5 and ends == 7 and known ~= "") then return end
        local said, fields = {}, { <<kept_fields>> }
        for number, field in ipairs(fields) do
            said[number] = (var["upstream_http_" .. field:gsub("-", "_")] or "") .. "\\n"
        end
        if var.authsvc_ckey ~= "" then
            ngx.shared.authsvc_kept:set(var.authsvc_ckey, table.concat(said), tonumber(lives))
        end
    }
"""
CACHE_SERVER = (QUESTION + _KEPT + ASKING + _KEEPING + ANSWERS).replace(
    "# Include once in each server { } that",
    "# Include INSTEAD of authsvc-server.conf, with authsvc-cache-http.conf in http { }: nginx then keeps decisions.\n"
    "# Once in each server { } that",
)
