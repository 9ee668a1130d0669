%%% @doc The supervisor and its children, and the effects of their ends.
-module(sup_tests).
-include_lib("eunit/include/eunit.hrl").
-export([log/2]).

-define(SUPERVISOR, hb_websocket_sup).

sup_test_() ->
    fresh_server:each(?MODULE, 600, #{max_inbound_rate => 0}, [
        children_are_the_processes_of_the_device,
        clients_stay_connected_when_the_supervisor_ends,
        the_shutdown_guard_is_restarted,
        a_listener_outlives_the_supervisor,
        a_listener_outlives_the_application,
        messages_of_a_proxy_that_ends_reach_the_listener,
        many_calls_at_once_start_one_supervisor,
        exceptions_are_counted_and_logged_at_debug_level_without_terms
    ]).

-compile([export_all, nowarn_export_all]).

children_are_the_processes_of_the_device() ->
    ok = dev_websocket:listen(self()),
    await(fun() -> map_size(children()) =:= 6 end),
    Children = children(),
    ?assertMatch([_, _, _, _, _], [Id || Id <- maps:keys(Children), lists:member(Id, [follow, log_reader, replays, shutdown_guard, tails])]),
    [Proxy] = [Pid || {{listener, _}, Pid} <- maps:to_list(Children)],
    ?assertEqual({error, {already_listening, self(), Proxy}}, hb_websocket_nif:listen(self())),
    ?assertEqual({error, {already_read, maps:get(log_reader, Children)}}, hb_websocket_nif:read_log()),
    ?assertEqual(maps:get(tails, Children), whereis(hb_websocket_tails)),
    [?assertEqual({Id, true}, {Id, is_process_alive(Pid)}) || {Id, Pid} <- maps:to_list(Children)],
    ok = dev_websocket:unlisten(self()),
    ?assertEqual([follow, log_reader, replays, shutdown_guard, tails], lists:sort(maps:keys(children()))).

clients_stay_connected_when_the_supervisor_ends() ->
    Client = fresh_server:client("topic=t"),
    Info = dev_websocket:info(),
    [
        begin
            End(whereis(?SUPERVISOR)),
            ?assertEqual(Info, dev_websocket:info()),
            ok = await_children(),
            {ok, <<"OK">>} = dev_websocket:cast(#{<<"topic">> => <<"t">>}, #{}),
            ?assertMatch([_], ws_client:messages(Client, 1))
        end
     ||
        End <- [fun kill/1, fun(_) -> ok = end_supervisor() end]
    ].

the_shutdown_guard_is_restarted() ->
    ok = await_children(),
    #{shutdown_guard := Guard} = children(),
    kill(Guard),
    ok = await_children(),
    ?assertMatch(#{shutdown_guard := Other} when Other =/= Guard, children()),
    ?assertMatch({ok, _}, dev_websocket:info()).

a_listener_outlives_the_supervisor() ->
    ok = dev_websocket:listen(self(), #{max_queue => 7}),
    Client = fresh_server:client("topic=t"),
    [
        begin
            End(whereis(?SUPERVISOR)),
            await(fun() -> is_listening(self()) end),
            is_heard(Client)
        end
     ||
        End <- [fun kill/1, fun(_) -> ok = end_supervisor() end]
    ],
    ok = dev_websocket:unlisten(self()).

a_listener_outlives_the_application() ->
    ok = dev_websocket:listen(self()),
    Client = fresh_server:client("topic=t"),
    %% The application takes the supervisor over, and clients notice nothing.
    ok = application:start(dev_websocket),
    try
        await(fun() -> is_listening(self()) end),
        is_heard(Client),
        {links, Links} = process_info(whereis(?SUPERVISOR), links),
        ?assertNot(lists:member(whereis(kernel_safe_sup), Links))
    after
        ok = application:stop(dev_websocket)
    end,
    ok = dev_websocket:start(#{}),
    await(fun() -> is_listening(self()) end),
    is_heard(fresh_server:client("topic=t")),
    ok = dev_websocket:unlisten(self()).

messages_of_a_proxy_that_ends_reach_the_listener() ->
    Test = self(),
    Count = 100,
    Listener = spawn_link(fun() ->
        receive collect -> ok end,
        Test ! {collected, [receive {dev_websocket, _, {text, Text}} -> Text end || _ <- lists:seq(1, Count)]}
    end),
    ok = dev_websocket:listen(Listener, #{max_queue => 1}),
    Client = fresh_server:client("topic=t"),
    Texts = [integer_to_binary(N) || N <- lists:seq(1, Count)],
    [ok = ws_client:send_json(Client, #{<<"type">> => <<"send">>, <<"data">> => Text}) || Text <- Texts],
    %% All but one wait in the proxy.
    [Proxy] = [Pid || {{listener, _}, Pid} <- maps:to_list(children())],
    await(fun() -> queue:len(maps:get(waiting, sys:get_state(Proxy))) =:= Count - 1 end),
    ok = end_supervisor(),
    Listener ! collect,
    ?assertEqual(Texts, receive {collected, Collected} -> Collected after 20000 -> lost end).

many_calls_at_once_start_one_supervisor() ->
    ok = end_supervisor(),
    Callers = [spawn_monitor(fun() -> {ok, _} = dev_websocket:info() end) || _ <- lists:seq(1, 50)],
    [receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(normal, Reason) end || {_, Monitor} <- Callers],
    ok = await_children(),
    ?assertEqual([{hb_websocket_nif, supervisor}], [Id || {Id, _, _, _} <- supervisor:which_children(kernel_safe_sup), is_tuple(Id)]).

exceptions_are_counted_and_logged_at_debug_level_without_terms() ->
    Request = maps:from_list([{<<"body">>, <<"secret">>}]),
    #{<<"exceptions">> := Before} = hb_websocket_nif:stats(),
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, debug),
    ok = logger:set_handler_config(default, level, none),
    ok = logger:add_handler(?MODULE, ?MODULE, #{level => all, config => self()}),
    try
        ?assertEqual(default, dev_websocket_log:safely(here, fun() -> error({badkey, <<"secret">>}) end, default)),
        ?assertEqual(7, dev_websocket_log:safely(here, fun() -> 7 end, default)),
        ?assertEqual(default, dev_websocket_log:safely(there, fun() -> binary_to_integer(maps:get(<<"body">>, Request)) end, default)),
        ?assertEqual(default, dev_websocket_log:safely(there, fun() -> throw("secret") end, default)),
        Events = [receive {logged, Event} -> Event end || _ <- lists:seq(1, 3)],
        ?assertMatch(
            [
                #{level := debug, meta := #{event := exception, place := here, class := error, reason := badkey}},
                #{meta := #{place := there, reason := badarg, function := <<"erlang:binary_to_integer/1">>}},
                #{meta := #{class := throw, reason := other}}
            ],
            Events
        ),
        ?assertEqual(nomatch, string:find(io_lib:format("~0p", [Events]), "secret")),
        ?assertMatch(#{<<"exceptions">> := Count} when Count =:= Before + 3, hb_websocket_nif:stats())
    after
        ok = logger:remove_handler(?MODULE),
        ok = logger:set_handler_config(default, level, all),
        ok = logger:set_primary_config(level, Level)
    end.

%% @doc The handler; it runs in the process that logs.
log(#{meta := #{event := exception}} = Event, #{config := Test}) -> Test ! {logged, Event};
log(_Event, _Config) -> ok.

%%% Helpers.

%% @doc The children by their ids.
children() ->
    maps:from_list([{Id, Pid} || {Id, Pid, _, _} <- supervisor:which_children(?SUPERVISOR)]).

%% @doc Each call of the engine starts missing children.
await_children() ->
    await(fun() ->
        _ = dev_websocket:info(),
        is_pid(whereis(?SUPERVISOR)) andalso
            [follow, log_reader, replays, shutdown_guard, tails] =:= lists:sort([Id || {Id, Pid} <- maps:to_list(children()), is_pid(Pid), is_atom(Id)])
    end).

end_supervisor() ->
    supervisor:terminate_child(kernel_safe_sup, {hb_websocket_nif, supervisor}).

kill(Process) ->
    Monitor = monitor(process, Process),
    exit(Process, kill),
    receive {'DOWN', Monitor, process, Process, _} -> ok end.

%% @doc Whether the process has a proxy below the supervisor.
is_listening(Listener) ->
    is_pid(whereis(?SUPERVISOR)) andalso
        [Listener] =:= [maps:get(listener, sys:get_state(Pid)) || {{listener, _}, Pid} <- maps:to_list(children())].

is_heard(Client) ->
    N = erlang:unique_integer([positive]),
    ok = ws_client:send_json(Client, #{<<"type">> => <<"send">>, <<"data">> => N}),
    Text = integer_to_binary(N),
    receive {dev_websocket, _, {text, Text}} -> ok after 20000 -> error(not_heard) end.

%% @doc A supervisor that ends meanwhile is asked again.
await(Holds) ->
    (try Holds() catch exit:_ -> false end) orelse begin receive after 5 -> await(Holds) end end,
    ok.
