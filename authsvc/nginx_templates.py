"""The texts of the nginx include files. <<name>> is a blank that `authsvc.nginx.render` fills.

The one for nginx with Lua is in `nginx_openresty`.
"""

from __future__ import annotations

UNAVAILABLE = '{"title":"Service Unavailable","status":503,"detail":"access cannot be decided right now"}'
MADE_BY = "# Made by authsvc from its list of identity headers. Do not edit: make it again when that changes.\n"

_HTTP = r"""# Include once, inside http { }.
# Should nginx warn of its variables_hash, write beside this: variables_hash_bucket_size 128;

upstream authsvc_service {
    server <<upstream>>;
    keepalive 64;
    keepalive_timeout 30s;  # shorter than authsvc's own, so that it is always nginx who hangs up
}

# 1 for a path that nginx and the API could read in two ways. authsvc refuses these by itself;
# to turn them away before anything is asked, write this inside server { }:
#     if ($authsvc_ambiguous_uri) { return 400; }
map $request_uri $authsvc_ambiguous_uri {
    default 0;
    # an escaped / \ . % ; ? # or control character; or ; \ # or // as they are
    "~*^[^?]*(%2f|%5c|%2e|%25|%3b|%3f|%23|%[01][0-9a-f]|%7f|[;\\\\#]|//)" 1;
    # a segment that is . or ..
    "~^[^?]*/\.\.?(/|\?|$)" 1;
    # anything outside printable ASCII
    "~^[^?]*[^\x21-\x7e]" 1;
}

# The path that is being served, safe to stand in a header. `volatile`: it changes with each internal redirect.
map $authsvc_served $authsvc_served_path {
    volatile;
    default $authsvc_served;
    "~[\x00-\x1f\x7f]| $" unsafe;  # a space at the end would be cut off on the way
}

# authsvc's receipt: that this request has been counted. nginx asks again after an internal redirect, and hands the
# receipt back with the question, so that the request is counted once. It begins empty, and never leaves nginx but to
# authsvc: leave it out of your log_format, and of what you answer. A variable made by `map`, because it must outlive
# the redirect: `set` would empty it again.
map "" $authsvc_receipt {
    default "";
}
# The receipt after an answer: that of a yes; else, what there was before.
map "$upstream_status/$upstream_http_x_auth_status" $authsvc_receipt_now {
    volatile;
    default $authsvc_receipt;
    200/200 $authsvc_receipt_said;
    / $authsvc_receipt;  # nobody was asked: nginx had kept the answer
    "~^[^/]*[ ,:]200/200$" $authsvc_receipt_said;  # after a second try the status is a list: "502, 200"
}
map $upstream_http_x_auth_receipt $authsvc_receipt_said {
    volatile;
    default $upstream_http_x_auth_receipt;
    "" $authsvc_receipt;
}

# For your log_format, with decision_cache: HIT where nginx answered by itself. Empty without it.
map "" $authsvc_cached {
    default "";
}

# The API key, from the header in which clients send it. Sent twice, nginx from 1.23 on shows both, joined by a comma,
# and authsvc refuses them. An older nginx shows the first only, and that one is judged: no directive of it can tell
# that there is a second. Your API never sees that one. authsvc-openresty.conf joins them in every nginx.
map $<<key_source>> $authsvc_key {
    default $<<key_source>>;
}

# X-RateLimit-* has no room for two limits. Where your API sends its own, those stay and authsvc's are left out.
# Not `volatile`: this is looked at once, before the first of authsvc's is added. $authsvc_s_*: what is shown.
map "$sent_http_x_ratelimit_limit$sent_http_x_ratelimit_remaining$sent_http_x_ratelimit_reset" $authsvc_x {
    default theirs;
    "" ours;
}
map $authsvc_x $authsvc_s_max {
    ours $authsvc_x_max;
}
map $authsvc_x $authsvc_s_left {
    ours $authsvc_x_left;
}
map $authsvc_x $authsvc_s_wait {
    ours $authsvc_x_wait;
}

# Deprecation and Sunset hold one date each. Yours say that the resource ends, authsvc's that API keys end: where your
# API sends one of the two, it stays and both of authsvc's are left out. The Link beside them still says it.
map "$sent_http_deprecation$sent_http_sunset" $authsvc_ends {
    default theirs;
    "" ours;
}
map $authsvc_ends $authsvc_s_depr {
    ours $authsvc_depr;
}
map $authsvc_ends $authsvc_s_sun {
    ours $authsvc_sunset;
}
"""

# Three parts of authsvc-server.conf, which authsvc-cache-server.conf has too, with more between them.
QUESTION = """# Include once in each server { } that has protected locations.

# Without this line in a server, a protected location there answers 500. It must: the question would be asked
# of your own `location /`, and whatever that answers would count as a yes.
set $authsvc_server yes;

# The question to authsvc. No client can ask for it: its name has no slash. So no `location /` of yours can answer
# it either, where this file is forgotten.
location = _authsvc {
    internal;
    # The served path is used up by each question. A place that inherits auth_request without setting it anew (a
    # nested location without the include, limit_except, a `break` above the include) gets 500, not a guess.
    if ($authsvc_served = "") { return 500; }
    set $authsvc_served_now $authsvc_served_path;
    set $authsvc_served "";
"""

ASKING = """
    proxy_pass http://authsvc_service/auth;

    # Keep the connection. Without these lines every question opens a new one.
    proxy_http_version 1.1;
    proxy_set_header Connection "";

    # Nothing of the client's goes in except what is listed here.
    proxy_pass_request_headers off;
    proxy_pass_request_body off;
    proxy_set_header Content-Length "";
    # Who asks comes first, then what is asked, then the id: in this order authsvc knows a caller again at once.
    proxy_set_header Host authsvc;
    proxy_set_header Authorization $http_authorization;
    proxy_set_header X-API-Key <<key>>;
    # Behind another proxy, set up the real_ip module first.
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Original-Method $request_method;
    # Raw. Never $uri: it is decoded, and a client could write header lines of its own with it.
    proxy_set_header X-Original-URI $request_uri;
    # What nginx serves in its place after an internal redirect (rewrite ... last, try_files, error_page):
    # authsvc judges both. Decoded, so a value with control characters is replaced before it gets here.
    proxy_set_header X-Served-Path $authsvc_served_now;
    proxy_set_header X-Request-ID $request_id;
    # Always nginx's own word, and no header where it has none: a client cannot send a receipt.
    proxy_set_header X-Auth-Receipt $authsvc_receipt;

    # A slow answer is worse than a quick 503.
    proxy_connect_timeout 500ms;
    proxy_send_timeout 1s;
    proxy_read_timeout 2500ms;  # a key that was just rotated in is fetched first, within 2 s
    proxy_next_upstream error timeout;
    proxy_next_upstream_tries 2;
    proxy_next_upstream_timeout 3s;

    # Room for the identity headers; the nginx default of 4k or 8k may be too small.
    proxy_buffer_size 16k;
    proxy_buffers 4 16k;

    # Shut out settings of your server that would change the answer: a cache would hand one
    # caller's identity to another, and `error_page 502 =200 ...` would open the door.
    proxy_cache off;
    error_page 599 = @authsvc_500;
"""

ANSWERS = """\
}

# The answers. Each is JSON: what authsvc wrote in X-Auth-Error, or a plain one if it wrote nothing.
location @authsvc_401 {
    types { }
    default_type application/problem+json;
    add_header Cache-Control no-store always;
    # nginx copies WWW-Authenticate to a 401 by itself: adding it here would double it.
    add_header Retry-After $authsvc_retry always;
    add_header Deprecation $authsvc_depr always;
    add_header Sunset $authsvc_sunset always;
    add_header Link $authsvc_link always;
    add_header X-Auth-Warning $authsvc_warn always;
    if ($authsvc_error = "") { set $authsvc_error '{"title":"Unauthorized"}'; }
    return 401 "$authsvc_error\\n";
}

# Through nginx authsvc can only say 401 or 403; X-Auth-Status is what the client should see.
location @authsvc_403 {
    types { }
    default_type application/problem+json;
    add_header Cache-Control no-store always;
    add_header WWW-Authenticate $authsvc_challenge always;
    add_header Retry-After $authsvc_retry always;
    add_header RateLimit $authsvc_ratelimit always;
    add_header RateLimit-Policy $authsvc_policy always;
    add_header X-RateLimit-Limit $authsvc_x_max always;
    add_header X-RateLimit-Remaining $authsvc_x_left always;
    add_header X-RateLimit-Reset $authsvc_x_wait always;
    add_header Deprecation $authsvc_depr always;
    add_header Sunset $authsvc_sunset always;
    add_header Link $authsvc_link always;
    add_header X-Auth-Warning $authsvc_warn always;
    if ($authsvc_error = "") { set $authsvc_error '{"title":"Refused"}'; }
    if ($authsvc_status = 429) { return 429 "$authsvc_error\\n"; }
    if ($authsvc_status = 503) { return 503 "$authsvc_error\\n"; }
    return 403 "$authsvc_error\\n";
}

# No usable answer: authsvc is down, too slow, or said something it never says.
location @authsvc_500 {
    types { }
    default_type application/problem+json;
    add_header Cache-Control no-store always;
    add_header Retry-After 5 always;
    # authsvc said yes, or was never asked: then the trouble is nginx's own. After a second try the status
    # is a list, such as "502, 200"; the last one counts.
    if ($authsvc_code ~ "(^|[ ,:])2[0-9][0-9]$|^$") {
        add_header Cache-Control no-store always;
        return 500 '{"title":"Internal Server Error"}\\n';
    }
    return 503 '<<unavailable>>\\n';
}
"""

SERVER = QUESTION + ASKING + ANSWERS

LOCATION_NOTES = """\
# Only for proxy_pass: grpc_pass, fastcgi_pass and uwsgi_pass would still hand on what the client sent.
#
# What nginx does that may surprise you:
# - proxy_set_header, add_header and error_page lines of your server { } no longer reach a location that
#   includes this file. Write those you need again, beside the include. That goes for Host too: this file
#   leaves it alone, so that a line of yours never makes a second one. Usually: proxy_set_header Host $host;
# - never include it in server { }: one proxy_set_header in a location then removes all of these, and clients
#   set X-User-* themselves.
# - `return` and `rewrite` in the location run before the question is asked: such answers are public.
# - include it again in each location within this one: without it such a location answers 500. The same goes for
#   `break` or `rewrite ... break` above this include, and for limit_except.
# - never `rewrite ... last` in a location with this include: what it leads to may be judged by the path before.
# - a regex location ( ~ \\.json$ ) beside this one takes requests away from it, unasked.
# - a `rewrite` in server { } whose pattern does not begin with ^/ rewrites the question too, and the page it
#   finds is a YES: never have one.
# - `satisfy any` lets an allow list overrule authsvc.
# - underscores_in_headers must stay off: X_User_Id would reach the API as X-User-Id.
"""

TO_THE_API = """
# To the API. An empty value removes the header, so none of these can come from the client.
<<pass_on>>
proxy_set_header X-Request-ID $request_id;
# authsvc judged the method nginx saw; the API must not obey another one.
proxy_set_header X-HTTP-Method-Override "";
proxy_set_header X-HTTP-Method "";
proxy_set_header X-Method-Override "";
# The same for paths: some frameworks route by these.
proxy_set_header X-Original-URL "";
proxy_set_header X-Original-URI "";
proxy_set_header X-Rewrite-URL "";
proxy_set_header X-Forwarded-Prefix "";
proxy_set_header X-Auth-Receipt "";
# For the client alone: what he sends by this name is not authsvc's.
proxy_set_header X-Auth-Warning "";

# To the client. What is empty adds no header. RateLimit, RateLimit-Policy and Link are lists: those of your API stay.
add_header RateLimit $authsvc_ratelimit always;
add_header RateLimit-Policy $authsvc_policy always;
add_header X-RateLimit-Limit $authsvc_s_max always;
add_header X-RateLimit-Remaining $authsvc_s_left always;
add_header X-RateLimit-Reset $authsvc_s_wait always;
# To callers with an API key, once its end is announced.
add_header Deprecation $authsvc_s_depr always;
add_header Sunset $authsvc_s_sun always;
add_header Link $authsvc_link always;
add_header X-Auth-Warning $authsvc_warn always;
"""

_LOCATION = f"""# Include in each location that authsvc protects, beside its proxy_pass.
#
{LOCATION_NOTES}
if ($authsvc_server != yes) {{ return 500; }}  # authsvc-server.conf is not included in this server
set $authsvc_served $uri;
# What nginx kept of an earlier answer, with authsvc-cache-server.conf: nothing yet.
<<kept_empty>>
auth_request _authsvc;
# What it answered, or what nginx kept of it. $authsvc_reason is good to have in your log_format, and
# $authsvc_shadow while limits are tried out.
<<ask>>

# Leave proxy_intercept_errors off, and the 401 and 403 of your API stay as they are.
error_page 401 = @authsvc_401;
error_page 403 = @authsvc_403;
error_page 500 = @authsvc_500;
{TO_THE_API}"""

_STRIP = """# Include in every location that authsvc does NOT protect, beside its proxy_pass.
# It removes the identity headers a client made up, so that the API can trust them everywhere.
# In server { } it works only for locations without a proxy_set_header of their own.

<<strip>>
proxy_set_header X-Auth-Receipt "";
proxy_set_header X-Auth-Warning "";
"""

_PROOF = f"""\
# Optional belt. nginx takes any 2xx for a yes, also from a wrong program on authsvc's port. This file asks
# for authsvc's own mark. nginx can look at it only one step later, so it takes a second location:
#     location /api/ {{ include authsvc-location.conf; try_files /.authsvc/none @api; }}
#     location @api  {{ include authsvc-proof.conf; proxy_pass http://your_api; }}

if ($authsvc_status != 200) {{
    add_header Cache-Control no-store always;
    add_header Retry-After 5 always;
    return 503 '<<unavailable>>\\n';
}}
types {{ }}
default_type application/problem+json;
{TO_THE_API}"""

TEMPLATES = {
    "authsvc-http.conf": _HTTP,
    "authsvc-server.conf": SERVER,
    "authsvc-location.conf": _LOCATION,
    "authsvc-strip.conf": _STRIP,
    "authsvc-proof.conf": _PROOF,
}
