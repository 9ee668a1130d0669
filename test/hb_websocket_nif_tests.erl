%%% @doc The boundary: arguments and answers of the native functions.
-module(hb_websocket_nif_tests).
-include_lib("eunit/include/eunit.hrl").

-define(DEADLINE, 30000).

boundary_test_() ->
    fresh_server:each(?MODULE, 1200, #{}, [
        every_function_takes_any_term,
        every_key_of_a_map_takes_any_term,
        commands_answer_with_their_reference,
        a_command_of_a_dead_process_still_runs,
        commands_of_many_processes_are_all_answered,
        the_inline_budget_is_exact,
        the_whole_budget_is_that_of_the_largest_message,
        provenance_stands_in_the_frame,
        bad_provenance_is_named_by_its_key,
        provenance_is_read_from_the_budget_of_its_message,
        json_text_is_published_as_the_message_it_is,
        messages_that_a_caller_drops_are_counted,
        messages_without_a_server_are_dropped,
        a_boot_never_restarts_nor_resurrects,
        counts_and_settings_have_their_kinds
    ]).

-compile([export_all, nowarn_export_all]).

%%% Arguments.

every_function_takes_any_term() ->
    Terms = terms(),
    Calls = [
        {cast, 1}, {cast_large, 1}, {publish, 2}, {publish_large, 2}, {publish_json, 2},
        {publish_slot, 5}, {publish_slot_large, 5}, {publish_slot_gap, 4},
        {slot_mark, 1}, {set_slot_mark, 2}, {interest, 1}, {wants_edges, 1}, {watch_interest, 0}, {count_result, 1}, {set_tails, 3},
        {watch_slot_replays, 0}, {slot_replays, 1}, {replay_slot, 5}, {replay_slot_large, 5}, {replay_gap, 4}, {replay_live, 1}, {replay_failed, 2}, {output_events, 2},
        {has_audience, 0}, {interface, 0}, {count_dropped, 1}, {validate, 1}, {stop, 1}, {boot, 2}, {start, 2}, {shut, 2}, {protective, 0}, {describe, 0}, {info, 0}, {settings, 0}, {stats, 0},
        {listen, 1}, {acknowledge, 1}, {unlisten, 1}, {send, 2}, {send_large, 2},
        {connection, 2}, {connections, 3}, {disconnect, 1}, {token, 4}, {revoke_token, 1}, {revoke_subject, 2}, {read_log, 0}, {acknowledge_log, 0}, {is_log_read, 0},
        {metrics, 0}, {register_collector, 0}, {deregister_cleanup, 1}
    ],
    ?assertEqual(
        lists:sort(Calls ++ [{load, 0}, {application, 0}, {collect_mf, 2}, {module_info, 0}, {module_info, 1}]),
        lists:sort(hb_websocket_nif:module_info(exports))
    ),
    lists:foreach(
        fun
            ({Name, 0}) ->
                hb_websocket_nif:Name();
            ({Name, 1}) ->
                [hb_websocket_nif:Name(Term) || Term <- Terms];
            ({Name, 2}) ->
                [hb_websocket_nif:Name(First, Second) || First <- Terms, Second <- Terms];
            ({connections, 3}) ->
                [hb_websocket_nif:connections(First, Second, 10) || First <- Terms, Second <- Terms],
                [hb_websocket_nif:connections(make_ref(), First, Second) || First <- Terms, Second <- Terms];
            ({set_tails, 3}) ->
                [hb_websocket_nif:set_tails(First, Second, cache) || First <- Terms, Second <- Terms],
                [hb_websocket_nif:set_tails(1, First, Second) || First <- Terms, Second <- Terms];
            ({token, 4}) ->
                [hb_websocket_nif:token(First, Second, false, 300) || First <- Terms, Second <- Terms],
                [hb_websocket_nif:token(<<"a">>, [First], Second, 300) || First <- Terms, Second <- Terms],
                [hb_websocket_nif:token(<<"a">>, [<<"b">>], true, Term) || Term <- Terms];
            ({Name, 4}) ->
                [hb_websocket_nif:Name(First, Second, 1, not_cached) || First <- Terms, Second <- Terms],
                [hb_websocket_nif:Name(process(), First, 1, Second) || First <- Terms, Second <- Terms],
                [hb_websocket_nif:Name(process(), First, Second, limit) || First <- Terms, Second <- Terms];
            ({Name, 5}) ->
                [hb_websocket_nif:Name(First, Second, 0, [], true) || First <- Terms, Second <- Terms],
                [hb_websocket_nif:Name(begun(), 1, First, [], Second) || First <- Terms, Second <- Terms],
                Events = Terms ++ [[Term] || Term <- Terms] ++ [[{First, Second}] || First <- Terms, Second <- Terms],
                [hb_websocket_nif:Name(begun(), 1, 0, Term, true) || Term <- Events]
        end,
        Calls
    ),
    ?assertEqual(0, count(<<"panics">>)),
    %% A server can be started after all of them, and its answer is the last.
    Last = make_ref(),
    ok = hb_websocket_nif:start(Last, #{host => "127.0.0.1", port => 0}),
    ?assertEqual(ok, flush_until(Last)),
    ?assertMatch({ok, _, _}, hb_websocket_nif:info()).

every_key_of_a_map_takes_any_term() ->
    Settings = maps:keys(hb_websocket_nif:settings()),
    ?assert(length(Settings) > 10),
    lists:foreach(
        fun(Term) ->
            [is_answer(hb_websocket_nif:validate(#{Setting => Term})) || Setting <- Settings],
            is_answer(hb_websocket_nif:validate(#{Term => 1})),
            lists:foreach(
                fun(Key) ->
                    Origin = #{Key => Term},
                    is_answer(hb_websocket_nif:publish(#{Key => Term}, Origin)),
                    is_answer(hb_websocket_nif:publish_large(Term, Origin)),
                    is_answer(hb_websocket_nif:publish_json(<<"{}">>, Origin)),
                    is_answer(hb_websocket_nif:publish_slot(begun(), 1, 0, [{Term, Origin}], true)),
                    is_answer(hb_websocket_nif:publish_slot_large(begun(), 1, 0, [{#{}, #{Term => Key}}, {Term, Origin}], true))
                end,
                [process, slot, hashpath, path, assignment, source, from, is_edge, topics, topic]
            ),
            [is_answer(hb_websocket_nif:send(1, {Kind, Term})) || Kind <- [text, binary]],
            is_answer(hb_websocket_nif:send_large(1, {Term, <<"x">>}))
        end,
        terms()
    ),
    ?assertEqual(0, count(<<"panics">>)).

commands_answer_with_their_reference() ->
    Ref = {any, #{term => [make_ref()]}},
    ?assertEqual(ok, hb_websocket_nif:stop(Ref)),
    ?assertEqual(ok, answer(Ref)),
    ?assertEqual(ok, hb_websocket_nif:start(Ref, #{port => 0})),
    ?assertEqual(ok, answer(Ref)),
    ?assertEqual({error, {unknown_setting, no_such}}, hb_websocket_nif:start(Ref, #{no_such => 1})),
    ?assertEqual({error, settings_not_a_map}, hb_websocket_nif:boot(Ref, [])),
    ?assertMatch({error, {invalid_setting, <<"port">>, <<_/binary>>}}, hb_websocket_nif:validate(#{<<"port">> => x})),
    ?assertEqual(ok, hb_websocket_nif:validate(#{})).

a_command_of_a_dead_process_still_runs() ->
    {_, Monitor} = spawn_monitor(fun() -> hb_websocket_nif:stop(none) end),
    receive {'DOWN', Monitor, process, _, normal} -> ok end,
    %% Commands run in their order, so this one's answer comes after.
    ok = hb_websocket_nif:boot(mine, #{}),
    ?assertEqual({error, stopped}, answer(mine)).

commands_of_many_processes_are_all_answered() ->
    Test = self(),
    Commands = [
        fun() -> dev_websocket:start(#{max_inbound_rate => N}) end
     || N <- lists:seq(1, 20)
    ] ++ [fun dev_websocket:info/0 || _ <- lists:seq(1, 20)],
    [spawn(fun() -> Test ! {answer, Command()} end) || Command <- Commands],
    Answers = [receive {answer, Answer} -> Answer after ?DEADLINE -> missing end || _ <- Commands],
    ?assertEqual([], [Answer || Answer <- Answers, Answer =/= ok, element(1, Answer) =/= ok]),
    ?assertMatch({ok, _, _}, hb_websocket_nif:info()).

%%% Budgets.

the_inline_budget_is_exact() ->
    Text = fun(Bytes) -> binary:copy(<<"a">>, Bytes) end,
    Is = fun(Expected, Term) -> ?assertEqual(Expected, hb_websocket_nif:cast(Term)) end,
    Is(ok, Text(65535)),
    Is(ok, Text(65536)),
    Is(large, Text(65537)),
    Is(ok, #{<<"key">> => Text(65533)}),
    Is(large, #{<<"key">> => Text(65534)}),
    %% The list itself is one value.
    Is(ok, lists:duplicate(1022, 1)),
    Is(ok, lists:duplicate(1023, 1)),
    Is(large, lists:duplicate(1024, 1)),
    Is(ok, list_to_tuple(lists:duplicate(1023, 1))),
    Is(large, list_to_tuple(lists:duplicate(1024, 1))),
    Is(ok, maps:from_list([{N, 1} || N <- lists:seq(1, 1023)])),
    Is(large, maps:from_list([{N, 1} || N <- lists:seq(1, 1024)])),
    Is(ok, [{list_to_binary(integer_to_list(N)), 1} || N <- lists:seq(1, 1023)]),
    Is(large, [{list_to_binary(integer_to_list(N)), 1} || N <- lists:seq(1, 1024)]),
    %% Keys that never leave the node are not read.
    Is(ok, #{<<"commitments">> => Text(10000000), <<"priv">> => lists:seq(1, 100000), <<"a">> => 1}),
    ok = dev_websocket:start(#{commitments => true}),
    Is(large, #{<<"commitments">> => Text(10000000), <<"a">> => 1}).

the_whole_budget_is_that_of_the_largest_message() ->
    ok = dev_websocket:start(#{max_message_bytes => 100000}),
    Is = fun(Expected, Term) -> ?assertEqual(Expected, hb_websocket_nif:cast_large(Term)) end,
    %% A list of n digits takes 2n + 1 bytes.
    Is(ok, lists:duplicate(49999, 1)),
    Is({dropped, too_large}, lists:duplicate(50000, 1)),
    Is(ok, binary:copy(<<"a">>, 99998)),
    Is({dropped, too_large}, binary:copy(<<"a">>, 99999)),
    %% The first 50,000 of many items are walked, which takes a fraction of walking all.
    Huge = lists:seq(1, 5000000),
    Least = fun(Run) -> lists:min([element(1, timer:tc(Run)) || _ <- lists:seq(1, 5)]) end,
    Is({dropped, too_large}, Huge),
    ?assert(Least(fun() -> hb_websocket_nif:cast_large(Huge) end) < Least(fun() -> lists:sum(Huge) end)),
    Is({dropped, too_large}, erlang:make_tuple(16000000, 1)),
    Is({dropped, too_large}, [a | lists:duplicate(1000000, b)]).

%%% Origins.

provenance_stands_in_the_frame() ->
    Client = fresh_server:client("topic=*"),
    Process = process(),
    Origin = #{
        process => Process, slot => 7, hashpath => <<"h">>, path => <<"/p">>, assignment => <<"as">>,
        source => <<"push">>, from => [<<"alice">>, <<255>>], topics => [room, <<"owner:x">>]
    },
    ?assertEqual(ok, hb_websocket_nif:publish(#{<<"a">> => 1}, Origin)),
    ?assertEqual(ok, hb_websocket_nif:publish_large(#{}, #{source => <<"s">>})),
    ?assertEqual(ok, hb_websocket_nif:publish(#{}, #{})),
    [Known, Partly, Unknown] = ws_client:messages(Client, 3),
    Topics = [<<"room">>, <<"process:", Process/binary>>, <<"from:alice">>, <<"from:_w">>, <<"a:1">>],
    Expected = #{
        <<"process">> => Process, <<"slot">> => 7, <<"hashpath">> => <<"h">>, <<"path">> => <<"/p">>,
        <<"assignment">> => <<"as">>, <<"source">> => <<"push">>, <<"from">> => [<<"alice">>, <<"_w">>],
        <<"type">> => <<"message">>, <<"topic">> => <<"room">>, <<"topics">> => Topics, <<"data">> => #{<<"a">> => 1}
    },
    ?assertEqual(Expected, maps:without([<<"seq">>, <<"timestamp">>], Known)),
    Common = [<<"data">>, <<"seq">>, <<"timestamp">>, <<"topic">>, <<"topics">>, <<"type">>],
    ?assertEqual(lists:sort([<<"source">> | Common]), lists:sort(maps:keys(Partly))),
    ?assertEqual(Common, lists:sort(maps:keys(Unknown))).

bad_provenance_is_named_by_its_key() ->
    Bad = [
        {process, a}, {process, "p"}, {process, <<1:7>>}, {slot, -1}, {slot, 1 bsl 64}, {slot, <<"1">>}, {slot, 1.0},
        {hashpath, 1}, {path, undefined}, {assignment, []}, {source, #{}}, {from, <<"a">>}, {from, [a]},
        {from, [<<"a">> | <<"b">>]}, {is_edge, 1}, {no_such, 1}, {<<"process">>, <<"p">>}, {1, 1}
    ],
    Publish = fun(Origin) ->
        Answer = hb_websocket_nif:publish(#{}, Origin),
        ?assertEqual(Answer, hb_websocket_nif:publish_large(#{}, Origin)),
        ?assertEqual(Answer, hb_websocket_nif:publish_json(<<"1">>, Origin)),
        Process = begun(),
        ?assertEqual(Answer, hb_websocket_nif:publish_slot(Process, 1, 0, [{#{}, #{}}, {#{}, Origin}], true)),
        ?assertEqual(Answer, hb_websocket_nif:publish_slot_large(Process, 1, 0, [{#{}, Origin}], true)),
        %% Nothing of it was published.
        ?assertEqual({ok, 1, 0, []}, hb_websocket_nif:slot_mark(Process)),
        Answer
    end,
    Before = count(<<"publications">>),
    [?assertEqual({error, {bad_origin, Key}}, Publish(maps:put(Key, Value, #{source => <<"s">>}))) || {Key, Value} <- Bad],
    [?assertEqual({error, {bad_origin, not_a_map}}, Publish(Origin)) || Origin <- [[], [{slot, 1}], a, <<>>]],
    ?assertEqual(Before, count(<<"publications">>)).

provenance_is_read_from_the_budget_of_its_message() ->
    Text = fun(Bytes) -> binary:copy(<<"a">>, Bytes) end,
    Publish = fun hb_websocket_nif:publish/2,
    ?assertEqual(ok, Publish(Text(65530), #{path => <<"123456">>})),
    ?assertEqual(large, Publish(Text(65531), #{path => <<"123456">>})),
    ?assertEqual(large, Publish(a, #{from => lists:duplicate(1024, <<>>)})),
    ?assertEqual(large, Publish(a, #{topics => lists:duplicate(1024, 1)})),
    ok = dev_websocket:start(#{max_message_bytes => 100000}),
    Large = fun hb_websocket_nif:publish_large/2,
    ?assertEqual(ok, Large(Text(99990), #{path => <<"123456">>})),
    Before = count(<<"dropped_too_large">>),
    ?assertEqual({dropped, too_large}, Large(Text(99999), #{})),
    ?assertEqual({dropped, too_large}, Large(a, #{path => Text(100001)})),
    ?assertEqual(Before + 2, count(<<"dropped_too_large">>)).

json_text_is_published_as_the_message_it_is() ->
    ok = dev_websocket:start(#{max_message_bytes => 100}),
    Client = fresh_server:client("topic=t"),
    Body = <<"{\"topic\":\"t\",\"n\":18446744073709551615,\"list\":[1,null]}">>,
    ?assertEqual(ok, hb_websocket_nif:publish_json(Body, #{source => <<"http">>})),
    [Message] = ws_client:messages(Client, 1),
    Data = #{<<"topic">> => <<"t">>, <<"n">> => <<"18446744073709551615">>, <<"list">> => [1, null]},
    ?assertMatch(#{<<"source">> := <<"http">>, <<"data">> := Data}, Message),
    Malformed = count(<<"dropped_malformed">>),
    Bad = [<<>>, <<"{">>, <<"{} 1">>, <<255>>, <<"undefined">>],
    [?assertMatch({error, {bad_json, <<_, _/binary>>}}, hb_websocket_nif:publish_json(Text, #{})) || Text <- Bad],
    ?assertEqual(Malformed + length(Bad), count(<<"dropped_malformed">>)),
    %% Text that is too large is not read, or it would count as malformed.
    ?assertEqual({dropped, too_large}, hb_websocket_nif:publish_json(binary:copy(<<"{">>, 101), #{})),
    [?assertMatch({error, {bad_argument, _}}, hb_websocket_nif:publish_json(Text, #{})) || Text <- [a, "{}", #{}, <<1:7>>]].

%%% Dropped messages.

messages_that_a_caller_drops_are_counted() ->
    lists:foreach(
        fun(Reason) ->
            Name = <<"dropped_", (atom_to_binary(Reason, utf8))/binary>>,
            Before = count(Name),
            ?assertEqual(ok, hb_websocket_nif:count_dropped(Reason)),
            ?assertEqual(Before + 1, count(Name))
        end,
        [refused, malformed, repeated]
    ),
    [?assertMatch({error, {bad_argument, _}}, hb_websocket_nif:count_dropped(Bad)) || Bad <- [too_large, untrusted, <<"refused">>]].

messages_without_a_server_are_dropped() ->
    ?assert(hb_websocket_nif:has_audience()),
    ok = dev_websocket:start(#{history_bytes => 0}),
    Unheard = count(<<"dropped_no_audience">>),
    ?assertNot(hb_websocket_nif:has_audience()),
    ?assertEqual(Unheard, count(<<"dropped_no_audience">>)),
    Calls = fun() ->
        [
            hb_websocket_nif:publish(#{}, #{}), hb_websocket_nif:publish_large(#{}, #{}),
            hb_websocket_nif:publish_json(<<"1">>, #{})
        ]
    end,
    ?assertEqual(lists:duplicate(3, {dropped, no_audience}), Calls()),
    ?assertEqual(Unheard + 3, count(<<"dropped_no_audience">>)),
    ok = dev_websocket:stop(),
    Stopped = count(<<"dropped_not_running">>),
    ?assertNot(hb_websocket_nif:has_audience()),
    ?assertEqual(lists:duplicate(3, {dropped, not_running}), Calls()),
    ?assertEqual(Stopped + 3, count(<<"dropped_not_running">>)).

%%% Boot, counts and settings.

a_boot_never_restarts_nor_resurrects() ->
    {ok, Uri, _} = hb_websocket_nif:info(),
    ok = hb_websocket_nif:boot(1, #{host => "127.0.0.1", port => 0}),
    ?assertEqual(ok, answer(1)),
    ?assertMatch({ok, Uri, _}, hb_websocket_nif:info()),
    ok = dev_websocket:stop(),
    ok = hb_websocket_nif:boot(2, #{host => "127.0.0.1", port => 0}),
    ?assertEqual({error, stopped}, answer(2)),
    ?assertEqual({error, stopped}, hb_websocket_nif:info()).

counts_and_settings_have_their_kinds() ->
    Check = fun() ->
        Stats = hb_websocket_nif:stats(),
        ?assert(maps:size(Stats) > 10),
        [?assert(is_binary(Name) andalso is_integer(Count) andalso Count >= 0) || {Name, Count} <- maps:to_list(Stats)],
        Settings = hb_websocket_nif:settings(),
        ?assert(maps:size(Settings) > 10),
        [?assert(is_atom(Name)) || Name <- maps:keys(Settings)],
        ?assertEqual(ok, hb_websocket_nif:validate(Settings))
    end,
    Check(),
    Running = hb_websocket_nif:settings(),
    ok = dev_websocket:start(#{max_inbound_rate => 1234}),
    ?assertEqual(Running#{max_inbound_rate := 1234}, hb_websocket_nif:settings()),
    ok = dev_websocket:stop(),
    Check(),
    ?assertMatch(#{max_inbound_rate := 50, port := 8735}, hb_websocket_nif:settings()).

%%% Helpers.

%% @doc A process that no other test knows: the engine never forgets a slot.
process() ->
    <<"process-", (integer_to_binary(erlang:unique_integer([positive])))/binary>>.

%% @doc One that begins at its slot 1.
begun() ->
    Process = process(),
    {ok, 1, 0, []} = hb_websocket_nif:set_slot_mark(Process, 1),
    Process.

count(Name) ->
    maps:get(Name, hb_websocket_nif:stats()).

answer(Ref) ->
    receive
        {Ref, Answer} -> Answer
    after ?DEADLINE -> error(no_answer)
    end.

flush_until(Ref) ->
    receive
        {Ref, Answer} -> Answer;
        {_, _} -> flush_until(Ref)
    after ?DEADLINE -> error(no_answer)
    end.

%% @doc Terms of every kind, and of sizes and depths at which a reader could give up.
terms() ->
    Large = binary:copy(<<"x">>, 1 bsl 20),
    External = <<131, 88, 119, 5, "other", 1:32, 2:32, 3:32>>,
    [
        a, 'ключ', true, undefined, '', 1, -1, 1 bsl 63, -(1 bsl 63) - 1, 1 bsl 64, 1 bsl 100000, -(1 bsl 100000),
        1.5, -0.0, 1.0e308, <<>>, <<"port">>, <<255>>, <<1:7>>, <<0:8003>>, Large, binary:part(Large, 7, 70000),
        [], "text", [16#d800], [$a, -1], [1 | 2], [a | [b | c]], [a, b], [{a, 1}], [{a, 1} | b], [[[]]], {}, {a, b}, {text, a},
        #{}, #{a => 1}, #{<<"port">> => b}, #{1 => 2}, #{#{} => []}, self(), binary_to_term(External),
        make_ref(), atomics:new(1, []), hd(erlang:ports()), fun() -> ok end, fun lists:map/2,
        %% Deeper than a scheduler has stack for, should anything walk them by recursion.
        deep(200, 1), deep(10000, 1), deep_tuple(10000, 1), deep_map(1000, 1),
        lists:seq(1, 2000), list_to_tuple(lists:seq(1, 2000)), maps:from_list([{N, N} || N <- lists:seq(1, 2000)])
    ].

%% @doc Each function answers for any arguments.
is_answer(ok) -> ok;
is_answer(large) -> ok;
is_answer({dropped, Reason}) when is_atom(Reason) -> ok;
is_answer({error, _}) -> ok.

deep_tuple(0, Term) -> Term;
deep_tuple(Depth, Term) -> deep_tuple(Depth - 1, {Term}).

deep_map(0, Term) -> Term;
deep_map(Depth, Term) -> deep_map(Depth - 1, #{Depth => Term}).

deep(0, Term) -> Term;
deep(Depth, Term) -> deep(Depth - 1, [Term]).
