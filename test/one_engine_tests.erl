%%% @doc A VM has one engine, however often and in any order its modules are loaded, and its
%%% clients notice nothing.
-module(one_engine_tests).
-include_lib("eunit/include/eunit.hrl").

one_engine_test_() ->
    fresh_server:each(?MODULE, 1200, #{}, [
        a_reload_keeps_the_server_and_its_clients,
        a_purge_and_a_load_find_the_same_server,
        the_device_can_be_reloaded,
        copies_of_the_device_share_one_server,
        the_application_stops_and_starts_the_server,
        shards_do_not_take_the_core_of_a_caller
    ]).

-compile([export_all, nowarn_export_all]).

a_reload_keeps_the_server_and_its_clients() ->
    {Info, Client} = serve(),
    %% The library cannot change hands, so the code that works stays.
    quietly(fun() -> ?assertEqual({error, on_load_failure}, code:load_file(hb_websocket_nif)) end),
    ?assertEqual(ok, hb_websocket_nif:load()),
    still_serves(Info, Client).

a_purge_and_a_load_find_the_same_server() ->
    {Info, Client} = serve(),
    lists:foreach(
        fun(_) ->
            code:purge(hb_websocket_nif),
            true = code:delete(hb_websocket_nif),
            code:purge(hb_websocket_nif),
            false = erlang:module_loaded(hb_websocket_nif),
            ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(#{}, #{})),
            ?assertMatch({module, _}, code:ensure_loaded(hb_websocket_nif)),
            still_serves(Info, Client)
        end,
        lists:seq(1, 5)
    ).

the_device_can_be_reloaded() ->
    {Info, Client} = serve(),
    [
        begin
            code:purge(Module),
            ?assertEqual({module, Module}, code:load_file(Module)),
            still_serves(Info, Client)
        end
     ||
        Module <- [dev_websocket, dev_websocket_engine, dev_websocket_listener, dev_websocket_settings, dev_websocket_sup]
    ].

%% The system schedules shards as SCHED_BATCH, and no other thread of the VM (field 41 of
%% proc_pid_stat(5) is 3). Other systems than Linux have no such folder.
shards_do_not_take_the_core_of_a_caller() ->
    {_, _} = serve(),
    Read = fun(File) -> element(2, {ok, _} = file:read_file(File)) end,
    Threads = [
        {Read(filename:join(Task, "comm")), lists:last(string:split(Read(filename:join(Task, "stat")), ") ", all))}
     || Task <- filelib:wildcard("/proc/" ++ os:getpid() ++ "/task/*")
    ],
    Batch = [Name || {Name, Stat} <- Threads, lists:nth(39, string:lexemes(Stat, " ")) =:= <<"3">>],
    ?assertEqual([Name || {<<"ws-shard", _/binary>> = Name, _} <- Threads], Batch),
    ?assertEqual(Threads =/= [], Batch =/= []).

%% Newer nodes give each copy of a device generated module names. The root comes
%% first, so its `on_load' finds no helper.
copies_of_the_device_share_one_server() ->
    {Info, Client} = serve(),
    Copies = device_copy:modules(),
    [{Copy, _, _} | _] = Copies,
    try
        [{module, Module} = code:load_binary(Module, File, Beam) || {Module, File, Beam} <- Copies],
        ?assertEqual(Info, Copy:info()),
        ?assertEqual({ok, <<"OK">>}, Copy:cast(#{<<"topic">> => <<"t">>, <<"data">> => 7}, #{})),
        ?assertMatch([#{<<"data">> := #{<<"data">> := 7}}], ws_client:messages(Client, 1)),
        still_serves(Info, Client),
        ?assertEqual(ok, Copy:start(#{max_inbound_rate => 77})),
        ?assertMatch(#{max_inbound_rate := 77}, dev_websocket:config()),
        ?assertEqual(ok, Copy:stop()),
        ?assertEqual({error, stopped}, dev_websocket:info())
    after
        [{code:purge(Module), code:delete(Module), code:purge(Module)} || {Module, _, _} <- Copies]
    end.

the_application_stops_and_starts_the_server() ->
    ok = dev_websocket:stop(),
    ok = application:start(dev_websocket),
    try
        {Info, Client} = serve(),
        still_serves(Info, Client),
        ok = quietly(fun() -> application:stop(dev_websocket) end),
        ?assertMatch({close, 1001, _}, ws_client:recv(Client)),
        ?assertEqual({error, stopped}, dev_websocket:info()),
        ok = application:start(dev_websocket),
        {Next, NextClient} = serve(),
        still_serves(Next, NextClient)
    after
        quietly(fun() -> application:stop(dev_websocket) end)
    end.

%% @doc The server as `info' tells it, and a client of it.
serve() ->
    Client = fresh_server:client("topic=t"),
    {dev_websocket:info(), Client}.

still_serves(Info, Client) ->
    ?assertEqual(Info, dev_websocket:info()),
    N = erlang:unique_integer([positive]),
    dev_websocket:cast(#{<<"topic">> => <<"t">>, <<"data">> => N}, #{}),
    ?assertMatch([#{<<"data">> := #{<<"data">> := N}}], ws_client:messages(Client, 1)).

%% @doc Run with the log off, because the test causes the errors.
quietly(Run) ->
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, none),
    try Run()
    after
        ok = logger:set_primary_config(level, Level)
    end.
