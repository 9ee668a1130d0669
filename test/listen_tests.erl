%%% @doc Messages from clients: a process receives them and answers.
-module(listen_tests).
-include_lib("eunit/include/eunit.hrl").

-define(DEADLINE, 30000).

listen_test_() ->
    {foreach, fun start/0, fun stop/1, [
        {timeout, 300, {atom_to_list(Name), fun() -> ?MODULE:Name() end}}
     ||
        Name <- [
            a_listener_hears_and_answers,
            payloads_keep_their_kind,
            any_term_can_be_sent,
            large_payloads_are_bounded,
            a_connection_tells_of_itself,
            connections_are_listed_in_pages,
            an_operator_ends_a_connection,
            clients_without_a_listener_get_no_listener,
            a_second_listener_is_refused,
            a_listener_that_dies_makes_room,
            a_proxy_that_is_killed_makes_room,
            a_sleeping_listener_holds_clients_back,
            options_can_be_changed,
            direct_messages_keep_their_place_between_casts,
            a_listener_stays_over_a_restart,
            copies_of_the_device_share_the_listener,
            a_reload_does_the_listener_no_harm,
            bad_arguments_are_named
        ]
    ]}.

-compile([export_all, nowarn_export_all]).

start() ->
    fresh_server:start(#{max_inbound_rate => 0}).

stop(_) ->
    %% A test that failed may have left another listener.
    case dev_websocket:listen(self()) of
        {error, {already_listening, Other}} -> ok = dev_websocket:unlisten(Other);
        ok -> ok = dev_websocket:unlisten(self())
    end,
    flush(),
    dev_websocket:stop().

a_listener_hears_and_answers() ->
    ok = dev_websocket:listen(self()),
    Client = fresh_server:client(""),
    ws_client:send_json(Client, #{<<"type">> => <<"send">>, <<"id">> => 5, <<"data">> => <<"hello">>}),
    {Connection, {text, <<"hello">>}} = heard(),
    ?assert(is_integer(Connection)),
    ?assertEqual(ok, dev_websocket:send(Connection, {text, <<"welcome">>})),
    #{<<"timestamp">> := Timestamp} = Answer = ws_client:recv_json(Client),
    ?assertEqual(#{<<"type">> => <<"direct">>, <<"timestamp">> => Timestamp, <<"data">> => <<"welcome">>}, Answer),
    %% Those of a connection come in their order.
    [say(Client, N) || N <- lists:seq(1, 500)],
    [?assertEqual({Connection, {text, integer_to_binary(N)}}, heard()) || N <- lists:seq(1, 500)].

payloads_keep_their_kind() ->
    ok = dev_websocket:listen(self()),
    Raw = ws_client:connect_raw(uri(), ""),
    ok = ws_client:send_text(Raw, <<"Grüße"/utf8>>),
    ok = ws_client:send_binary(Raw, <<255, 0>>),
    {Connection, {text, <<"Grüße"/utf8>>}} = heard(),
    ?assertEqual({Connection, {binary, <<255, 0>>}}, heard()),
    [?assertEqual(ok, dev_websocket:send(Connection, Payload)) || Payload <- [{text, <<"a">>}, {binary, <<254>>}, #{a => 1}]],
    ?assertEqual([{text, <<"a">>}, {binary, <<254>>}, {text, <<"{\"a\":1}">>}], [ws_client:recv(Raw) || _ <- [1, 2, 3]]).

any_term_can_be_sent() ->
    {Client, Connection} = heard_client(""),
    lists:foreach(
        fun({Payload, Data}) ->
            ?assertEqual(ok, dev_websocket:send(Connection, Payload)),
            ?assertMatch(#{<<"data">> := Data}, ws_client:recv_json(Client))
        end,
        [
            {#{<<"a">> => [1, 2.5, null]}, #{<<"a">> => [1, 2.5, null]}},
            {<<"plain">>, <<"plain">>},
            {{text, <<"text">>}, <<"text">>},
            {{binary, <<"text">>}, <<"text">>},
            {{binary, <<255, 254>>}, #{<<"$base64url">> => <<"__4">>}},
            {{other, <<"x">>}, [<<"other">>, <<"x">>]},
            {#{<<"priv">> => 1, <<"a">> => self()}, #{<<"a">> => #{<<"$omitted">> => <<"pid">>}}}
        ]
    ).

large_payloads_are_bounded() ->
    {Client, Connection} = heard_client(""),
    Text = fun(Bytes) -> binary:copy(<<"a">>, Bytes) end,
    [
        begin
            ?assertEqual(ok, dev_websocket:send(Connection, Payload)),
            ?assertMatch(#{<<"data">> := Data}, ws_client:recv_json(Client))
        end
     ||
        {Payload, Data} <- [
            {{text, Text(65536)}, Text(65536)}, {{text, Text(65537)}, Text(65537)},
            {Text(65537), Text(65537)}, {{text, Text(1048574)}, Text(1048574)}
        ]
    ],
    ?assertEqual({error, too_large}, dev_websocket:send(Connection, {text, Text(1048575)})),
    ?assertEqual({error, too_large}, dev_websocket:send(Connection, {binary, Text(2000000)})),
    ?assertEqual({error, too_large}, dev_websocket:send(Connection, lists:seq(1, 1000000))).

a_connection_tells_of_itself() ->
    {ok, Client} = ws_client:connect(uri(), "topic=b,a", [{"X-Key", "k"}, {"Cookie", "a=b"}]),
    #{<<"type">> := <<"connection_established">>} = ws_client:recv_json(Client),
    ok = dev_websocket:listen(self()),
    say(Client, 1),
    {Connection, _} = heard(),
    {ok, {Address, Port}} = inet:sockname(Client),
    Peer = iolist_to_binary([inet:ntoa(Address), ":", integer_to_list(Port)]),
    {ok, Known} = dev_websocket:connection(Connection),
    ?assertMatch(
        #{connection := Connection, peer := Peer, format := json, topics := [<<"b">>, <<"a">>]},
        Known
    ),
    ?assertMatch(#{age := Age, send_buffer_bytes := 0, dropped := 0} when Age < 60000, Known),
    #{headers := Headers} = Known,
    ?assertMatch(#{<<"x-key">> := <<"k">>, <<"cookie">> := <<"a=b">>, <<"host">> := _}, Headers),
    ?assertEqual(3, maps:size(Headers)),
    ok = ws_client:abort(Client),
    until(fun() -> dev_websocket:connection(Connection) =:= {error, no_connection} end),
    ?assertEqual({error, no_connection}, dev_websocket:send(Connection, <<"x">>)).

connections_are_listed_in_pages() ->
    ?assertEqual({ok, #{connections => [], cursor => done}}, dev_websocket:connections()),
    Clients = [fresh_server:client(["topic=", Topic]) || Topic <- ["a", "b", "c"]],
    {ok, #{connections := All, cursor := Last}} = dev_websocket:connections(),
    ?assertEqual([[<<"a">>], [<<"b">>], [<<"c">>]], [maps:get(topics, Known) || Known <- All]),
    ?assertEqual([false, false, false], [maps:is_key(headers, Known) || Known <- All]),
    ?assertEqual({ok, #{connections => [], cursor => done}}, dev_websocket:connections(#{cursor => Last})),
    {ok, #{connections := [_, Second], cursor := Next}} = dev_websocket:connections(#{limit => 2}),
    ?assertMatch(#{connection := Next}, Second),
    {ok, #{connections := [#{connection := Last}]}} = dev_websocket:connections(#{cursor => Next}),
    [
        ?assertMatch({error, {bad_argument, <<_/binary>>}}, dev_websocket:connections(Bad))
     ||
        Bad <- [#{limit => 0}, #{limit => 1001}, #{limit => all}, #{cursor => first}, []]
    ],
    [ok = ws_client:abort(Client) || Client <- Clients].

an_operator_ends_a_connection() ->
    {Client, Connection} = heard_client("topic=a"),
    Other = fresh_server:client("topic=a"),
    ?assertEqual(ok, dev_websocket:disconnect(Connection)),
    ?assertMatch({close, 1008, <<"disconnected by the operator">>}, ws_client:recv(Client)),
    until(fun() -> dev_websocket:disconnect(Connection) =:= {error, no_connection} end),
    ?assertMatch({error, {bad_argument, _}}, dev_websocket:disconnect(first)),
    dev_websocket:cast(#{<<"topic">> => <<"a">>, <<"data">> => <<"x">>}, #{}),
    ?assertMatch([#{<<"seq">> := 1}], ws_client:messages(Other, 1)).

clients_without_a_listener_get_no_listener() ->
    Client = fresh_server:client(""),
    Unheard = fun(Id) ->
        ws_client:send_json(Client, #{<<"type">> => <<"send">>, <<"id">> => Id, <<"data">> => <<"x">>}),
        ?assertMatch(#{<<"id">> := Id, <<"code">> := <<"no_listener">>}, ws_client:recv_json(Client))
    end,
    Unheard(1),
    ok = dev_websocket:listen(self()),
    say(Client, 2),
    {_, {text, <<"2">>}} = heard(),
    ?assertEqual(ok, dev_websocket:unlisten(self())),
    ?assertEqual(ok, dev_websocket:unlisten(self())),
    Unheard(3).

a_second_listener_is_refused() ->
    Test = self(),
    ok = dev_websocket:listen(Test),
    Other = spawn_link(fun() -> receive stop -> ok end end),
    ?assertEqual({error, {already_listening, Test}}, dev_websocket:listen(Other)),
    ?assertEqual(ok, dev_websocket:listen(Test)),
    ?assertEqual(ok, dev_websocket:unlisten(Other)),
    Client = fresh_server:client(""),
    say(Client, 1),
    {_, {text, <<"1">>}} = heard(),
    ok = dev_websocket:unlisten(Test),
    ?assertEqual(ok, dev_websocket:listen(Other)),
    ?assertEqual({error, {already_listening, Other}}, dev_websocket:listen(Test)),
    ok = dev_websocket:unlisten(Other),
    Other ! stop.

a_listener_that_dies_makes_room() ->
    {Listener, Monitor} = spawn_monitor(fun() -> receive stop -> ok end end),
    ok = dev_websocket:listen(Listener),
    Client = fresh_server:client(""),
    [say(Client, N) || N <- lists:seq(1, 10)],
    Listener ! stop,
    receive {'DOWN', Monitor, process, Listener, normal} -> ok end,
    ?assertEqual({error, noproc}, dev_websocket:listen(Listener)),
    ?assertEqual(ok, dev_websocket:listen(self())),
    %% Every message went somewhere, and the later ones come here.
    say(Client, 11),
    until(fun() -> element(2, heard()) =:= {text, <<"11">>} end).

a_proxy_that_is_killed_makes_room() ->
    {monitored_by, Before} = process_info(self(), monitored_by),
    ok = dev_websocket:listen(self()),
    {monitored_by, After} = process_info(self(), monitored_by),
    [Proxy] = After -- Before,
    Monitor = monitor(process, Proxy),
    exit(Proxy, kill),
    receive {'DOWN', Monitor, process, Proxy, killed} -> ok end,
    Client = fresh_server:client(""),
    ws_client:send_json(Client, #{<<"type">> => <<"send">>, <<"data">> => <<"x">>}),
    ?assertMatch(#{<<"code">> := <<"no_listener">>}, ws_client:recv_json(Client)),
    ?assertEqual(ok, dev_websocket:listen(self())),
    say(Client, 1),
    {_, {text, <<"1">>}} = heard().

a_sleeping_listener_holds_clients_back() ->
    Count = 5000,
    Test = self(),
    ok = dev_websocket:start(#{inbound_queue_bytes => 65536}),
    Listener = spawn_link(fun() ->
        receive wake -> ok end,
        Test ! {heard, [element(2, heard()) || _ <- lists:seq(1, Count)]}
    end),
    ok = dev_websocket:listen(Listener, #{max_queue => 20}),
    Raw = ws_client:connect_raw(uri(), ""),
    Other = ws_client:connect_raw(uri(), ""),
    Frame = ws_client:frame(#{opcode => 1, payload => binary:copy(<<"x">>, 1000)}),
    %% Counts go on over restarts.
    Before = stat(<<"inbound_delivered">>),
    Sender = spawn_link(fun() -> [ok = gen_tcp:send(Raw, Frame) || _ <- lists:seq(1, Count)] end),
    %% Unacknowledged messages fill the bound: 1256 bytes each, and 20 in the mailbox.
    Held = Before + 20 + 65536 div 1256,
    until(fun() -> stat(<<"inbound_delivered">>) >= Held end),
    %% The frames of others find no room either.
    ok = ws_client:send_text(Other, <<"other">>),
    ?assertEqual({message_queue_len, 20}, process_info(Listener, message_queue_len)),
    ?assertEqual(Held, stat(<<"inbound_delivered">>)),
    Listener ! wake,
    Heard = receive {heard, Payloads} -> Payloads after ?DEADLINE -> error(lost) end,
    ?assertEqual(Count, length(Heard)),
    ?assertEqual(Count - 1, length([x || {text, Text} <- Heard, byte_size(Text) =:= 1000])),
    ?assertEqual(1, length([x || {text, <<"other">>} <- Heard])),
    unlink(Sender).

options_can_be_changed() ->
    Listener = spawn_link(fun() -> receive stop -> ok end end),
    ok = dev_websocket:listen(Listener, #{max_queue => 1}),
    Client = fresh_server:client(""),
    [say(Client, N) || N <- lists:seq(1, 100)],
    Length = fun() -> element(2, process_info(Listener, message_queue_len)) end,
    until(fun() -> Length() =:= 1 end),
    ok = dev_websocket:listen(Listener, #{<<"max_queue">> => 50}),
    until(fun() -> Length() =:= 50 end),
    ok = dev_websocket:unlisten(Listener),
    Listener ! stop.

direct_messages_keep_their_place_between_casts() ->
    {Client, Connection} = heard_client("topic=t"),
    [
        begin
            dev_websocket:cast(#{<<"topic">> => <<"t">>, <<"n">> => N}, #{}),
            ok = dev_websocket:send(Connection, N)
        end
     ||
        N <- lists:seq(1, 500)
    ],
    [
        begin
            ?assertMatch(#{<<"type">> := <<"message">>, <<"data">> := #{<<"n">> := N}}, ws_client:recv_json(Client)),
            ?assertMatch(#{<<"type">> := <<"direct">>, <<"data">> := N}, ws_client:recv_json(Client))
        end
     ||
        N <- lists:seq(1, 500)
    ].

a_listener_stays_over_a_restart() ->
    {Before, First} = heard_client(""),
    ok = ws_client:abort(Before),
    ok = dev_websocket:stop(),
    ?assertEqual({error, stopped}, dev_websocket:send(First, <<"x">>)),
    ?assertEqual({error, stopped}, dev_websocket:connection(First)),
    ok = dev_websocket:start(#{}),
    Client = fresh_server:client(""),
    say(Client, 1),
    {Second, {text, <<"1">>}} = heard(),
    ?assert(Second > First),
    ok = dev_websocket:start(#{shards => 3}),
    Again = fresh_server:client(""),
    say(Again, 2),
    {Third, {text, <<"2">>}} = heard(),
    ok = ws_client:abort(Again),
    ?assert(Third > Second),
    ?assertEqual({error, no_connection}, dev_websocket:send(Second, <<"x">>)),
    %% One can also listen before there is a server.
    ok = dev_websocket:unlisten(self()),
    ok = dev_websocket:stop(),
    ok = dev_websocket:listen(self()),
    ok = dev_websocket:start(#{}),
    Last = fresh_server:client(""),
    say(Last, 3),
    {_, {text, <<"3">>}} = heard().

copies_of_the_device_share_the_listener() ->
    Copies = [{Copy, _, _} | _] = device_copy:modules(),
    [{module, Module} = code:load_binary(Module, File, Beam) || {Module, File, Beam} <- Copies],
    try
        ok = Copy:listen(self()),
        ?assertEqual(ok, dev_websocket:listen(self())),
        Client = fresh_server:client(""),
        say(Client, 1),
        {Connection, {text, <<"1">>}} = heard(),
        ok = Copy:send(Connection, 7),
        ?assertMatch(#{<<"data">> := 7}, ws_client:recv_json(Client)),
        {ok, Known} = Copy:connection(Connection),
        {ok, KnownAsWell} = dev_websocket:connection(Connection),
        ?assertEqual(maps:remove(age, Known), maps:remove(age, KnownAsWell)),
        ?assertEqual(ok, Copy:unlisten(self()))
    after
        [{code:purge(Module), code:delete(Module), code:purge(Module)} || {Module, _, _} <- Copies]
    end.

a_reload_does_the_listener_no_harm() ->
    {Client, Connection} = heard_client(""),
    [
        begin
            code:purge(dev_websocket_listener),
            {module, _} = code:load_file(dev_websocket_listener),
            say(Client, N),
            ?assertEqual({Connection, {text, integer_to_binary(N)}}, heard())
        end
     ||
        N <- lists:seq(1, 4)
    ].

bad_arguments_are_named() ->
    Bad = fun(Result) -> ?assertMatch({error, {bad_argument, _}}, Result) end,
    Bad(dev_websocket:listen(name)),
    Bad(dev_websocket:listen(self(), [])),
    [Bad(dev_websocket:listen(self(), #{max_queue => N})) || N <- [0, -1, 1.5, many]],
    Bad(dev_websocket:listen(self(), #{other => 1})),
    Bad(dev_websocket:unlisten(<<"name">>)),
    {_, Connection} = heard_client(""),
    Bad(dev_websocket:send(<<"1">>, x)),
    Bad(dev_websocket:send(Connection, {text, <<255>>})),
    Bad(dev_websocket:send(Connection, {text, "x"})),
    Bad(dev_websocket:send(Connection, {binary, 7})),
    Bad(dev_websocket:connection(one)),
    [
        ?assertEqual({error, no_connection}, Result)
     ||
        Unknown <- [-1, 0, 1 bsl 60, 1 bsl 64, 1 bsl 100],
        Result <- [dev_websocket:send(Unknown, <<"x">>), dev_websocket:connection(Unknown)]
    ],
    ?assertEqual(0, stat(<<"panics">>)).

%%% Helpers.

uri() ->
    {ok, #{uri := Uri}} = dev_websocket:info(),
    Uri.

%% @doc A client with the number of its connection; the test listens.
heard_client(Query) ->
    ok = dev_websocket:listen(self()),
    Client = fresh_server:client(Query),
    say(Client, 0),
    {Connection, {text, <<"0">>}} = heard(),
    {Client, Connection}.

say(Client, Number) ->
    ok = ws_client:send_json(Client, #{<<"type">> => <<"send">>, <<"data">> => Number}).

heard() ->
    receive
        {dev_websocket, Connection, Payload} -> {Connection, Payload}
    after ?DEADLINE -> error(nothing_heard)
    end.

flush() ->
    receive
        {dev_websocket, _, _} -> flush()
    after 0 -> ok
    end.

stat(Name) ->
    maps:get(Name, dev_websocket:stats()).

until(Holds) ->
    until(Holds, erlang:monotonic_time(millisecond) + ?DEADLINE).

until(Holds, Deadline) ->
    case Holds() of
        true ->
            ok;
        false ->
            ?assert(erlang:monotonic_time(millisecond) < Deadline),
            erlang:yield(),
            until(Holds, Deadline)
    end.
