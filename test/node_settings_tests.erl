%%% @doc Settings in the options of a node: they survive stops and failures, and no caller can
%%% change them.
-module(node_settings_tests).
-include_lib("eunit/include/eunit.hrl").

-define(SAID, {hb_websocket_nif, node_settings}).

node_settings_test_() ->
    {foreach, fun forget/0, fun(_) -> forget(), dev_websocket:stop() end, [
        {timeout, 300, {atom_to_list(Name), fun() -> ?MODULE:Name() end}}
     ||
        Name <- [
            the_start_hook_takes_the_options_of_a_node_that_starts,
            settings_of_proxies_are_options_in_each_form,
            a_request_for_the_start_hook_changes_nothing,
            node_settings_survive_a_stop,
            node_settings_survive_a_failed_bind,
            options_of_a_caller_are_not_the_nodes,
            a_running_node_is_asked_when_the_device_is_loaded,
            a_failed_bind_is_no_error_while_the_options_are_not_known,
            the_application_starts_again_while_the_options_are_not_known,
            a_nodes_value_that_does_not_fit_keeps_the_server_closed,
            a_nodes_value_that_does_not_fit_closes_a_server_that_runs,
            a_nodes_right_value_counts_over_a_wrong_one_of_the_environment
        ]
    ]}.

-compile([export_all, nowarn_export_all]).

the_start_hook_takes_the_options_of_a_node_that_starts() ->
    ok = dev_websocket:start(#{}),
    Node = #{websocket_history_bytes => <<"1048576">>, websocket_shards => nonsense, websocket_nothing => 1},
    Hook = #{<<"body">> => #{<<"websocket-history-bytes">> => 5, websocket_history_bytes => 6}, <<"path">> => <<"start">>},
    ?assertEqual({ok, Hook}, dev_websocket:start(#{}, Hook, Node)),
    ?assertMatch(#{history_bytes := 1048576}, dev_websocket:config()).

settings_of_proxies_are_options_in_each_form() ->
    ok = dev_websocket:start(#{}),
    Node = #{
        websocket_trusted_proxies => [<<"10.0.0.0/8">>, "::ffff:127.0.0.1"],
        websocket_control => off,
        websocket_proxy_protocol => <<"on">>,
        websocket_public_uri => <<"wss://node.example">>,
        websocket_operator_host => {127, 0, 0, 1}
    },
    {ok, _} = dev_websocket:start(#{}, #{<<"body">> => Node}, Node),
    ?assertMatch(
        #{
            trusted_proxies := [<<"10.0.0.0/8">>, <<"127.0.0.1">>],
            control := false,
            proxy_protocol := true,
            public_uri := <<"wss://node.example">>,
            operator_host := <<"127.0.0.1">>
        },
        dev_websocket:config()
    ),
    ?assertMatch({ok, #{uri := <<"wss://node.example/ws">>}}, dev_websocket:info()),
    Given = #{<<"trusted_proxies">> => <<"::1, 127.0.0.1">>, control => on, proxy_protocol => "off", public_uri => ""},
    ?assertEqual(ok, dev_websocket:start(Given)),
    ?assertMatch(
        #{trusted_proxies := [<<"::1">>, <<"127.0.0.1">>], control := true, proxy_protocol := false, public_uri := <<>>},
        dev_websocket:config()
    ),
    {error, {invalid_setting, trusted_proxies, _}} = dev_websocket:start(#{trusted_proxies => [<<"10.0.0.1/8">>]}).

a_request_for_the_start_hook_changes_nothing() ->
    on_node(#{websocket_history_bytes => 1048576}, fun(Opts) ->
        Request = #{<<"path">> => <<"start">>, <<"websocket_history_bytes">> => <<"7">>},
        %% A request has the node's options, and may have more of its own.
        Forged = Opts#{websocket_history_bytes => 7},
        ?assertEqual({ok, Request}, dev_websocket:start(#{}, Request, Forged)),
        ?assertMatch(#{history_bytes := 1048576}, dev_websocket:config()),
        ok = dev_websocket:start(#{history_bytes => 2097152}),
        ?assertEqual({ok, Request}, dev_websocket:start(#{}, Request, Forged)),
        ?assertMatch(#{history_bytes := 2097152}, dev_websocket:config())
    end).

node_settings_survive_a_stop() ->
    Origins = [<<"https://app.example">>],
    Said = #{websocket_port => 0, websocket_host => <<"127.0.0.2">>, websocket_origins => Origins, websocket_max_last => 7},
    on_node(Said, fun(Opts) ->
        {ok, _} = dev_websocket:info(#{}, #{}, Opts),
        Expected = #{host := Host, port := 0, max_last := 7} = maps:with([host, port, origins, max_last], dev_websocket:config()),
        ?assertMatch({ok, #{uri := <<"ws://127.0.0.2:", _/binary>>}}, dev_websocket:info()),
        ok = dev_websocket:stop(),
        ok = dev_websocket:start(#{max_inbound_rate => 7}),
        ?assertEqual(Expected, maps:with([host, port, origins, max_last], dev_websocket:config())),
        ?assertMatch(#{max_inbound_rate := 7, host := Host}, dev_websocket:config()),
        ?assertMatch({ok, #{uri := <<"ws://127.0.0.2:", _/binary>>}}, dev_websocket:info())
    end).

node_settings_survive_a_failed_bind() ->
    {ok, Taken} = gen_tcp:listen(0, [{ip, {127, 0, 0, 2}}]),
    {ok, Port} = inet:port(Taken),
    Said = #{websocket_port => Port, websocket_host => <<"127.0.0.2">>, websocket_max_last => 7},
    ok = dev_websocket:stop(),
    quietly(fun() ->
        on_node(Said, fun(Opts) ->
            ?assertMatch({error, #{<<"status">> := 503}}, dev_websocket:info(#{}, #{}, Opts)),
            ?assertMatch({error, {listen, _}}, dev_websocket:info()),
            ok = dev_websocket:start(#{port => 0}),
            ?assertMatch(#{max_last := 7}, dev_websocket:config()),
            ?assertMatch({ok, #{uri := <<"ws://127.0.0.2:", _/binary>>}}, dev_websocket:info())
        end)
    end),
    gen_tcp:close(Taken).

options_of_a_caller_are_not_the_nodes() ->
    ok = dev_websocket:start(#{}),
    on_node(#{websocket_max_last => 7}, fun(Opts) ->
        Before = #{<<"request">> => #{<<"path">> => <<"/x">>}},
        {ok, Before} = dev_websocket:response(#{}, Before, Opts#{websocket_max_last => 9, store => []}),
        ?assertMatch(#{max_last := 7}, dev_websocket:config()),
        %% Not even where they name no server of the node.
        {ok, Before} = dev_websocket:response(#{}, Before, #{websocket_max_last => 9}),
        ?assertMatch(#{max_last := 7}, dev_websocket:config())
    end).

a_running_node_is_asked_when_the_device_is_loaded() ->
    ok = dev_websocket:stop(),
    on_node(#{websocket_max_last => 7}, fun(_) ->
        _ = dev_websocket_engine:load(),
        ?assertMatch(#{max_last := 7}, persistent_term:get(?SAID))
    end).

a_failed_bind_is_no_error_while_the_options_are_not_known() ->
    ok = dev_websocket:stop(),
    {ok, Taken} = gen_tcp:listen(0, [{ip, {127, 0, 0, 1}}]),
    {ok, Port} = inet:port(Taken),
    Levels = fun(Run) ->
        Test = self(),
        ok = logger:add_handler(?MODULE, ?MODULE, #{config => Test, level => all}),
        try quietly_but(Run) after logger:remove_handler(?MODULE) end,
        levels()
    end,
    stand_in:with(#{}, fun() ->
        ?assertEqual([notice], Levels(fun() -> {error, _} = dev_websocket:start(#{port => Port}) end)),
        persistent_term:put(?SAID, #{}),
        ?assertEqual([error], Levels(fun() -> {error, _} = dev_websocket:start(#{port => Port}) end))
    end),
    gen_tcp:close(Taken).

the_application_starts_again_while_the_options_are_not_known() ->
    ok = dev_websocket:stop(),
    stand_in:with(#{}, fun() ->
        %% The node has no server yet.
        true = code:delete(ranch),
        code:purge(ranch),
        ?assertEqual(none, dev_websocket_node:running_node()),
        quietly(fun() ->
            ok = application:start(dev_websocket),
            ?assertMatch({ok, #{uri := _}}, dev_websocket:info()),
            ok = application:stop(dev_websocket)
        end)
    end).

a_nodes_value_that_does_not_fit_keeps_the_server_closed() ->
    [
        begin
            forget(),
            ok = dev_websocket:stop(),
            on_node(Said#{websocket_port => 0}, fun(Opts) ->
                [Name] = refused(fun() -> ?assertMatch({error, #{<<"status">> := 503}}, dev_websocket:info(#{}, #{}, Opts)) end),
                is_closed_for([Name]),
                %% Nothing else opens it: neither another call of the node nor other settings.
                {ok, <<"OK">>} = dev_websocket:cast(#{}, #{<<"topic">> => <<"t">>}, Opts),
                ?assertMatch({error, {invalid_setting, Name, _}}, quietly(fun() -> dev_websocket:start(#{max_last => 5}) end)),
                is_closed_for([Name]),
                [] = refused(fun() -> ok = dev_websocket:start(#{Name => Right}) end),
                ?assertMatch({ok, #{uri := _}}, dev_websocket:info())
            end)
        end
     ||
        {Name, Said, Right} <- [
            {host, #{websocket_host => <<"127.0.01">>}, "127.0.0.1"},
            {origins, #{websocket_origins => [<<"app.example">>]}, ["https://app.example"]},
            {max_connections_per_ip, #{websocket_max_connections_per_ip => <<"ten">>}, 10}
        ]
    ].

a_nodes_value_that_does_not_fit_closes_a_server_that_runs() ->
    ok = dev_websocket:start(#{}),
    Client = fresh_server:client("topic=t"),
    on_node(#{websocket_origins => <<"app.example">>, websocket_max_last => <<"many">>}, fun(Opts) ->
        quietly(fun() -> {error, #{<<"status">> := 503}} = dev_websocket:info(#{}, #{}, Opts) end),
        ?assertMatch({close, 1001, _}, ws_client:recv(Client)),
        is_closed_for([max_last, origins]),
        %% All that are named have to be right.
        {error, {invalid_setting, max_last, _}} = quietly(fun() -> dev_websocket:start(#{origins => []}) end),
        ok = dev_websocket:start(#{origins => [], <<"max_last">> => 5}),
        ?assertMatch(#{origins := [], max_last := 5}, dev_websocket:config())
    end).

a_nodes_right_value_counts_over_a_wrong_one_of_the_environment() ->
    ok = dev_websocket:stop(),
    os:putenv("DEV_WEBSOCKET_MAX_LAST", "many"),
    try
        {error, _} = quietly(fun() -> dev_websocket:start(#{}) end),
        is_closed_for([max_last]),
        on_node(#{websocket_max_last => 7}, fun(Opts) ->
            [] = refused(fun() -> {ok, _} = dev_websocket:info(#{}, #{}, Opts) end),
            ?assertMatch(#{max_last := 7}, dev_websocket:config())
        end)
    after
        os:unsetenv("DEV_WEBSOCKET_MAX_LAST")
    end.

%%% Helpers.

is_closed_for(Names) ->
    {error, {settings, Misfits}} = dev_websocket:info(),
    ?assertEqual(Names, lists:sort(maps:keys(Misfits))).

%% @doc The settings that are told to be wrong while something runs.
refused(Run) ->
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self(), level => all}),
    try quietly_but(Run) after logger:remove_handler(?MODULE) end,
    refused().

refused() ->
    receive {refused, Name} -> [Name | refused()]
    after 0 -> []
    end.

%% @doc As a handler of the log: tell the test of failed binds and wrong settings.
log(#{level := Level, meta := #{event := failed_bind}}, #{config := Test}) -> Test ! {level, Level};
log(#{meta := #{event := refused_setting, setting := Name}}, #{config := Test}) -> Test ! {refused, Name};
log(_, _) -> ok.

levels() ->
    receive {level, Level} -> [Level | levels()]
    after 0 -> []
    end.

forget() ->
    _ = persistent_term:erase(?SAID),
    _ = followed:restart_tails(),
    ok.

on_node(Said, Run) ->
    Opts = maps:merge(stand_in:options(stand_in:empty()), Said),
    stand_in:with(Opts, fun() -> Run(Opts) end).

quietly(Run) ->
    #{level := Level} = logger:get_primary_config(),
    ok = logger:set_primary_config(level, none),
    try Run() after ok = logger:set_primary_config(level, Level) end.

%% @doc The handler of the test hears all, the terminal nothing.
quietly_but(Run) ->
    #{level := Level} = logger:get_primary_config(),
    {ok, #{level := Shown}} = logger:get_handler_config(default),
    ok = logger:set_primary_config(level, all),
    ok = logger:set_handler_config(default, level, none),
    try Run()
    after
        ok = logger:set_primary_config(level, Level),
        ok = logger:set_handler_config(default, level, Shown)
    end.
