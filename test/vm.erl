%%% @doc VMs of their own for tests, and folders for them.
-module(vm).
-export([in_folder/1, with_copy/1, start_peer/2, with_peer/3, environment/0, ebin/0]).

%% Modules are compiled in there.
-define(DEADLINE, 60000).

in_folder(Run) ->
    Folder = filename:join([
        os:getenv("TMPDIR", "/tmp"),
        "dev_websocket_tests." ++ os:getpid() ++ "." ++ integer_to_list(erlang:unique_integer([positive]))
    ]),
    ok = filelib:ensure_dir(filename:join(Folder, "file")),
    try Run(Folder)
    after
        file:del_dir_r(Folder)
    end.

%% @doc The compiled modules in a folder of their own, without the library.
with_copy(Run) ->
    in_folder(fun(Folder) ->
        Ebin = filename:join([Folder, "lib", "ebin"]),
        ok = filelib:ensure_dir(filename:join(Ebin, "file")),
        [
            {ok, _} = file:copy(File, filename:join(Ebin, filename:basename(File)))
         ||
            File <- filelib:wildcard(filename:join(ebin(), "{dev,hb}_websocket*.{beam,app}")),
            string:find(File, "_tests") =:= nomatch
        ],
        Run(Ebin, filename:join([code:priv_dir(dev_websocket), "crates", "dev_websocket_nif", "dev_websocket_nif.so"]))
    end).

start_peer(Ebin, Environment) ->
    Quiet = ["-kernel", "logger_level", "none"],
    peer:start_link(#{
        connection => standard_io,
        args => ["-pa", Ebin | Quiet],
        env => maps:to_list(maps:merge(environment(), maps:from_list(Environment)))
    }).

with_peer(Ebin, Environment, Run) ->
    {ok, Peer, _} = start_peer(Ebin, Environment),
    try Run(fun(Module, Name, Arguments) -> peer:call(Peer, Module, Name, Arguments, ?DEADLINE) end)
    after
        peer:stop(Peer)
    end.

environment() ->
    #{"DEV_WEBSOCKET_PORT" => "0", "DEV_WEBSOCKET_HOST" => "127.0.0.1"}.

ebin() ->
    filename:absname(filename:dirname(code:which(dev_websocket))).
