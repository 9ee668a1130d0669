%%% @doc A VM for each test of the log, with a handler that keeps all events, and clients of
%%% its server. Rate limits of the log count for a whole VM, so the tests share none.
-module(log_vm).
-include_lib("eunit/include/eunit.hrl").
-export([cases/2, run/2, log/2]).
-export([logged/1, text/2, nothing_else/0, lose_listener/0, kill/1]).
-export([uri/0, address/0, peer/1, request/2, refuse/1, upgrade/0, headers/0, settle/2, await/1, take_port/0]).

-define(DEADLINE, 30000).
%% Part of all data that clients and callers send. No event may contain it.
-define(SECRET, "s3cr3t").

%% @doc The tests of a module by their names. A server runs before each of them.
cases(Module, Names) ->
    [{timeout, 600, {atom_to_list(Name), fun() -> in_vm(Module, Name) end}} || Name <- Names].

in_vm(Module, Name) ->
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
    try peer:call(Peer, ?MODULE, run, [Module, Name], 100000)
    after
        peer:stop(Peer)
    end.

run(Module, Name) ->
    _ = ets:new(?MODULE, [named_table, public, ordered_set]),
    [logger:remove_handler(Handler) || Handler <- logger:get_handler_ids()],
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => #{test => self()}}),
    ok = logger:set_module_level(dev_websocket, all),
    _ = uri(),
    Name =:= server_start_change_and_stop_are_logged orelse logged(started),
    Module:Name(),
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
            Test ! {logged, Name, Level, Metadata, line(Message)};
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
logged(Name) ->
    receive
        {logged, Name, Level, Metadata, Line} ->
            put({line, Name}, Line),
            {Level, Metadata}
    after ?DEADLINE ->
        error({not_logged, Name, process_info(self(), messages)})
    end.

%% @doc The line of the last event, which contains this part.
text(Name, Part) ->
    Line = get({line, Name}),
    ?assertNotEqual(nomatch, binary:match(Line, Part)),
    Line.

%% @doc Nothing else was logged. Events keep their order, so an event that is caused now
%% is the next one.
nothing_else() ->
    Mine =
        case dev_websocket:info() of
            {ok, _} -> [];
            {error, _} -> [started]
        end,
    ok = dev_websocket:start(#{port => 0}),
    lose_listener(),
    ?assertMatch({warning, _}, logged(lost_listener)),
    Told = [Name || {logged, Name, _, _, _} <- element(2, process_info(self(), messages))],
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

kill(Process) ->
    Monitor = monitor(process, Process),
    exit(Process, kill),
    receive {'DOWN', Monitor, process, Process, _} -> ok end.

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

settle(Stat, Value) ->
    await(fun() -> maps:get(Stat, dev_websocket:stats()) =:= Value end).

await(Condition) ->
    Condition() orelse begin receive after 1 -> await(Condition) end end.

take_port() ->
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    {Listener, Port}.
