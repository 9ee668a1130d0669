%%% @doc What the device and the engine tell whoever runs the node: each kind of event
%%% really happens here. Limits count for a whole VM, so each test has one of its own.
-module(log_tests).
-include_lib("eunit/include/eunit.hrl").
-export([run/1, log/2]).

-define(DEADLINE, 30000).
%% Stands in everything that clients and callers send, and in no event.
-define(SECRET, "s3cr3t").

log_test_() ->
    [
        {timeout, 120, {atom_to_list(Name), fun() -> in_vm(Name) end}}
     ||
        Name <- [
            the_life_of_a_server_is_told,
            a_working_server_is_silent_at_the_default_level,
            one_module_level_is_for_all_of_it,
            refusals_tell_the_reason_and_the_peer,
            connections_closed_for_what_clients_did_are_told,
            slow_connections_are_told,
            a_taken_port_is_told_once,
            ignored_settings_are_told,
            a_lost_listener_is_told,
            a_flood_gives_few_lines_and_the_exact_count,
            a_reader_that_is_killed_has_a_successor,
            what_was_in_the_mailbox_of_a_killed_reader_is_counted,
            many_callers_start_one_reader,
            a_reader_outlives_its_caller_and_its_code,
            copies_of_the_device_share_a_reader,
            a_log_that_stands_still_holds_nobody_up
        ]
    ].

-compile([export_all, nowarn_export_all]).

the_life_of_a_server_is_told() ->
    Address = address(),
    Started = told(started),
    ?assertMatch({info, #{address := Address, shards := 2, workers := 1}}, Started),
    ?assertEqual(
        <<"The WebSocket server listens on ", Address/binary, " (shards: 2, workers: 1).">>,
        text(started, Address)
    ),
    %% When it happened, and not when it was logged.
    #{time := Time} = element(2, Started),
    ?assert(abs(erlang:system_time(microsecond) - Time) < 60000000),
    ok = dev_websocket:start(#{max_connections => 7, ping_interval => 30000}),
    ?assertMatch({info, #{settings := <<"max_connections, ping_interval">>}}, told(changed_settings)),
    %% The same again is no change.
    ok = dev_websocket:start(#{max_connections => 7}),
    ok = dev_websocket:start(#{host => {127, 0, 0, 2}}),
    Moved = address(),
    ?assertMatch({info, #{address := Moved, from := Address}}, told(moved)),
    ?assertMatch({info, #{settings := <<"host">>}}, told(changed_settings)),
    ok = dev_websocket:start(#{shards => 1}),
    ?assertMatch({info, #{address := Moved, reason := <<"restarting">>}}, told(stopped)),
    Again = address(),
    ?assertMatch({info, #{address := Again, shards := 1}}, told(started)),
    ok = dev_websocket:stop(),
    ?assertMatch({info, #{address := Again, reason := <<"stopping">>}}, told(stopped)),
    ok = dev_websocket:stop(),
    nothing_else().

a_working_server_is_silent_at_the_default_level() ->
    ok = logger:unset_module_level(dev_websocket),
    refuse(1),
    ok = dev_websocket:start(#{shards => 1}),
    {error, {bad_argument, _}} = dev_websocket:listen(self(), #{no_option => ?SECRET}),
    ok = dev_websocket:stop(),
    nothing_else().

one_module_level_is_for_all_of_it() ->
    ok = logger:set_module_level(dev_websocket, error),
    refuse(1),
    lose_listener(),
    {Taken, Port} = take_port(),
    {error, {listen, _}} = dev_websocket:start(#{port => Port}),
    ?assertMatch({error, _}, told(failed_bind)),
    ok = gen_tcp:close(Taken),
    ok = logger:unset_module_level(dev_websocket),
    nothing_else().

refusals_tell_the_reason_and_the_peer() ->
    %% Events of a kind are few: no more of them than pass.
    lists:foreach(
        fun({Target, Headers, Reason}) ->
            Peer = request(Target, Headers),
            ?assertMatch({info, #{reason := Reason, peer := Peer}}, told(refused_upgrade)),
            ?assertEqual(
                <<"The WebSocket server has refused ", Peer/binary, ": ", Reason/binary, ".">>,
                text(refused_upgrade, Peer)
            )
        end,
        [
            {"/ws?match=(" ?SECRET, upgrade(), <<"bad_regex">>},
            {"/ws?topic=a&format=" ?SECRET, upgrade(), <<"bad_format">>},
            {"/ws?topic=" ?SECRET "&since=9999", upgrade(), <<"bad_since">>},
            {"/ws?token=" ?SECRET "&topic=%ff", upgrade(), <<"bad_encoding">>},
            {"/" ?SECRET "?token=" ?SECRET, upgrade(), <<"not_found">>},
            {"/ws?token=" ?SECRET, [], <<"not_an_upgrade">>},
            {"/ws?token=" ?SECRET, [{"Sec-WebSocket-Key", ?SECRET} | upgrade()], <<"bad_handshake">>}
        ]
    ),
    ok = dev_websocket:start(#{max_connections_per_ip => 1}),
    _ = told(changed_settings),
    {ok, _} = ws_client:connect(uri(), "token=" ?SECRET, headers()),
    Peer = request("/ws?topic=" ?SECRET, upgrade()),
    ?assertMatch({info, #{reason := <<"too_many_connections">>, peer := Peer}}, told(refused_upgrade)),
    ok = dev_websocket:start(#{max_connections_per_ip => 2}),
    _ = told(changed_settings),
    nothing_else().

connections_closed_for_what_clients_did_are_told() ->
    ok = dev_websocket:start(#{max_inbound_bytes => 1024, max_inbound_rate => 5}),
    _ = told(changed_settings),
    lists:foreach(
        fun({Misbehave, Code, Reason}) ->
            {ok, Client} = ws_client:connect(uri(), "topic=" ?SECRET, headers()),
            Peer = peer(Client),
            Misbehave(Client),
            ?assertEqual(Code, closed(Client)),
            {info, #{connection := Connection}} = Told = told(closed_connection),
            ?assertMatch({info, #{peer := Peer, code := Code, reason := Reason}}, Told),
            ?assert(is_integer(Connection)),
            Start = <<"The WebSocket server has closed connection ", (integer_to_binary(Connection))/binary, " of ", Peer/binary, ": ">>,
            ?assertMatch({0, _}, binary:match(text(closed_connection, Peer), Start)),
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
    {ok, Polite} = ws_client:connect(uri(), "topic=a"),
    ok = ws_client:close(Polite, 1000, ?SECRET),
    ?assertEqual(1000, closed(Polite)),
    {ok, Gone} = ws_client:connect(uri(), "topic=a"),
    ws_client:abort(Gone),
    settle(<<"connections_closed">>, 6),
    nothing_else().

slow_connections_are_told() ->
    ok = dev_websocket:start(#{pending_bytes => 65536}),
    _ = told(changed_settings),
    Client = ws_client:connect_raw(uri(), "topic=t&token=" ?SECRET),
    Peer = peer(Client),
    Message = #{<<"topic">> => <<"t">>, <<"data">> => binary:copy(<<?SECRET>>, 1000)},
    cast_until_slow(Message),
    ?assertMatch({info, #{peer := Peer, code := 1013, reason := <<"slow">>}}, told(closed_connection)),
    nothing_else().

a_taken_port_is_told_once() ->
    Uri = uri(),
    {Taken, Port} = take_port(),
    Address = <<"127.0.0.1:", (integer_to_binary(Port))/binary>>,
    {error, {listen, _}} = dev_websocket:start(#{port => Port}),
    ?assertMatch({error, #{address := Address, reason := eaddrinuse}}, told(failed_bind)),
    ?assertEqual(
        <<"The WebSocket server still listens at ", Uri/binary, ": cannot listen on ", Address/binary, ": address already in use (eaddrinuse).">>,
        text(failed_bind, Address)
    ),
    ok = dev_websocket:stop(),
    _ = told(stopped),
    {error, {listen, _}} = dev_websocket:start(#{port => Port}),
    ?assertMatch({error, #{address := Address, reason := eaddrinuse}}, told(failed_bind)),
    ?assertEqual(
        <<"The WebSocket server is not running: cannot listen on ", Address/binary,
            ": address already in use (eaddrinuse). Call start/1 of the device to retry.">>,
        text(failed_bind, Address)
    ),
    %% Whoever asks now is answered, and the log has said it.
    {error, _} = dev_websocket:info(),
    {error, _} = dev_websocket:info(),
    ok = gen_tcp:close(Taken),
    nothing_else().

ignored_settings_are_told() ->
    ok = dev_websocket:stop(),
    _ = told(stopped),
    application:set_env(dev_websocket, public_host, lists:duplicate(10000, {[10, 13]})),
    application:set_env(dev_websocket, no_such_setting, ?SECRET),
    application:set_env(dev_websocket, port, 0),
    application:set_env(dev_websocket, host, {127, 0, 0, 1}),
    ok = dev_websocket:start(#{}),
    ?assertMatch({warning, _}, told(ignored_setting)),
    ?assertMatch({error, #{setting := public_host}}, told(ignored_setting)),
    ?assertMatch({info, _}, told(started)),
    ok = dev_websocket:stop(),
    _ = told(stopped),
    application:set_env(dev_websocket, ping_interval, lists:duplicate(10000, {[10, 13]})),
    {error, _} = dev_websocket:start(#{}),
    ?assertMatch({warning, _}, told(ignored_setting)),
    ?assertMatch({error, #{setting := public_host}}, told(ignored_setting)),
    ?assertMatch({error, #{setting := ping_interval}}, told(refused_setting)),
    [application:unset_env(dev_websocket, Name) || Name <- [ping_interval, public_host, no_such_setting]],
    nothing_else().

a_lost_listener_is_told() ->
    lists:foreach(
        fun({Reason, Level}) ->
            Listener = spawn(fun() -> receive stop -> exit(Reason) end end),
            ok = dev_websocket:listen(Listener),
            Listener ! stop,
            ?assertMatch({Level, #{listener := Listener}}, told(lost_listener))
        end,
        [{normal, info}, {{shutdown, ?SECRET}, info}, {{crash, ?SECRET}, warning}, {kill, warning}]
    ),
    lose_listener(),
    ?assertMatch({warning, _}, told(lost_listener)),
    %% Who ends it knows it.
    ok = dev_websocket:listen(self()),
    ok = dev_websocket:unlisten(self()),
    nothing_else().

a_flood_gives_few_lines_and_the_exact_count() ->
    Count = 10000,
    Begun = erlang:monotonic_time(millisecond),
    Flooders = [spawn_monitor(fun() -> refuse(Count div 8) end) || _ <- lists:seq(1, 8)],
    [receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(normal, Reason) end || {_, Monitor} <- Flooders],
    {Lines, Suppressed} = counted(Count, 0, []),
    ?assertEqual(Count, Lines + lists:sum(Suppressed)),
    %% Ten of each five seconds, and one that says how many more there were.
    Windows = (erlang:monotonic_time(millisecond) - Begun) div 5000 + 1,
    ?assert(Lines =< 10 * Windows, {Lines, Windows}),
    ?assert(length(Suppressed) =< Windows, {Suppressed, Windows}),
    ?assertMatch(#{<<"requests_refused">> := Count, <<"log_events_dropped">> := 0}, dev_websocket:stats()),
    %% Others are told all the same.
    ok = dev_websocket:stop(),
    ?assertMatch({info, _}, told(stopped)),
    nothing_else().

a_reader_that_is_killed_has_a_successor() ->
    Reader = reader(),
    kill(Reader),
    ?assertEqual(false, hb_websocket_nif:is_log_read()),
    %% Meanwhile events wait.
    Peers = [request("/ws", []) || _ <- lists:seq(1, 3)],
    {ok, _} = dev_websocket:info(),
    ?assertNotEqual(Reader, reader()),
    [?assertMatch({info, #{peer := Peer}}, told(refused_upgrade)) || Peer <- Peers],
    %% A cast asks nothing and starts nothing.
    kill(reader()),
    {ok, <<"OK">>} = dev_websocket:cast(#{<<"topic">> => <<"a">>}, #{}),
    ?assertEqual(false, hb_websocket_nif:is_log_read()),
    ok = dev_websocket:stop(),
    ?assertMatch({info, _}, told(stopped)),
    ?assertMatch(#{<<"log_events_dropped">> := 0}, dev_websocket:stats()),
    nothing_else().

what_was_in_the_mailbox_of_a_killed_reader_is_counted() ->
    Reader = reader(),
    true = erlang:suspend_process(Reader),
    _ = request("/ws", []),
    await(fun() -> process_info(Reader, message_queue_len) =:= {message_queue_len, 1} end),
    %% The next ones wait in the engine.
    Peer = request("/ws", []),
    kill(Reader),
    {ok, _} = dev_websocket:info(),
    ?assertMatch({info, #{peer := Peer}}, told(refused_upgrade)),
    ?assertMatch(#{<<"log_events_dropped">> := 1}, dev_websocket:stats()),
    nothing_else().

many_callers_start_one_reader() ->
    kill(reader()),
    Callers = [spawn_monitor(fun() -> {ok, _} = dev_websocket:info() end) || _ <- lists:seq(1, 50)],
    [receive {'DOWN', Monitor, process, _, Reason} -> ?assertEqual(normal, Reason) end || {_, Monitor} <- Callers],
    ?assertMatch([_], readers()),
    Peer = request("/ws", []),
    ?assertMatch({info, #{peer := Peer}}, told(refused_upgrade)),
    %% Nobody else may take its place.
    ?assertEqual({error, {already_read, reader()}}, hb_websocket_nif:read_log()),
    nothing_else().

a_reader_outlives_its_caller_and_its_code() ->
    Reader = reader(),
    ?assertEqual({links, [whereis(hb_websocket_sup)]}, process_info(Reader, links)),
    ?assertEqual(process_info(whereis(hb_websocket_sup), group_leader), process_info(Reader, group_leader)),
    Told = fun() ->
        Peer = request("/ws", []),
        ?assertMatch({info, #{peer := Peer}}, told(refused_upgrade)),
        ?assertEqual(Reader, reader())
    end,
    Told(),
    %% Twice, so that the code that it began with is gone.
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
    %% So does it the door to the engine.
    true = code:delete(hb_websocket_nif),
    code:purge(hb_websocket_nif),
    Told(),
    nothing_else().

copies_of_the_device_share_a_reader() ->
    Copies = [{Copy, _, _} | _] = device_copy:modules(),
    [{module, Module} = code:load_binary(Module, File, Beam) || {Module, File, Beam} <- Copies],
    Reader = reader(),
    {ok, _} = Copy:info(),
    ?assertEqual({error, {already_read, Reader}}, hb_websocket_nif:read_log()),
    Told = fun() ->
        Peer = request("/ws", []),
        ?assertMatch({info, #{peer := Peer}}, told(refused_upgrade))
    end,
    Told(),
    %% A reader of the copy ends with the copy's code, and what it had just got is lost.
    kill(Reader),
    {ok, _} = Copy:info(),
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
    nothing_else().

a_log_that_stands_still_holds_nobody_up() ->
    ok = logger:update_handler_config(?MODULE, config, #{test => self(), is_held => true}),
    Reader = reader(),
    Peers = [request("/ws", []) || _ <- lists:seq(1, 9)],
    receive {held, Reader} -> ok after ?DEADLINE -> error(no_event) end,
    {ok, <<"OK">>} = dev_websocket:cast(#{<<"topic">> => <<"a">>}, #{}),
    {ok, _} = dev_websocket:info(),
    %% It has one batch, and the others wait in the engine.
    {message_queue_len, Waiting} = process_info(Reader, message_queue_len),
    ?assertEqual(0, Waiting),
    ok = logger:update_handler_config(?MODULE, config, #{test => self()}),
    Reader ! go_on,
    [?assertMatch({info, #{peer := Peer}}, told(refused_upgrade)) || Peer <- Peers],
    nothing_else().

%%% A VM with a log that is seen.

in_vm(Name) ->
    {ok, Peer, _} = peer:start_link(#{
        connection => standard_io,
        args => [
            "-pa", filename:dirname(code:which(dev_websocket)), filename:dirname(code:which(?MODULE))
        ],
        env => [
            {"DEV_WEBSOCKET_PORT", "0"}, {"DEV_WEBSOCKET_HOST", "127.0.0.1"},
            {"DEV_WEBSOCKET_SHARDS", "2"}, {"DEV_WEBSOCKET_WORKERS", "1"}
        ]
    }),
    try peer:call(Peer, ?MODULE, run, [Name], 100000)
    after
        peer:stop(Peer)
    end.

run(Name) ->
    _ = ets:new(?MODULE, [named_table, public, ordered_set]),
    [logger:remove_handler(Handler) || Handler <- logger:get_handler_ids()],
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{test => self()}}),
    ok = logger:set_module_level(dev_websocket, all),
    _ = uri(),
    Name =:= the_life_of_a_server_is_told orelse told(started),
    ?MODULE:Name(),
    Events = [Event || {_, Event} <- ets:tab2list(?MODULE)],
    lists:foreach(fun is_well_formed/1, Events),
    ?assertEqual(nomatch, string:find(io_lib:format("~p", [Events]), ?SECRET)),
    ?assertEqual(nomatch, binary:match(term_to_binary(Events), <<?SECRET>>)).

%% @doc The handler; it runs in the process that logs.
log(#{level := Level, msg := Message, meta := Metadata} = Event, #{config := #{test := Test} = Config}) ->
    case Metadata of
        #{application := dev_websocket, event := Name} ->
            [begin Test ! {held, self()}, receive go_on -> ok end end || is_map_key(is_held, Config)],
            ets:insert(?MODULE, {erlang:unique_integer([monotonic]), Event}),
            Test ! {told, Name, Level, Metadata, line(Message)};
        _ ->
            ok
    end.

line({string, Text}) -> unicode:characters_to_binary(Text);
line({Format, Arguments}) -> unicode:characters_to_binary(io_lib:format(Format, Arguments)).

is_well_formed(#{msg := Message, meta := #{mfa := {dev_websocket, start, 1}} = Metadata}) ->
    Line = line(Message),
    ?assertMatch({match, [{0, _}]}, re:run(Line, "^[\\x20-\\x7e]{10,300}\\.$"), Line),
    ?assertNot(is_map_key(domain, Metadata)).

%% @doc The next event of that name.
told(Name) ->
    receive
        {told, Name, Level, Metadata, Line} ->
            put({line, Name}, Line),
            {Level, Metadata}
    after ?DEADLINE ->
        error({not_told, Name, process_info(self(), messages)})
    end.

%% @doc The line of the event that was told last, which names something.
text(Name, Part) ->
    Line = get({line, Name}),
    ?assertNotEqual(nomatch, binary:match(Line, Part)),
    Line.

%% @doc Nothing else was told: events come in their order, so one that is provoked now
%% is the next one.
nothing_else() ->
    Mine =
        case dev_websocket:info() of
            {ok, _} -> [];
            {error, _} -> [started]
        end,
    ok = dev_websocket:start(#{port => 0}),
    lose_listener(),
    ?assertMatch({warning, _}, told(lost_listener)),
    Told = [Name || {told, Name, _, _, _} <- element(2, process_info(self(), messages))],
    ?assertEqual([], Told -- Mine).

%% @doc An event of the engine itself that a logger shows at its default level.
lose_listener() ->
    Listener = spawn(fun() -> receive stop -> ok end end),
    ok = dev_websocket:listen(Listener),
    {error, {already_listening, Listener, Proxy}} = hb_websocket_nif:listen(self()),
    kill(Proxy),
    %% The next message notices.
    {ok, Client} = ws_client:connect(uri(), ""),
    ws_client:send_json(Client, #{<<"type">> => <<"send">>, <<"data">> => <<?SECRET>>}),
    #{<<"type">> := <<"connection_established">>} = ws_client:recv_json(Client),
    #{<<"code">> := <<"no_listener">>} = ws_client:recv_json(Client),
    exit(Listener, kill).

reader() ->
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

kill(Process) ->
    Monitor = monitor(process, Process),
    exit(Process, kill),
    receive {'DOWN', Monitor, process, Process, _} -> ok end.

%% @doc Events and held back ones, until there are so many.
counted(Count, Lines, Suppressed) ->
    case Lines + lists:sum(Suppressed) < Count of
        false ->
            {Lines, Suppressed};
        true ->
            receive
                {told, refused_upgrade, info, _, _} ->
                    counted(Count, Lines + 1, Suppressed);
                {told, suppressed, Level, #{kind := refused_upgrade, count := More}, Line} ->
                    ?assertEqual(info, Level),
                    ?assertEqual(
                        <<"The WebSocket server has suppressed ", (integer_to_binary(More))/binary, " more refused_upgrade.">>,
                        Line
                    ),
                    counted(Count, Lines, [More | Suppressed])
            after ?DEADLINE ->
                error({not_told, Lines, Suppressed})
            end
    end.

%%% Clients.

uri() ->
    {ok, #{uri := Uri}} = dev_websocket:info(),
    Uri.

address() ->
    #{host := Host, port := Port} = uri_string:parse(uri()),
    <<Host/binary, ":", (integer_to_binary(Port))/binary>>.

peer(Socket) ->
    {ok, {Ip, Port}} = inet:sockname(Socket),
    iolist_to_binary([inet:ntoa(Ip), ":", integer_to_list(Port)]).

%% @doc Send a request that is refused, and say where from.
request(Target, Headers) ->
    #{host := Host, port := Port} = uri_string:parse(unicode:characters_to_list(uri())),
    {ok, Socket, Status, _, _} = ws_client:request({Host, Port}, Target, Headers ++ headers()),
    ?assert(Status >= 400),
    Peer = peer(Socket),
    ok = gen_tcp:close(Socket),
    Peer.

refuse(Count) ->
    #{host := Host, port := Port} = uri_string:parse(unicode:characters_to_list(uri())),
    lists:foreach(
        fun(_) ->
            {ok, Socket, 426, _, _} = ws_client:request({Host, Port}, "/ws?token=" ?SECRET, headers()),
            ok = gen_tcp:close(Socket)
        end,
        lists:seq(1, Count)
    ).

upgrade() ->
    [
        {"Upgrade", "websocket"}, {"Connection", "Upgrade"}, {"Sec-WebSocket-Version", "13"},
        {"Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="}
    ].

headers() ->
    [{"Authorization", "Bearer " ?SECRET}, {"Cookie", "a=" ?SECRET}, {"X-" ?SECRET, ?SECRET}, {"User-Agent", ?SECRET}].

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

settle(Stat, Value) ->
    await(fun() -> maps:get(Stat, dev_websocket:stats()) =:= Value end).

await(Condition) ->
    Condition() orelse begin receive after 1 -> await(Condition) end end.

take_port() ->
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    {Listener, Port}.
