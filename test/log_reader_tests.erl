%%% @doc The process that logs the events of the engine: its end, its successor, and a slow log.
-module(log_reader_tests).
-include_lib("eunit/include/eunit.hrl").

-define(DEADLINE, 30000).
%% Part of all data that clients and callers send. No event may contain it.
-define(SECRET, "s3cr3t").

log_test_() ->
    log_vm:cases(?MODULE, [
        a_reader_that_is_killed_has_a_successor,
        events_in_the_mailbox_of_a_killed_reader_are_counted,
        many_callers_start_one_reader,
        a_reader_outlives_its_caller_and_its_code,
        copies_of_the_device_share_a_reader,
        a_blocked_log_delays_nothing_else
    ]).

-compile([export_all, nowarn_export_all]).

a_reader_that_is_killed_has_a_successor() ->
    Reader = reader(),
    log_vm:kill(Reader),
    ?assertEqual(false, hb_websocket_nif:is_log_read()),
    %% Events wait meanwhile.
    Peers = [log_vm:request("/ws", []) || _ <- lists:seq(1, 3)],
    {ok, _} = dev_websocket:info(),
    ?assertNotEqual(Reader, reader()),
    [?assertMatch({info, #{peer := Peer}}, log_vm:logged(refused_upgrade)) || Peer <- Peers],
    %% A cast starts no reader.
    log_vm:kill(reader()),
    {ok, <<"OK">>} = dev_websocket:cast(#{<<"topic">> => <<"a">>}, #{}),
    ?assertEqual(false, hb_websocket_nif:is_log_read()),
    ok = dev_websocket:stop(),
    ?assertMatch({info, _}, log_vm:logged(stopped)),
    ?assertMatch(#{<<"log_events_dropped">> := 0}, dev_websocket:stats()),
    log_vm:nothing_else().

events_in_the_mailbox_of_a_killed_reader_are_counted() ->
    Reader = reader(),
    true = erlang:suspend_process(Reader),
    _ = log_vm:request("/ws", []),
    log_vm:await(fun() -> process_info(Reader, message_queue_len) =:= {message_queue_len, 1} end),
    %% Later events wait in the engine.
    Peer = log_vm:request("/ws", []),
    log_vm:kill(Reader),
    {ok, _} = dev_websocket:info(),
    ?assertMatch({info, #{peer := Peer}}, log_vm:logged(refused_upgrade)),
    ?assertMatch(#{<<"log_events_dropped">> := 1}, dev_websocket:stats()),
    log_vm:nothing_else().

many_callers_start_one_reader() ->
    log_vm:kill(reader()),
    Callers = [spawn_monitor(fun() -> {ok, _} = dev_websocket:info() end) || _ <- lists:seq(1, 50)],
    [receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(normal, Reason) end || {_, Monitor} <- Callers],
    _ = reader(),
    Peer = log_vm:request("/ws", []),
    ?assertMatch({info, #{peer := Peer}}, log_vm:logged(refused_upgrade)),
    %% No other process can take its place.
    ?assertEqual({error, {already_read, reader()}}, hb_websocket_nif:read_log()),
    log_vm:nothing_else().

a_reader_outlives_its_caller_and_its_code() ->
    Reader = reader(),
    ?assertEqual({links, [whereis(hb_websocket_sup)]}, process_info(Reader, links)),
    ?assertEqual(process_info(whereis(hb_websocket_sup), group_leader), process_info(Reader, group_leader)),
    Told = fun() ->
        Peer = log_vm:request("/ws", []),
        ?assertMatch({info, #{peer := Peer}}, log_vm:logged(refused_upgrade)),
        ?assertEqual(Reader, reader())
    end,
    Told(),
    %% After the second load its first code is gone.
    [
        begin
            {module, Module} = code:load_file(Module),
            code:purge(Module),
            Told()
        end
     ||
        _ <- [1, 2], Module <- [dev_websocket_log, dev_websocket_engine, dev_websocket]
    ],
    true = code:delete(dev_websocket_log),
    code:purge(dev_websocket_log),
    Told(),
    %% It also survives a purge of the native functions.
    true = code:delete(hb_websocket_nif),
    code:purge(hb_websocket_nif),
    Told(),
    log_vm:nothing_else().

copies_of_the_device_share_a_reader() ->
    Copies = [{Copy, _, _} | _] = device_copy:modules(),
    [{module, Module} = code:load_binary(Module, File, Beam) || {Module, File, Beam} <- Copies],
    Reader = reader(),
    {ok, _} = Copy:info(),
    ?assertEqual({error, {already_read, Reader}}, hb_websocket_nif:read_log()),
    Told = fun() ->
        Peer = log_vm:request("/ws", []),
        ?assertMatch({info, #{peer := Peer}}, log_vm:logged(refused_upgrade))
    end,
    Told(),
    %% A reader of the copy ends with the copy's code. The batch that it had is lost.
    log_vm:kill(Reader),
    {ok, _} = Copy:info(),
    log_vm:await(fun hb_websocket_nif:is_log_read/0),
    {error, {already_read, Other}} = hb_websocket_nif:read_log(),
    ?assertEqual([], readers()),
    Told(),
    [begin true = code:delete(Module), code:purge(Module) end || {Module, _, _} <- Copies],
    ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(#{}, #{})),
    Monitor = monitor(process, Other),
    #{host := Host, port := Port} = uri_string:parse(binary_to_list(element(2, hb_websocket_nif:info()))),
    {ok, Socket, 426, _, _} = ws_client:request({Host, Port}, "/ws", []),
    ok = gen_tcp:close(Socket),
    receive {'DOWN', Monitor, process, Other, _} -> ok after ?DEADLINE -> error(alive) end,
    {ok, _} = dev_websocket:info(),
    Told(),
    ?assertMatch(#{<<"log_events_dropped">> := 1}, dev_websocket:stats()),
    log_vm:nothing_else().

a_blocked_log_delays_nothing_else() ->
    ok = logger:update_handler_config(log_vm, config, #{test => self(), is_held => true}),
    Reader = reader(),
    Peers = [log_vm:request("/ws", []) || _ <- lists:seq(1, 9)],
    receive {held, Reader} -> ok after ?DEADLINE -> error(no_event) end,
    {ok, <<"OK">>} = dev_websocket:cast(#{<<"topic">> => <<"a">>}, #{}),
    {ok, _} = dev_websocket:info(),
    %% It has one batch, and the others wait in the engine.
    {message_queue_len, Waiting} = process_info(Reader, message_queue_len),
    ?assertEqual(0, Waiting),
    ok = logger:update_handler_config(log_vm, config, #{test => self()}),
    Reader ! go_on,
    [?assertMatch({info, #{peer := Peer}}, log_vm:logged(refused_upgrade)) || Peer <- Peers],
    log_vm:nothing_else().

%%% Helpers.

%% @doc The reader of this module's name. Calls start it without waiting for it.
reader() ->
    log_vm:await(fun() -> length(readers()) =:= 1 andalso hb_websocket_nif:is_log_read() end),
    [Reader] = readers(),
    Reader.

readers() ->
    [
        Process
     ||
        Process <- processes(),
        {dictionary, Dictionary} <- [process_info(Process, dictionary)],
        proplists:get_value('$initial_call', Dictionary) =:= {dev_websocket_log, init, 1}
    ].
