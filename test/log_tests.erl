%%% @doc Events of the device and the engine in the log: each kind really happens here.
-module(log_tests).
-include_lib("eunit/include/eunit.hrl").

-define(DEADLINE, 30000).
%% Part of all data that clients and callers send. No event may contain it.
-define(SECRET, "s3cr3t").

log_test_() ->
    log_vm:cases(?MODULE, [
        server_start_change_and_stop_are_logged,
        a_working_server_is_silent_at_the_default_level,
        the_level_of_dev_websocket_applies_to_all_events,
        refusals_are_logged_with_reason_and_peer,
        connections_closed_for_misbehaviour_are_logged,
        slow_connections_are_logged,
        a_taken_port_is_logged_once,
        the_operators_port_is_logged,
        ignored_settings_are_logged,
        an_exited_listener_is_logged,
        a_flood_gives_few_lines_and_the_exact_count
    ]).

-compile([export_all, nowarn_export_all]).

server_start_change_and_stop_are_logged() ->
    Address = log_vm:address(),
    Started = log_vm:logged(started),
    ?assertMatch({info, #{address := Address, shards := 2, workers := 1}}, Started),
    ?assertEqual(
        <<"The WebSocket server 0.2.0 listens on ", Address/binary, " (shards: 2, workers: 1).">>,
        log_vm:text(started, Address)
    ),
    %% When it happened, and not when it was logged.
    #{time := Time} = element(2, Started),
    ?assert(abs(erlang:system_time(microsecond) - Time) < 60000000),
    ok = dev_websocket:start(#{max_connections => 7, ping_interval => 30000}),
    ?assertMatch({info, #{settings := <<"max_connections, ping_interval">>}}, log_vm:logged(changed_settings)),
    %% The same again is no change.
    ok = dev_websocket:start(#{max_connections => 7}),
    ok = dev_websocket:start(#{host => {127, 0, 0, 2}}),
    Moved = log_vm:address(),
    ?assertMatch({info, #{address := Moved, from := Address}}, log_vm:logged(moved)),
    ?assertMatch({info, #{settings := <<"host">>}}, log_vm:logged(changed_settings)),
    ok = dev_websocket:start(#{shards => 1}),
    ?assertMatch({info, #{address := Moved, reason := <<"restarting">>}}, log_vm:logged(stopped)),
    Again = log_vm:address(),
    ?assertMatch({info, #{address := Again, shards := 1}}, log_vm:logged(started)),
    ok = dev_websocket:stop(),
    ?assertMatch({info, #{address := Again, reason := <<"stopping">>}}, log_vm:logged(stopped)),
    ok = dev_websocket:stop(),
    log_vm:nothing_else().

a_working_server_is_silent_at_the_default_level() ->
    ok = logger:unset_module_level(dev_websocket),
    log_vm:refuse(1),
    ok = dev_websocket:start(#{shards => 1}),
    {error, {bad_argument, _}} = dev_websocket:listen(self(), #{no_option => ?SECRET}),
    ok = dev_websocket:stop(),
    log_vm:nothing_else().

the_level_of_dev_websocket_applies_to_all_events() ->
    ok = logger:set_module_level(dev_websocket, error),
    log_vm:refuse(1),
    log_vm:lose_listener(),
    {Taken, Port} = log_vm:take_port(),
    {error, {listen, _}} = dev_websocket:start(#{port => Port}),
    ?assertMatch({error, _}, log_vm:logged(failed_bind)),
    ok = gen_tcp:close(Taken),
    ok = logger:unset_module_level(dev_websocket),
    log_vm:nothing_else().

refusals_are_logged_with_reason_and_peer() ->
    %% Events of a kind are few: no more of them than pass.
    lists:foreach(
        fun({Target, Headers, Reason}) ->
            Peer = log_vm:request(Target, Headers),
            ?assertMatch({info, #{reason := Reason, peer := Peer}}, log_vm:logged(refused_upgrade)),
            ?assertEqual(
                <<"The WebSocket server refused a request of ", Peer/binary, ": ", Reason/binary, ".">>,
                log_vm:text(refused_upgrade, Peer)
            )
        end,
        [
            {"/ws?match=(" ?SECRET, log_vm:upgrade(), <<"bad_regex">>},
            {"/ws?topic=a&format=" ?SECRET, log_vm:upgrade(), <<"bad_format">>},
            {"/ws?topic=" ?SECRET "&since=9999", log_vm:upgrade(), <<"bad_since">>},
            {"/ws?token=" ?SECRET "&topic=%ff", log_vm:upgrade(), <<"bad_encoding">>},
            {"/" ?SECRET "?token=" ?SECRET, log_vm:upgrade(), <<"not_found">>},
            {"/ws?token=" ?SECRET, [], <<"not_an_upgrade">>},
            {"/ws?token=" ?SECRET, [{"Sec-WebSocket-Key", ?SECRET} | log_vm:upgrade()], <<"bad_handshake">>}
        ]
    ),
    ok = dev_websocket:start(#{max_connections_per_ip => 1}),
    _ = log_vm:logged(changed_settings),
    {ok, _} = ws_client:connect(log_vm:uri(), "token=" ?SECRET, log_vm:headers()),
    Peer = log_vm:request("/ws?topic=" ?SECRET, log_vm:upgrade()),
    ?assertMatch({info, #{reason := <<"too_many_connections">>, peer := Peer}}, log_vm:logged(refused_upgrade)),
    ok = dev_websocket:start(#{max_connections_per_ip => 2}),
    _ = log_vm:logged(changed_settings),
    log_vm:nothing_else().

connections_closed_for_misbehaviour_are_logged() ->
    ok = dev_websocket:start(#{max_inbound_bytes => 1024, max_inbound_rate => 5}),
    _ = log_vm:logged(changed_settings),
    lists:foreach(
        fun({Misbehave, Code, Reason}) ->
            {ok, Client} = ws_client:connect(log_vm:uri(), "topic=" ?SECRET, log_vm:headers()),
            Peer = log_vm:peer(Client),
            Misbehave(Client),
            ?assertEqual(Code, closed(Client)),
            {info, #{connection := Connection}} = Told = log_vm:logged(closed_connection),
            ?assertMatch({info, #{peer := Peer, code := Code, reason := Reason}}, Told),
            ?assert(is_integer(Connection)),
            Start = <<"The WebSocket server closed connection ", (integer_to_binary(Connection))/binary, " of ", Peer/binary, ": ">>,
            ?assertMatch({0, _}, binary:match(log_vm:text(closed_connection, Peer), Start)),
            ok = gen_tcp:close(Client)
        end,
        [
            {fun(Client) -> ws_client:send_frame(Client, #{opcode => 1, payload => ?SECRET, mask => false}) end, 1002, <<"protocol">>},
            {fun(Client) -> ws_client:send_frame(Client, #{opcode => 1, payload => [?SECRET, 255]}) end, 1007, <<"invalid_text">>},
            {fun(Client) -> [ws_client:send_text(Client, ?SECRET) || _ <- lists:seq(1, 6)] end, 1008, <<"rate">>},
            {fun(Client) -> ws_client:send_text(Client, lists:duplicate(1000, ?SECRET)) end, 1009, <<"too_large">>}
        ]
    ),
    %% A client that says goodbye, or is gone, is no news.
    {ok, Polite} = ws_client:connect(log_vm:uri(), "topic=a"),
    ok = ws_client:close(Polite, 1000, ?SECRET),
    ?assertEqual(1000, closed(Polite)),
    {ok, Gone} = ws_client:connect(log_vm:uri(), "topic=a"),
    ws_client:abort(Gone),
    log_vm:settle(<<"connections_closed">>, 6),
    log_vm:nothing_else().

slow_connections_are_logged() ->
    ok = dev_websocket:start(#{send_buffer_bytes => 65536}),
    _ = log_vm:logged(changed_settings),
    Client = ws_client:connect_raw(log_vm:uri(), "topic=t&token=" ?SECRET),
    Peer = log_vm:peer(Client),
    Message = #{<<"topic">> => <<"t">>, <<"data">> => binary:copy(<<?SECRET>>, 1000)},
    cast_until_slow(Message),
    ?assertMatch({info, #{peer := Peer, code := 1013, reason := <<"slow">>}}, log_vm:logged(closed_connection)),
    log_vm:nothing_else().

a_taken_port_is_logged_once() ->
    Uri = log_vm:uri(),
    {Taken, Port} = log_vm:take_port(),
    Address = <<"127.0.0.1:", (integer_to_binary(Port))/binary>>,
    {error, {listen, _}} = dev_websocket:start(#{port => Port}),
    ?assertMatch({error, #{address := Address, reason := eaddrinuse}}, log_vm:logged(failed_bind)),
    ?assertEqual(
        <<"The WebSocket server still listens at ", Uri/binary, ": cannot listen on ", Address/binary, ": address already in use (eaddrinuse).">>,
        log_vm:text(failed_bind, Address)
    ),
    ok = dev_websocket:stop(),
    _ = log_vm:logged(stopped),
    {error, {listen, _}} = dev_websocket:start(#{port => Port}),
    ?assertMatch({error, #{address := Address, reason := eaddrinuse}}, log_vm:logged(failed_bind)),
    ?assertEqual(
        <<"The WebSocket server is not running: cannot listen on ", Address/binary,
            ": address already in use (eaddrinuse). Call start/1 of the device to retry.">>,
        log_vm:text(failed_bind, Address)
    ),
    %% Later calls return the reason and log nothing.
    {error, _} = dev_websocket:info(),
    {error, _} = dev_websocket:info(),
    ok = gen_tcp:close(Taken),
    log_vm:nothing_else().

the_operators_port_is_logged() ->
    Uri = log_vm:uri(),
    {Taken, Port} = log_vm:take_port(),
    Address = <<"127.0.0.1:", (integer_to_binary(Port))/binary>>,
    Error = {error, {listen, #{address => Address, reason => eaddrinuse, setting => operator_port}}},
    ?assertEqual(Error, dev_websocket:start(#{operator_port => Port})),
    ?assertMatch({error, #{address := Address, reason := eaddrinuse, setting := operator_port}}, log_vm:logged(failed_bind)),
    ?assertEqual(
        <<"The WebSocket server still listens at ", Uri/binary, ": cannot listen on ", Address/binary,
            " (operator_port): address already in use (eaddrinuse).">>,
        log_vm:text(failed_bind, Address)
    ),
    ok = gen_tcp:close(Taken),
    ok = dev_websocket:start(#{operator_port => Port}),
    ?assertMatch({info, #{address := Address}}, log_vm:logged(operator_port)),
    ?assertEqual(<<"The operator's listener is on ", Address/binary, ".">>, log_vm:text(operator_port, Address)),
    ?assertMatch({info, #{settings := <<"operator_port">>}}, log_vm:logged(changed_settings)),
    ok = dev_websocket:start(#{operator_port => 0}),
    ?assertMatch({info, #{from := Address}}, log_vm:logged(operator_port)),
    ?assertEqual(<<"The operator's listener on ", Address/binary, " is closed.">>, log_vm:text(operator_port, Address)),
    _ = log_vm:logged(changed_settings),
    log_vm:nothing_else().

ignored_settings_are_logged() ->
    ok = dev_websocket:stop(),
    _ = log_vm:logged(stopped),
    application:set_env(dev_websocket, public_host, lists:duplicate(10000, {[10, 13]})),
    application:set_env(dev_websocket, no_such_setting, ?SECRET),
    application:set_env(dev_websocket, port, 0),
    application:set_env(dev_websocket, host, {127, 0, 0, 1}),
    ok = dev_websocket:start(#{}),
    ?assertMatch({warning, _}, log_vm:logged(ignored_setting)),
    ?assertMatch({error, #{setting := public_host}}, log_vm:logged(ignored_setting)),
    ?assertMatch({info, _}, log_vm:logged(started)),
    ok = dev_websocket:stop(),
    _ = log_vm:logged(stopped),
    application:set_env(dev_websocket, ping_interval, lists:duplicate(10000, {[10, 13]})),
    {error, _} = dev_websocket:start(#{}),
    ?assertMatch({warning, _}, log_vm:logged(ignored_setting)),
    ?assertMatch({error, #{setting := public_host}}, log_vm:logged(ignored_setting)),
    ?assertMatch({error, #{setting := ping_interval}}, log_vm:logged(refused_setting)),
    [application:unset_env(dev_websocket, Name) || Name <- [ping_interval, public_host, no_such_setting]],
    log_vm:nothing_else().

an_exited_listener_is_logged() ->
    lists:foreach(
        fun({Reason, Level}) ->
            Listener = spawn(fun() -> receive stop -> exit(Reason) end end),
            ok = dev_websocket:listen(Listener),
            Listener ! stop,
            ?assertMatch({Level, #{listener := Listener}}, log_vm:logged(lost_listener))
        end,
        [{normal, info}, {{shutdown, ?SECRET}, info}, {{crash, ?SECRET}, warning}, {kill, warning}]
    ),
    log_vm:lose_listener(),
    ?assertMatch({warning, _}, log_vm:logged(lost_listener)),
    %% An unlisten by the listener itself is not logged.
    ok = dev_websocket:listen(self()),
    ok = dev_websocket:unlisten(self()),
    log_vm:nothing_else().

a_flood_gives_few_lines_and_the_exact_count() ->
    Count = 10000,
    Begun = erlang:monotonic_time(millisecond),
    Flooders = [spawn_monitor(fun() -> log_vm:refuse(Count div 8) end) || _ <- lists:seq(1, 8)],
    [receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(normal, Reason) end || {_, Monitor} <- Flooders],
    {Lines, Suppressed} = counted(Count, 0, []),
    ?assertEqual(Count, Lines + lists:sum(Suppressed)),
    %% Ten of each five seconds, and one that says how many more there were.
    Windows = (erlang:monotonic_time(millisecond) - Begun) div 5000 + 1,
    ?assert(Lines =< 10 * Windows, {Lines, Windows}),
    ?assert(length(Suppressed) =< Windows, {Suppressed, Windows}),
    ?assertMatch(#{<<"requests_refused">> := Count, <<"log_events_dropped">> := 0}, dev_websocket:stats()),
    %% Events of other kinds are still logged.
    ok = dev_websocket:stop(),
    ?assertMatch({info, _}, log_vm:logged(stopped)),
    log_vm:nothing_else().

%%% Helpers.

%% @doc Events and held back ones, until there are so many.
counted(Count, Lines, Suppressed) ->
    case Lines + lists:sum(Suppressed) < Count of
        false ->
            {Lines, Suppressed};
        true ->
            receive
                {logged, refused_upgrade, info, _, _} ->
                    counted(Count, Lines + 1, Suppressed);
                {logged, suppressed, Level, #{kind := refused_upgrade, count := More}, Line} ->
                    ?assertEqual(info, Level),
                    ?assertEqual(
                        <<"The WebSocket server suppressed ", (integer_to_binary(More))/binary, " more log events of kind refused_upgrade.">>,
                        Line
                    ),
                    counted(Count, Lines, [More | Suppressed])
            after ?DEADLINE ->
                error({not_logged, Lines, Suppressed})
            end
    end.

%% @doc The code that a connection is closed with.
closed(Client) ->
    case ws_client:recv(Client) of
        {close, Code, _} -> Code;
        {text, _} -> closed(Client)
    end.

cast_until_slow(Message) ->
    case dev_websocket:stats() of
        #{<<"dropped_slow">> := 0} ->
            {ok, <<"OK">>} = dev_websocket:cast(Message, #{}),
            cast_until_slow(Message);
        _ ->
            ok
    end.
