#!/bin/sh
# Another rebar3 project that has this one as a dependency builds and loads it with no further step.
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# The crates that are not ours need not be built again.
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}
export CARGO_TARGET_DIR

passed=0
ok() {
    passed=$((passed + 1))
    echo "ok: $1"
}

mkdir -p "$work/src" "$work/_checkouts/dev_websocket"
cat >"$work/rebar.config" <<'END'
{deps, [dev_websocket]}.
END
cat >"$work/src/user.app.src" <<'END'
{application, user, [{vsn, "1"}, {applications, [kernel, stdlib, dev_websocket]}]}.
END
cat >"$work/src/user_of_it.erl" <<'END'
-module(user_of_it).
-export([main/0]).

main() ->
    {ok, Started} = application:ensure_all_started(user),
    true = lists:member(dev_websocket, Started),
    {ok, #{uri := Uri, topics := []}} = dev_websocket:info(),
    {ok, <<"OK">>} = dev_websocket:cast(#{<<"topic">> => <<"t">>}, #{}),
    io:format("~s~n", [Uri]),
    init:stop().
END
# What a clone would have: neither build products nor what is ignored.
git -C "$root" ls-files -z --cached --others --exclude-standard |
    tar -C "$root" --null --files-from=- --ignore-failed-read -cf - 2>/dev/null |
    tar -xf - -C "$work/_checkouts/dev_websocket"

cd "$work"
rebar3 compile
ok 'the project compiles'

library=$work/_checkouts/dev_websocket/priv/crates/dev_websocket_nif/dev_websocket_nif.so
[ -f "$library" ]
ok "the library is in the dependency's own folder"

uri=$(DEV_WEBSOCKET_PORT=0 DEV_WEBSOCKET_HOST=127.0.0.1 \
    erl -noshell -pa _build/default/lib/*/ebin -pa _build/default/checkouts/*/ebin -eval 'user_of_it:main().')
case $uri in
ws://127.0.0.1:*/ws) ok "the device serves at $uri" ;;
*)
    echo "the device does not serve: $uri" >&2
    exit 1
    ;;
esac

before=$(ls -i "$library")
rebar3 compile
[ "$before" = "$(ls -i "$library")" ]
ok 'compiling again changes nothing'

echo "$passed passed, 0 failed"
