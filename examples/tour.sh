#!/usr/bin/env bash
# The whole tour with curl and nc: publishes, and reads the same messages on every transport. It ends by itself.
#
#   cargo run --release &
#   examples/tour.sh
#
# BASE: the address of the server (http://127.0.0.1:8080). REDIS: the URL of its Redis, if it has one, for the last
# stop.
set -euo pipefail

BASE="${BASE:-http://127.0.0.1:8080}"
CHANNEL="${CHANNEL:-tour-$$}" # a new channel, so that you can run the tour twice
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

stop() { printf '\n\033[1m%s\033[0m\n' "$*"; }
say() { printf '  %s\n' "$*"; }
show() { cut -c1-200 | sed 's/^/    /'; }
fail() { printf '\n*** %s\n' "$*" >&2; exit 1; }
# field NAME: the first string value of that name in the JSON on standard input
field() { sed -n "s/.*\"$1\":\"\\([^\"]*\\)\".*/\\1/p" | head -n 1; }
fetch() { curl -sS --max-time 20 "$@"; }
# stream SECONDS ARGUMENTS: reads an endless answer for a while; PATIENCE=2 for twice that, on a busy machine
stream() { local seconds=$(($1 * ${PATIENCE:-1})); shift; curl -sSN --max-time "$seconds" "$@" 2>/dev/null || true; }
publish() { fetch -X POST "$BASE/publish?channel=$CHANNEL&$1" -H 'Content-Type: application/json' -d "$2"; }
expect() { # expect FILE TEXT WHAT
    grep -qF -- "$2" "$1" || { show <"$1"; fail "$3: expected $2"; }
}

stop "What this server offers"
fetch "$BASE/info" | show
tcp="$(fetch "$BASE/info" | field tcp)"

stop "Where the log stands: a poll without a cursor answers with one"
start="$(fetch "$BASE/poll?channel=$CHANNEL" | field cursor)"
say "$start"
[ -n "$start" ] || fail "no cursor in the answer"

stop "Publish: a payload as the body, an array, plain text"
publish 'event=itemAdded' '{"title":"milk"}' | show
fetch -X POST "$BASE/publish" -H 'Content-Type: application/json' \
    -d "[{\"channel\":\"$CHANNEL\",\"data\":1},{\"channel\":\"$CHANNEL\",\"data\":[2,\"two\"]}]" | show
fetch -X POST "$BASE/publish?channel=$CHANNEL&as=text" -H 'Content-Type: text/plain' --data-binary '3 is a text here' | show
last="$(fetch "$BASE/poll?channel=$CHANNEL&cursor=$start" | field cursor)"

stop "poll: everything since the cursor, at once"
fetch "$BASE/poll?channel=$CHANNEL&cursor=$start" | tee "$work/poll" | show
for text in milk '[2,"two"]' '"3 is a text here"'; do expect "$work/poll" "$text" poll; done
say "and nothing new since then, by entity tag:"
fetch -o /dev/null -w '    %{http_code}\n' "$BASE/poll?channel=$CHANNEL" -H "If-None-Match: \"$last\""

stop "long-poll: it waits, and is answered by what comes"
fetch "$BASE/long-poll?channel=$CHANNEL&cursor=$last&timeout=10" >"$work/long" &
waiting=$!
sleep 0.5
publish '' '"worth waiting for"' >/dev/null
wait "$waiting"
show <"$work/long"
expect "$work/long" 'worth waiting for' long-poll

stop "jsonp: the same batch, as a script"
fetch "$BASE/jsonp?channel=$CHANNEL&cursor=$start&callback=got&mode=poll" | tee "$work/jsonp" | show
expect "$work/jsonp" 'got(' jsonp

stop "The streams, two seconds each, all from the same cursor"
for transport in forever-frame xhr-stream multipart sse ndjson; do
    more=
    [ "$transport" != forever-frame ] || more='&callback=got'
    [ "$(fetch -o /dev/null -w '%{http_code}' --max-time 1 "$BASE/$transport" 2>/dev/null || true)" != 404 ] || continue
    say "$transport"
    stream 2 "$BASE/$transport?channel=$CHANNEL&cursor=$start$more" | tr -d '\0' >"$work/$transport"
    grep -v '^ *$' "$work/$transport" | head -n 12 | show
    expect "$work/$transport" 'worth waiting for' "$transport"
done

stop "WebSocket: the handshake, and frames as they come (the server's are plain text behind two to four bytes)"
stream 2 "$BASE/ws?channel=$CHANNEL&cursor=$start" --http1.1 --include \
    -H 'Connection: Upgrade' -H 'Upgrade: websocket' -H 'Sec-WebSocket-Version: 13' \
    -H 'Sec-WebSocket-Key: bG9uZ3RhaWwtdG91ci0xMg==' | LC_ALL=C tr -c '[:print:]\n' '.' >"$work/ws"
head -n 8 "$work/ws" | show
expect "$work/ws" ' 101 ' ws
expect "$work/ws" 'worth waiting for' ws

if [ -n "$tcp" ] && command -v nc >/dev/null; then
    stop "Raw TCP: commands and messages, one a line ($tcp)"
    {
        printf '{"type":"subscribe","channels":["%s"],"cursor":"%s","ref":1}\n' "$CHANNEL" "$start"
        printf '{"type":"publish","channel":"%s","event":"itemAdded","data":{"title":"bread"},"ref":2}\n' "$CHANNEL"
        printf '{"type":"ping","ref":3}\n'
        sleep $((2 * ${PATIENCE:-1}))
    } | timeout $((3 * ${PATIENCE:-1})) nc "${tcp%:*}" "${tcp##*:}" >"$work/tcp" || true
    show <"$work/tcp"
    for text in '"hello"' '"ack"' '"pong"' 'bread'; do expect "$work/tcp" "$text" "raw TCP"; done
fi

stop "A cursor is good on every transport: begun with a poll, gone on with SSE"
half="$(fetch "$BASE/poll?channel=$CHANNEL&cursor=$start&limit=2" | field cursor)"
say "two by poll, up to $half; the rest by SSE:"
stream 1 "$BASE/sse?channel=$CHANNEL" -H "Last-Event-ID: $half" | grep '^data' | tee "$work/rest" | show
if grep -qF milk "$work/rest"; then fail "the first message came twice"; fi
expect "$work/rest" 'worth waiting for' "the rest"

stop "A gap is said, never skipped over: a cursor of a log that is gone"
fetch "$BASE/poll?channel=$CHANNEL&cursor=1-1.gone" | tee "$work/gap" | show
expect "$work/gap" '"gap"' gap

stop "An idempotency key: twice asked, once appended, the same id"
first="$(publish "key=order-$$" '"once"' | field id)"
again="$(publish "key=order-$$" '"once"' | field id)"
say "$first"
say "$again"
[ "$first" = "$again" ] || fail "the same key was appended twice"

stop "Volatile: for those connected now; never kept, without an id"
stream 2 "$BASE/sse?channel=$CHANNEL" >"$work/volatile" &
waiting=$!
sleep 0.5
publish 'volatile=1' '{"cursor at":[10,20]}' | show
wait "$waiting"
grep 'cursor at' "$work/volatile" | show
expect "$work/volatile" 'cursor at' volatile
fetch "$BASE/poll?channel=$CHANNEL&cursor=$start" >"$work/kept"
if grep -qF 'cursor at' "$work/kept"; then fail "a volatile message was kept"; fi

stop "exclude: the one who did it does not hear of it"
me=11111111-1111-4111-8111-111111111111
other=22222222-2222-4222-8222-222222222222
here="$(fetch "$BASE/poll?channel=$CHANNEL" | field cursor)"
publish "exclude=$me" '"not for me"' >/dev/null
say "me:    $(fetch "$BASE/poll?channel=$CHANNEL&cursor=$here&client=$me" | tee "$work/me" | cut -c1-150)"
say "other: $(fetch "$BASE/poll?channel=$CHANNEL&cursor=$here&client=$other" | tee "$work/other" | cut -c1-150)"
if grep -qF 'not for me' "$work/me"; then fail "the excluded client got it"; fi
expect "$work/other" 'not for me' exclude

stop "What is refused is refused with a code"
fetch "$BASE/poll?channel=no%20spaces" | show
fetch "$BASE/poll?channel=$CHANNEL&cursor=yesterday" | show
fetch "$BASE/jsonp?channel=$CHANNEL&callback=%3Cscript%3E" | show

if [ -n "${REDIS:-}" ] && command -v redis-cli >/dev/null; then
    stop "From Redis: PUBLISH, a function with a key (twice called, once appended), and XADD straight into the log"
    here="$(fetch "$BASE/poll?channel=$CHANNEL" | field cursor)"
    redis-cli -u "$REDIS" PUBLISH "push:$CHANNEL" '{"title":"eggs"}' | show
    for _ in 1 2; do
        redis-cli -u "$REDIS" FCALL longtail_publish 1 longtail:log "$CHANNEL" '{"title":"jam"}' key "jam-$$" | show
    done
    redis-cli -u "$REDIS" XADD longtail:log '*' channel "$CHANNEL" event itemAdded data '{"title":"tea"}' | show
    sleep 0.5
    fetch "$BASE/poll?channel=$CHANNEL&cursor=$here" | tee "$work/redis" | show
    expect "$work/redis" eggs PUBLISH
    expect "$work/redis" tea XADD
    [ "$(grep -o '"jam"' "$work/redis" | wc -l)" = 1 ] || fail "FCALL with one key: not once"
fi

printf '\nThe end: everything came as it should.\n'
