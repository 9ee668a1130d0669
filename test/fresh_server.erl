%%% @doc Helpers of tests of a running device: a server for each test, and its clients.
-module(fresh_server).
-export([each/4, start/1, client/1]).

%% @doc The tests of a module by their names, each with a server that is started for it
%% with these settings, and so many seconds.
each(Module, Seconds, Settings, Names) ->
    {foreach, fun() -> start(Settings) end, fun(_) -> dev_websocket:stop() end, [
        {timeout, Seconds, {atom_to_list(Name), fun() -> Module:Name() end}}
     ||
        Name <- Names
    ]}.

%% @doc Start the server, after a stop of the one before.
start(Settings) ->
    ok = dev_websocket:stop(),
    ok = dev_websocket:start(Settings).

%% @doc A client that has been told that it is connected.
client(Query) ->
    {ok, #{uri := Uri}} = dev_websocket:info(),
    {ok, Client} = ws_client:connect(Uri, Query),
    #{<<"type">> := <<"connection_established">>} = ws_client:recv_json(Client),
    Client.
