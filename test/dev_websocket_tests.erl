%%% @doc The device as Erlang callers and WebSocket clients meet it.
-module(dev_websocket_tests).
-include_lib("eunit/include/eunit.hrl").
-export([log/2]).

device_test_() ->
    fresh_server:each(?MODULE, 600, #{}, [
        info_returns_uri_and_topics,
        info_without_a_server_is_an_error,
        a_message_reaches_each_subscriber_of_its_topics_once,
        cast_returns_ok_for_any_term,
        casts_of_a_process_arrive_in_their_order,
        a_message_without_topics_reaches_subscribers_of_everything,
        raw_frames_are_the_message_alone,
        the_message_limit_is_exact_on_both_paths,
        casts_without_a_server_are_counted,
        a_cast_that_is_tried_says_what_became_of_it,
        casts_without_an_audience_are_counted,
        a_taken_port_is_reported_and_another_one_works,
        a_stop_tells_clients_and_a_start_serves_again,
        settings_change_without_losing_clients,
        a_new_address_is_served_before_the_old_one_ends,
        a_failed_change_leaves_the_server_as_it_was,
        a_change_of_threads_restarts_the_server,
        bad_settings_are_named_and_change_nothing,
        settings_may_be_named_by_binaries,
        config_returns_every_setting,
        stronger_sources_win,
        a_bad_value_in_an_environment_is_logged_and_skipped,
        a_bad_value_of_a_setting_that_protects_keeps_the_server_closed,
        every_bad_setting_is_named_at_once_and_a_right_one_of_a_stronger_source_counts,
        a_server_that_runs_can_be_closed_for_its_settings
    ]).

-compile([export_all, nowarn_export_all]).

%%% Info.

info_returns_uri_and_topics() ->
    {ok, Before} = dev_websocket:info(),
    #{uri := Uri} = Before,
    ?assertEqual(#{uri => Uri, topics => []}, Before),
    ?assertMatch(#{scheme := "ws", path := "/ws", port := Port} when Port > 0, uri_string:parse(binary_to_list(Uri))),
    Client = fresh_server:client("topic=subscribed"),
    ?assertEqual({ok, #{uri => Uri, topics => [<<"subscribed">>]}}, dev_websocket:info()),
    dev_websocket:cast(#{<<"topic">> => <<"published">>, <<"action">> => <<"Mint">>}, #{}),
    dev_websocket:cast(#{<<"topic">> => <<"subscribed">>}, #{}),
    [_] = ws_client:messages(Client, 1),
    ?assertEqual(
        {ok, #{uri => Uri, topics => [<<"action:Mint">>, <<"published">>, <<"subscribed">>]}},
        dev_websocket:info()
    ).

info_without_a_server_is_an_error() ->
    ok = dev_websocket:stop(),
    ?assertEqual({error, stopped}, dev_websocket:info()),
    ok = dev_websocket:start(#{}),
    ?assertMatch({ok, _}, dev_websocket:info()).

%%% Messages.

a_message_reaches_each_subscriber_of_its_topics_once() ->
    Both = fresh_server:client("topic=prices,action:Transfer"),
    Other = fresh_server:client("topic=other"),
    Message = #{<<"topic">> => <<"prices">>, <<"action">> => <<"Transfer">>, <<"data">> => <<"x">>},
    ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(Message, #{})),
    dev_websocket:cast(#{<<"topic">> => [<<"prices">>, <<"other">>], <<"data">> => <<"end">>}, #{}),
    [First, Second] = ws_client:messages(Both, 2),
    ?assertMatch(
        #{
            <<"topic">> := <<"prices">>,
            <<"topics">> := [<<"prices">>, <<"action:Transfer">>],
            <<"data">> := Message
        },
        First
    ),
    ?assertMatch(#{<<"data">> := #{<<"data">> := <<"end">>}}, Second),
    ?assertEqual(maps:get(<<"seq">>, First) + 1, maps:get(<<"seq">>, Second)),
    [Only] = ws_client:messages(Other, 1),
    ?assertEqual(maps:get(<<"seq">>, Second), maps:get(<<"seq">>, Only)).

cast_returns_ok_for_any_term() ->
    Terms = [
        garbage, <<>>, <<255>>, <<1:1>>, [], [1 | 2], {}, {link, 1, 2}, #{}, #{{} => 1}, self(), make_ref(),
        fun() -> ok end, 1 bsl 100, 1 bsl 100000, -1.5, [{a, 1}, b], hd(erlang:ports())
    ],
    [?assertEqual({ok, <<"OK">>}, dev_websocket:cast(Term, Opts)) || Term <- Terms, Opts <- [#{}, garbage]],
    ok = dev_websocket:stop(),
    [?assertEqual({ok, <<"OK">>}, dev_websocket:cast(Term, #{})) || Term <- Terms].

casts_of_a_process_arrive_in_their_order() ->
    Clients = [fresh_server:client("topic=t") || _ <- lists:seq(1, 3)],
    Count = 2000,
    Senders = [
        spawn_monitor(fun() ->
            [dev_websocket:cast(#{<<"topic">> => <<"t">>, <<"sender">> => Sender, <<"n">> => N}, #{}) || N <- lists:seq(1, Count)]
        end)
     ||
        Sender <- lists:seq(1, 4)
    ],
    [receive {'DOWN', Monitor, process, _, normal} -> ok end || {_, Monitor} <- Senders],
    lists:foreach(
        fun(Client) ->
            Messages = ws_client:messages(Client, 4 * Count),
            Seqs = [Seq || #{<<"seq">> := Seq} <- Messages],
            ?assertEqual(lists:seq(hd(Seqs), hd(Seqs) + 4 * Count - 1), Seqs),
            [
                ?assertEqual(
                    lists:seq(1, Count),
                    [N || #{<<"data">> := #{<<"sender">> := S, <<"n">> := N}} <- Messages, S =:= Sender]
                )
             ||
                Sender <- lists:seq(1, 4)
            ]
        end,
        Clients
    ).

a_message_without_topics_reaches_subscribers_of_everything() ->
    Everything = fresh_server:client("topic=*"),
    Nothing = fresh_server:client(""),
    dev_websocket:cast(<<"plain">>, #{}),
    ?assertMatch([#{<<"topic">> := null, <<"topics">> := [], <<"data">> := <<"plain">>}], ws_client:messages(Everything, 1)),
    ws_client:send_json(Nothing, #{<<"type">> => <<"ping">>, <<"id">> => 7}),
    ?assertMatch(#{<<"type">> := <<"pong">>, <<"id">> := 7}, ws_client:recv_json(Nothing)).

raw_frames_are_the_message_alone() ->
    Client = ws_client:connect_raw(uri(), "topic=t"),
    dev_websocket:cast(#{<<"topic">> => <<"t">>, <<"n">> => 1}, #{}),
    ?assertEqual(#{<<"topic">> => <<"t">>, <<"n">> => 1}, ws_client:recv_json(Client)).

the_message_limit_is_exact_on_both_paths() ->
    Client = fresh_server:client("topic=*"),
    %% 65,536 bytes of text are read on a scheduler, more on a dirty one.
    lists:foreach(
        fun(Limit) ->
            ok = dev_websocket:start(#{max_message_bytes => Limit}),
            Before = stat(<<"dropped_too_large">>),
            Cast = fun(Bytes) -> dev_websocket:cast(binary:copy(<<"a">>, Bytes - 2), #{}) end,
            Cast(Limit - 1),
            Cast(Limit),
            ?assertEqual(Before, stat(<<"dropped_too_large">>)),
            Cast(Limit + 1),
            ?assertEqual(Before + 1, stat(<<"dropped_too_large">>)),
            Cast(10 * Limit),
            ?assertEqual(Before + 2, stat(<<"dropped_too_large">>)),
            Sizes = [byte_size(Data) + 2 || #{<<"data">> := Data} <- ws_client:messages(Client, 2)],
            ?assertEqual([Limit - 1, Limit], Sizes)
        end,
        [1000, 65536, 65540, 1048576]
    ),
    ?assert(ws_client:is_open(Client)).

casts_without_a_server_are_counted() ->
    ok = dev_websocket:stop(),
    Before = stat(<<"dropped_not_running">>),
    dev_websocket:cast(#{<<"topic">> => <<"t">>}, #{}),
    dev_websocket:cast(binary:copy(<<"a">>, 100000), #{}),
    ?assertEqual(Before + 2, stat(<<"dropped_not_running">>)).

a_cast_that_is_tried_says_what_became_of_it() ->
    ok = dev_websocket:start(#{history_bytes => 0, max_message_bytes => 2000}),
    Message = #{<<"topic">> => <<"t">>},
    ?assertEqual({error, no_audience}, dev_websocket:try_cast(Message, #{})),
    Client = fresh_server:client("topic=t"),
    ?assertEqual({ok, published}, dev_websocket:try_cast(Message, #{})),
    [_] = ws_client:messages(Client, 1),
    Large = Message#{<<"data">> => binary:copy(<<"x">>, 3000)},
    ?assertEqual({error, too_large}, dev_websocket:try_cast(Large, #{})),
    ?assertEqual({error, too_large}, dev_websocket:try_cast(Message#{<<"data">> => binary:copy(<<"x">>, 300000)}, #{})),
    ?assertEqual({ok, published}, dev_websocket:try_cast(<<"text">>, #{})),
    ok = dev_websocket:stop(),
    ?assertEqual({error, not_running}, dev_websocket:try_cast(Message, #{})).

casts_without_an_audience_are_counted() ->
    ok = dev_websocket:start(#{history_bytes => 0}),
    Before = stat(<<"dropped_no_audience">>),
    dev_websocket:cast(#{<<"topic">> => <<"t">>}, #{}),
    ?assertEqual(Before + 1, stat(<<"dropped_no_audience">>)),
    Client = fresh_server:client("topic=t"),
    dev_websocket:cast(#{<<"topic">> => <<"t">>}, #{}),
    [_] = ws_client:messages(Client, 1),
    ?assertEqual(Before + 1, stat(<<"dropped_no_audience">>)).

%%% Start, stop, settings.

a_taken_port_is_reported_and_another_one_works() ->
    ok = dev_websocket:stop(),
    {Taken, Port} = take_port(),
    Address = iolist_to_binary(io_lib:format("127.0.0.1:~b", [Port])),
    Error = {error, {listen, #{address => Address, reason => eaddrinuse}}},
    ?assertEqual(Error, dev_websocket:start(#{port => Port})),
    ?assertEqual(Error, dev_websocket:info()),
    ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(#{}, #{})),
    ?assertEqual(ok, dev_websocket:start(#{port => 0})),
    ?assert(ws_client:is_open(fresh_server:client("topic=t"))),
    gen_tcp:close(Taken).

a_stop_tells_clients_and_a_start_serves_again() ->
    Client = fresh_server:client("topic=t"),
    ?assertEqual(ok, dev_websocket:stop()),
    ?assertMatch({close, 1001, _}, ws_client:recv(Client)),
    ?assertEqual(ok, dev_websocket:stop()),
    ?assertEqual(ok, dev_websocket:start(#{})),
    Next = fresh_server:client("topic=t"),
    dev_websocket:cast(#{<<"topic">> => <<"t">>}, #{}),
    ?assertMatch([#{<<"seq">> := 1}], ws_client:messages(Next, 1)).

settings_change_without_losing_clients() ->
    {ok, #{uri := Uri}} = dev_websocket:info(),
    Client = fresh_server:client("topic=t"),
    ?assertEqual(ok, dev_websocket:start(#{max_topics_per_connection => 2, commitments => true})),
    ?assertMatch({ok, #{uri := Uri}}, dev_websocket:info()),
    dev_websocket:cast(#{<<"topic">> => <<"t">>, <<"commitments">> => #{<<"a">> => 1}}, #{}),
    ?assertMatch([#{<<"data">> := #{<<"commitments">> := #{<<"a">> := 1}}}], ws_client:messages(Client, 1)),
    ?assertMatch({error, {http, 400, _, _}}, ws_client:connect(Uri, "topic=a,b,c")),
    %% Settings that a change does not name stay.
    ?assertEqual(ok, dev_websocket:start(#{commitments => false})),
    ?assertMatch(#{max_topics_per_connection := 2, commitments := false}, dev_websocket:config()),
    dev_websocket:cast(#{<<"topic">> => <<"t">>, <<"commitments">> => #{<<"a">> => 1}}, #{}),
    [#{<<"data">> := Data}] = ws_client:messages(Client, 1),
    ?assertEqual(#{<<"topic">> => <<"t">>}, Data).

a_new_address_is_served_before_the_old_one_ends() ->
    {ok, #{uri := Old}} = dev_websocket:info(),
    Client = fresh_server:client("topic=t"),
    ?assertEqual(ok, dev_websocket:start(#{host => <<"0.0.0.0">>})),
    {ok, #{uri := New}} = dev_websocket:info(),
    ?assertNotEqual(Old, New),
    ?assert(ws_client:is_open(Client)),
    ?assert(ws_client:is_open(fresh_server:client("topic=t"))),
    ?assertEqual({error, econnrefused}, ws_client:connect(Old)).

a_failed_change_leaves_the_server_as_it_was() ->
    {ok, Info} = dev_websocket:info(),
    Config = dev_websocket:config(),
    Client = fresh_server:client("topic=t"),
    {Taken, Port} = take_port(),
    ?assertMatch(
        {error, {listen, #{reason := eaddrinuse}}},
        dev_websocket:start(#{port => Port, commitments => true})
    ),
    gen_tcp:close(Taken),
    ?assertEqual({ok, Info#{topics => [<<"t">>]}}, dev_websocket:info()),
    ?assertEqual(Config, dev_websocket:config()),
    ?assert(ws_client:is_open(Client)),
    ?assert(ws_client:is_open(fresh_server:client("topic=t"))).

a_change_of_threads_restarts_the_server() ->
    Client = fresh_server:client("topic=t"),
    ?assertEqual(ok, dev_websocket:start(#{shards => 2, workers => 2})),
    ?assertMatch({close, 1012, _}, ws_client:recv(Client)),
    ?assert(ws_client:is_open(fresh_server:client("topic=t"))),
    ?assertMatch(#{shards := 2, workers := 2}, dev_websocket:config()).

bad_settings_are_named_and_change_nothing() ->
    Info = dev_websocket:info(),
    Config = dev_websocket:config(),
    Refused = fun(Settings) ->
        {error, Reason} = dev_websocket:start(Settings),
        ?assertEqual(Config, dev_websocket:config()),
        ?assertEqual(Info, dev_websocket:info()),
        Reason
    end,
    lists:foreach(
        fun(Value) ->
            ?assertEqual(
                {invalid_setting, port, <<"a port from 0 to 65535">>},
                Refused(#{port => Value, commitments => true})
            )
        end,
        [65536, -1, 1 bsl 70, 1.0, "http", <<"70000">>, self(), [], {1, 2, 3, 4}, #{}, true, [<<"1">>], <<255>>, <<1:1>>]
    ),
    ?assertMatch({invalid_setting, host, _}, Refused(#{host => {1, 2, 3, 256}})),
    ?assertMatch({invalid_setting, host, _}, Refused(#{host => "nowhere.example"})),
    ?assertMatch({invalid_setting, commitments, _}, Refused(#{commitments => maybe_})),
    ?assertEqual({unknown_setting, ports}, Refused(#{ports => 1})),
    ?assertEqual({unknown_setting, <<"ports">>}, Refused(#{<<"ports">> => 1})),
    ?assertEqual({unknown_setting, 5}, Refused(#{5 => 1})),
    [?assertEqual(settings_not_a_map, Refused(Settings)) || Settings <- [[], [{port, 0}], undefined, <<>>]].

settings_may_be_named_by_binaries() ->
    ?assertEqual(
        ok,
        dev_websocket:start(#{
            <<"max_topics_per_message">> => <<"7">>,
            <<"public_host">> => "node.example",
            <<"excluded_topic_keys">> => [secret, <<"data">>, "body"]
        })
    ),
    ?assertMatch(
        #{
            max_topics_per_message := 7,
            public_host := <<"node.example">>,
            excluded_topic_keys := [<<"secret">>, <<"data">>, <<"body">>]
        },
        dev_websocket:config()
    ),
    {ok, #{uri := Uri}} = dev_websocket:info(),
    ?assertMatch(<<"ws://node.example:", _/binary>>, Uri),
    ?assertEqual(ok, dev_websocket:start(#{excluded_topic_keys => [], public_host => ""})),
    ?assertMatch(#{excluded_topic_keys := [], public_host := <<>>}, dev_websocket:config()).

config_returns_every_setting() ->
    Config = dev_websocket:config(),
    ?assertMatch(#{host := <<"127.0.0.1">>, port := 0, max_message_bytes := 1048576}, Config),
    ?assertEqual(ok, dev_websocket:start(Config)),
    ok = dev_websocket:stop(),
    ?assertEqual(lists:sort(maps:keys(Config)), lists:sort(maps:keys(dev_websocket:config()))).

stronger_sources_win() ->
    Setting = fun(Given) ->
        ok = dev_websocket:stop(),
        ok = dev_websocket:start(Given),
        #{max_topics_per_message := Value, excluded_topic_keys := Keys, commitments := Switch} = dev_websocket:config(),
        {Value, Keys, Switch}
    end,
    {64, Defaults, false} = Setting(#{}),
    with_environment(
        [],
        [{max_topics_per_message, 3}, {excluded_topic_keys, ["a", b]}],
        fun() -> ?assertEqual({3, [<<"a">>, <<"b">>], false}, Setting(#{})) end
    ),
    with_environment(
        [{"DEV_WEBSOCKET_MAX_TOPICS_PER_MESSAGE", "4"}, {"DEV_WEBSOCKET_COMMITMENTS", "true"}],
        [{max_topics_per_message, 3}, {excluded_topic_keys, "x,y"}],
        fun() ->
            ?assertEqual({4, [<<"x">>, <<"y">>], true}, Setting(#{})),
            ?assertEqual({5, [<<"x">>, <<"y">>], false}, Setting(#{max_topics_per_message => 5, commitments => false})),
            ?assertEqual({6, [<<"x">>, <<"y">>], true}, Setting(#{<<"max_topics_per_message">> => 6}))
        end
    ),
    ?assertEqual({64, Defaults, false}, Setting(#{})).

a_bad_value_in_an_environment_is_logged_and_skipped() ->
    ok = dev_websocket:stop(),
    with_environment(
        [
            {"DEV_WEBSOCKET_SHARDS", "many"},
            {"DEV_WEBSOCKET_MAX_INBOUND_RATE", "9"},
            {"DEV_WEBSOCKET_NO_SUCH_SETTING", "1"},
            {"DEV_WEBSOCKET_COMMITMENTS", ""}
        ],
        [{shards, 2}, {public_host, "node.example:443"}, {max_inbound_rate, many}, {no_such_key, 1}],
        fun() ->
            Lines = logged(fun() -> ?assertEqual(ok, dev_websocket:start(#{})) end),
            ?assertMatch(
                #{shards := 2, max_inbound_rate := 9, public_host := <<>>, commitments := false},
                dev_websocket:config()
            ),
            Names = [
                <<"DEV_WEBSOCKET_SHARDS is ignored: it is \"many\", but must be ">>,
                <<"DEV_WEBSOCKET_NO_SUCH_SETTING is ignored: no WebSocket setting ">>,
                <<"no_such_key of the application environment is ignored">>,
                <<"public_host of the application environment is ignored: it is \"node.example:443\", but must be ">>
            ],
            [?assertMatch([_], [Line || Line <- Lines, string:prefix(Line, Name) =/= nomatch]) || Name <- Names],
            ?assertEqual(length(Names), length(Lines))
        end
    ).

a_bad_value_of_a_setting_that_protects_keeps_the_server_closed() ->
    %% A weaker source has a host that fits, and it does not count.
    {ok, {127, 0, 0, 1}} = application:get_env(dev_websocket, host),
    lists:foreach(
        fun({Name, Value, Right}) ->
            ok = dev_websocket:stop(),
            Variable = "DEV_WEBSOCKET_" ++ string:uppercase(atom_to_list(Name)),
            with_environment([{Variable, Value}], [], fun() ->
                [Line] = logged(fun() -> ?assertMatch({error, {invalid_setting, Name, _}}, dev_websocket:start(#{})) end),
                ?assertEqual(
                    [<<"The WebSocket server stays closed until ">>, list_to_binary(Variable)],
                    [binary:part(Line, 0, 40), binary:part(Line, 40, length(Variable))]
                ),
                {error, {settings, Misfits}} = dev_websocket:info(),
                ?assertEqual([Name], maps:keys(Misfits)),
                ?assertEqual({ok, <<"OK">>}, dev_websocket:cast(#{<<"topic">> => <<"t">>}, #{})),
                ?assertMatch({error, #{<<"status">> := 503}}, dev_websocket:info(#{}, #{}, #{})),
                %% A right value of another setting does not open it.
                ?assertMatch({error, {invalid_setting, Name, _}}, quietly(fun() -> dev_websocket:start(#{max_last => 5}) end)),
                ?assertEqual({error, {settings, Misfits}}, dev_websocket:info()),
                ?assertEqual(ok, quietly(fun() -> dev_websocket:start(#{Name => Right}) end)),
                ?assertMatch({ok, #{uri := _}}, dev_websocket:info())
            end)
        end,
        [
            {host, "127.0.01", "127.0.0.1"},
            {host, "127.0.0.1:80", "[::1]"},
            {host, "*", {127, 0, 0, 1}},
            {port, "http", 0},
            {origins, "app.example", "https://app.example"},
            {origins, "https://app.example:443", ["https://app.example"]},
            {origins, ",", []},
            {endpoints, "infos", [info]},
            {max_connections_per_ip, "ten", 10},
            {max_connections, "0", 1},
            {send_buffer_bytes, "1", 1024},
            {history_bytes, "-1", 0},
            {handshake_timeout, "5 s", 5000}
        ]
    ).

every_bad_setting_is_named_at_once_and_a_right_one_of_a_stronger_source_counts() ->
    ok = dev_websocket:stop(),
    with_environment(
        [{"DEV_WEBSOCKET_MAX_CONNECTIONS", "none"}, {"DEV_WEBSOCKET_MAX_LAST", "7"}],
        [{origins, "app.example"}, {max_last, many}, {max_inbound_rate, fast}],
        fun() ->
            Lines = logged(fun() -> ?assertMatch({error, {invalid_setting, _, _}}, dev_websocket:start(#{})) end),
            ?assertEqual(3, length(Lines)),
            {error, {settings, Misfits}} = dev_websocket:info(),
            ?assertEqual([max_connections, max_inbound_rate, origins], lists:sort(maps:keys(Misfits)))
        end
    ),
    ?assertEqual(ok, dev_websocket:start(#{})).

a_server_that_runs_can_be_closed_for_its_settings() ->
    Client = fresh_server:client("topic=t"),
    Shut = fun(Settings) ->
        Ref = make_ref(),
        case hb_websocket_nif:shut(Ref, Settings) of
            ok -> receive {Ref, Answer} -> Answer after 20000 -> error(no_answer) end;
            Error -> Error
        end
    end,
    [?assertMatch({error, {bad_argument, _}}, Shut(Right)) || Right <- [#{}, #{port => 0}, #{no_such => 1}, garbage]],
    ?assert(ws_client:is_open(Client)),
    ?assertEqual(ok, Shut(#{host => "127.0.01", port => 0})),
    ?assertMatch({close, 1001, _}, ws_client:recv(Client)),
    ?assertMatch({error, {settings, #{host := _}}}, dev_websocket:info()),
    ?assertEqual(ok, dev_websocket:start(#{})),
    ?assertMatch({ok, _}, dev_websocket:info()).

%%% Helpers.

uri() ->
    {ok, #{uri := Uri}} = dev_websocket:info(),
    Uri.

stat(Name) ->
    maps:get(Name, dev_websocket:stats()).

take_port() ->
    {ok, Listener} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Listener),
    {Listener, Port}.

with_environment(Os, Application, Test) ->
    Before = application:get_all_env(dev_websocket),
    [os:putenv(Variable, Value) || {Variable, Value} <- Os],
    [application:set_env(dev_websocket, Key, Value) || {Key, Value} <- Application],
    try Test()
    after
        [os:unsetenv(Variable) || {Variable, _} <- Os],
        [application:unset_env(dev_websocket, Key) || {Key, _} <- Application],
        %% Later tests need the port and the host of test/sys.config.
        application:set_env([{dev_websocket, Before}])
    end.

%% @doc The lines that are logged while something runs, here instead of on the
%% terminal.
logged(Run) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{level => all, config => self()}),
    ok = logger:set_handler_config(default, level, none),
    try
        Run(),
        lines()
    after
        ok = logger:set_handler_config(default, level, all),
        ok = logger:remove_handler(?MODULE)
    end.

%% @doc Run with the log off.
quietly(Run) ->
    ok = logger:set_handler_config(default, level, none),
    try Run()
    after ok = logger:set_handler_config(default, level, all)
    end.

%% @doc The handler; it runs in the process that logs.
log(#{msg := {Format, Arguments}}, #{config := Test}) when is_list(Arguments) ->
    Test ! {?MODULE, unicode:characters_to_binary(io_lib:format(Format, Arguments))};
log(_, _) ->
    ok.

lines() ->
    receive
        {?MODULE, Line} -> [Line | lines()]
    after 0 -> []
    end.
