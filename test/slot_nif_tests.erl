%%% @doc The boundary that results of processes cross: which processes are wanted, how
%%% far each is published, and the events of their slots.
-module(slot_nif_tests).
-include_lib("eunit/include/eunit.hrl").

-define(DEADLINE, 30000).
-define(BYTES, 4 * 1024 * 1024).

boundary_test_() ->
    fresh_server:each(?MODULE, 1200, #{}, [
        interest_names_processes_that_have_subscribers,
        interest_is_signalled_once_until_it_is_read,
        interest_is_signalled_before_the_client_is_told,
        interest_is_signalled_by_restarts_and_empty_without_a_server,
        interest_goes_to_the_last_watcher,
        interest_has_a_maximum,
        marks_are_set_once_and_outlive_servers,
        events_of_a_slot_come_part_by_part_and_once,
        events_beyond_the_mark_are_refused,
        events_without_an_audience_are_published,
        gaps_move_the_mark_and_leave_holes,
        gaps_are_sent_in_every_format,
        gaps_of_a_limit_need_no_mark,
        lists_have_at_most_256_events,
        lists_have_at_most_4_mib,
        the_inline_budget_is_that_of_all_events,
        an_event_beyond_the_budget_names_its_path,
        bad_arguments_are_named,
        events_without_a_server_are_published_later,
        counts_are_those_of_their_names
    ]).

-compile([export_all, nowarn_export_all]).

%%% Interest.

interest_names_processes_that_have_subscribers() ->
    [A, B] = [process(), process()],
    ?assertEqual({[], 0, false}, interest(10)),
    Before = erlang:system_time(millisecond),
    First = fresh_server:client(["process=", A]),
    ?assertEqual({[A], 1, false}, interest(10)),
    {ok, [{_, Since}], 1, false} = hb_websocket_nif:interest(10),
    ?assert(Since >= Before andalso Since =< erlang:system_time(millisecond)),
    Second = fresh_server:client(["topic=from:", B, ",from:", A, ",prices"]),
    ?assertEqual({[A, B], 2, true}, interest(10)),
    ok = hb_websocket_nif:watch_interest(),
    ws_client:send_json(Second, #{<<"type">> => <<"unsubscribe">>, <<"topics">> => [<<"prices">>]}),
    _ = ws_client:recv_json(Second),
    changed(),
    ?assertEqual({[A, B], 2, false}, interest(10)),
    gen_tcp:close(First),
    %% The other still names it.
    gen_tcp:close(Second),
    ?assertEqual({[], 0, false}, until_interest([])).

interest_is_signalled_once_until_it_is_read() ->
    [A, B, C] = [process(), process(), process()],
    ok = hb_websocket_nif:watch_interest(),
    %% The end of the server before this one may have been told meanwhile.
    flush(),
    _ = fresh_server:client(["process=", A]),
    changed(),
    _ = fresh_server:client(["process=", B]),
    not_changed(),
    ?assertEqual({[A, B], 2, false}, interest(9)),
    %% Known already.
    _ = fresh_server:client(["process=", A]),
    not_changed(),
    _ = fresh_server:client(["process=", C]),
    changed(),
    %% No message comes without a change.
    {ok, _, 3, false} = hb_websocket_nif:interest(9),
    _ = fresh_server:client("topic=prices"),
    changed(),
    {ok, _, 3, true} = hb_websocket_nif:interest(9),
    _ = fresh_server:client("topic=*"),
    _ = fresh_server:client("topic=process:*"),
    not_changed().

%% The word is there before the first frame is, however the client asks.
interest_is_signalled_before_the_client_is_told() ->
    ok = hb_websocket_nif:watch_interest(),
    lists:foreach(
        fun(Topic) ->
            {ok, _, _, _} = hb_websocket_nif:interest(1),
            Client = fresh_server:client(["topic=", Topic]),
            receive {websocket_interest, changed} -> ok after 0 -> error({late, Topic}) end,
            {ok, _, _, _} = hb_websocket_nif:interest(1),
            More = iolist_to_binary(["process:", process()]),
            ws_client:send_json(Client, #{<<"type">> => <<"subscribe">>, <<"topics">> => [More]}),
            #{<<"type">> := <<"subscription_response">>} = ws_client:recv_json(Client),
            receive {websocket_interest, changed} -> ok after 0 -> error({late, More}) end
        end,
        [["process:", process()] || _ <- lists:seq(1, 50)]
    ).

interest_is_signalled_by_restarts_and_empty_without_a_server() ->
    A = process(),
    ok = hb_websocket_nif:watch_interest(),
    _ = fresh_server:client(["process=", A]),
    changed(),
    {[A], 1, false} = interest(9),
    ok = dev_websocket:stop(),
    changed(),
    ?assertEqual({[], 0, false}, until_interest([])),
    flush(),
    {ok, [], 0, false} = hb_websocket_nif:interest(9),
    ok = dev_websocket:start(#{}),
    changed(),
    ?assertEqual({[], 0, false}, interest(9)),
    _ = fresh_server:client(["process=", A]),
    changed(),
    ?assertEqual({[A], 1, false}, interest(9)).

interest_goes_to_the_last_watcher() ->
    Test = self(),
    {Other, Monitor} = spawn_monitor(fun() ->
        ok = hb_websocket_nif:watch_interest(),
        Test ! watching,
        receive {websocket_interest, changed} -> Test ! other_told end,
        receive stop -> ok end
    end),
    receive watching -> ok end,
    _ = fresh_server:client(["process=", process()]),
    receive other_told -> ok after ?DEADLINE -> error(not_told) end,
    ok = hb_websocket_nif:watch_interest(),
    _ = fresh_server:client(["process=", process()]),
    changed(),
    %% A watcher that has died causes no failure.
    {ok, _, _, _} = hb_websocket_nif:interest(9),
    Dying = spawn(fun() -> ok = hb_websocket_nif:watch_interest() end),
    dead(Dying),
    _ = fresh_server:client(["process=", process()]),
    not_changed(),
    ok = hb_websocket_nif:watch_interest(),
    _ = fresh_server:client(["process=", process()]),
    changed(),
    Other ! stop,
    receive {'DOWN', Monitor, process, _, normal} -> ok end,
    ?assertEqual(0, count(<<"panics">>)).

interest_has_a_maximum() ->
    Ids = [process() || _ <- lists:seq(1, 5)],
    [fresh_server:client(["process=", Id]) || Id <- Ids],
    [
        ?assertEqual({lists:sublist(Ids, Max), 5, false}, interest(Max))
     || Max <- [0, 1, 4, 5, 6, 65535, 65536]
    ],
    Bad = [65537, -1, 1.0, a, <<"1">>, 1 bsl 64],
    [?assertMatch({error, {bad_argument, _}}, hb_websocket_nif:interest(Max)) || Max <- Bad].

%%% Marks.

marks_are_set_once_and_outlive_servers() ->
    Id = process(),
    ?assertEqual(none, hb_websocket_nif:slot_mark(Id)),
    ?assertEqual({error, no_mark}, hb_websocket_nif:publish_slot(Id, 0, 0, [], true)),
    ?assertEqual({error, no_mark}, hb_websocket_nif:publish_slot_gap(Id, 0, 0, not_cached)),
    ?assertEqual({ok, 7, 0, []}, hb_websocket_nif:set_slot_mark(Id, 7)),
    ?assertEqual({ok, 7, 0, []}, hb_websocket_nif:set_slot_mark(Id, 9)),
    ?assertEqual({ok, 7, 0, []}, hb_websocket_nif:slot_mark(Id)),
    ?assertEqual(ok, hb_websocket_nif:publish_slot(Id, 7, 0, events([1, 2]), false)),
    ok = dev_websocket:stop(),
    ?assertEqual({ok, 7, 2, []}, hb_websocket_nif:slot_mark(Id)),
    ok = dev_websocket:start(#{}),
    ?assertEqual({ok, 7, 2, []}, hb_websocket_nif:set_slot_mark(Id, 0)),
    ?assertEqual(ok, hb_websocket_nif:publish_slot_large(Id, 7, 2, [], true)),
    ?assertEqual({ok, 8, 0, []}, hb_websocket_nif:slot_mark(Id)),
    Last = (1 bsl 64) - 2,
    Far = process(),
    ?assertEqual({ok, Last, 0, []}, hb_websocket_nif:set_slot_mark(Far, Last)),
    ?assertEqual(ok, hb_websocket_nif:publish_slot(Far, Last, 0, events([1]), true)),
    ?assertEqual({ok, Last + 1, 0, []}, hb_websocket_nif:slot_mark(Far)).

events_of_a_slot_come_part_by_part_and_once() ->
    Id = begun(3),
    Client = fresh_server:client(["process=", Id]),
    [Published, Repeated] = [count(<<"results_published">>), count(<<"dropped_repeated">>)],
    ?assertEqual(ok, hb_websocket_nif:publish_slot(Id, 3, 0, events([0, 1, 2]), false)),
    %% As after a crash: published events are left out.
    ?assertEqual(ok, hb_websocket_nif:publish_slot(Id, 3, 0, events([0, 1]), false)),
    ?assertEqual({ok, 3, 3, []}, hb_websocket_nif:slot_mark(Id)),
    ?assertEqual(ok, hb_websocket_nif:publish_slot_large(Id, 3, 1, events([1, 2, 3]), false)),
    ?assertEqual({ok, 3, 4, []}, hb_websocket_nif:slot_mark(Id)),
    ?assertEqual(Published, count(<<"results_published">>)),
    ?assertEqual(ok, hb_websocket_nif:publish_slot(Id, 3, 4, events([4]), true)),
    ?assertEqual({ok, 4, 0, []}, hb_websocket_nif:slot_mark(Id)),
    [
        ?assertEqual({dropped, repeated}, hb_websocket_nif:Name(Id, Slot, Part, events([9]), true))
     || Name <- [publish_slot, publish_slot_large], Slot <- [0, 2, 3], Part <- [0, 4, 99]
    ],
    ?assertEqual(ok, hb_websocket_nif:publish_slot_large(Id, 4, 0, events([5]), true)),
    ?assertEqual(
        [{Id, 3, N} || N <- lists:seq(0, 4)] ++ [{Id, 4, 5}],
        lists:map(fun told/1, ws_client:messages(Client, 6))
    ),
    ?assertEqual(Published + 2, count(<<"results_published">>)),
    ?assertEqual(Repeated + 18, count(<<"dropped_repeated">>)).

events_beyond_the_mark_are_refused() ->
    Id = begun(3),
    ok = hb_websocket_nif:publish_slot(Id, 3, 0, events([0, 1]), false),
    Before = count(<<"publications">>),
    [
        ?assertEqual({error, {expected, 3, 2}}, hb_websocket_nif:Name(Id, Slot, Part, events([9]), Last))
     || Name <- [publish_slot, publish_slot_large], {Slot, Part} <- [{3, 3}, {4, 0}, {(1 bsl 64) - 2, 0}], Last <- [true, false]
    ],
    ?assertEqual({ok, 3, 2, []}, hb_websocket_nif:slot_mark(Id)),
    ?assertEqual(Before, count(<<"publications">>)).

events_without_an_audience_are_published() ->
    ok = dev_websocket:start(#{history_bytes => 0}),
    ?assertNot(hb_websocket_nif:has_audience()),
    Id = begun(0),
    Before = count(<<"publications">>),
    ?assertEqual(ok, hb_websocket_nif:publish_slot(Id, 0, 0, events([1]), true)),
    ?assertEqual(ok, hb_websocket_nif:publish_slot_gap(Id, 1, 1, withheld)),
    ?assertEqual(Before + 1, count(<<"publications">>)).

%%% Gaps.

gaps_move_the_mark_and_leave_holes() ->
    Id = begun(4),
    Client = fresh_server:client(["process=", Id]),
    Names = [<<"slot_gaps_", Name/binary>> || Name <- [<<"not_cached">>, <<"withheld">>, <<"not_followed">>]],
    Before = [count(Name) || Name <- Names],
    ?assertEqual(ok, hb_websocket_nif:publish_slot_gap(Id, 4, 6, not_cached)),
    ?assertEqual({ok, 7, 0, [{4, 6}]}, hb_websocket_nif:slot_mark(Id)),
    [
        ?assertEqual({error, {expected, 7, 0}}, hb_websocket_nif:publish_slot_gap(Id, From, 9, Reason))
     || From <- [4, 6, 8], Reason <- [not_cached, withheld, not_followed]
    ],
    ?assertEqual(ok, hb_websocket_nif:publish_slot_gap(Id, 7, 8, not_followed)),
    ?assertEqual(ok, hb_websocket_nif:publish_slot(Id, 9, 0, events([1]), false)),
    ?assertEqual(ok, hb_websocket_nif:publish_slot_gap(Id, 9, 9, withheld)),
    ?assertEqual({ok, 10, 0, [{4, 6}, {9, 9}]}, hb_websocket_nif:slot_mark(Id)),
    %% Missing slots can come later, in parts or whole. Slots that were not followed cannot.
    ?assertEqual({error, {expected, 5, 0}}, hb_websocket_nif:publish_slot(Id, 5, 1, events([9]), true)),
    ?assertEqual(ok, hb_websocket_nif:publish_slot(Id, 5, 0, events([2]), true)),
    ?assertEqual({ok, 10, 0, [{4, 4}, {6, 6}, {9, 9}]}, hb_websocket_nif:slot_mark(Id)),
    ?assertEqual(ok, hb_websocket_nif:publish_slot(Id, 9, 0, events([1, 3]), true)),
    ?assertEqual({dropped, repeated}, hb_websocket_nif:publish_slot(Id, 5, 0, events([9]), true)),
    ?assertEqual({dropped, repeated}, hb_websocket_nif:publish_slot(Id, 8, 0, events([9]), true)),
    ?assertEqual({ok, 10, 0, [{4, 4}, {6, 6}]}, hb_websocket_nif:slot_mark(Id)),
    ?assertEqual(
        [
            {gap, <<"not_cached">>, 4, 6, 3}, {gap, <<"not_followed">>, 7, 8, 2}, {Id, 9, 1},
            {gap, <<"withheld">>, 9, 9, 1}, {Id, 5, 2}, {Id, 9, 3}
        ],
        [told(ws_client:recv_json(Client)) || _ <- lists:seq(1, 6)]
    ),
    ?assertEqual([3, 1, 2], [count(Name) - Count || {Name, Count} <- lists:zip(Names, Before)]).

gaps_are_sent_in_every_format() ->
    Id = begun(0),
    {ok, #{uri := Uri}} = dev_websocket:info(),
    Query = ["process=", Id],
    Json = fresh_server:client(Query),
    Raw = ws_client:connect_raw(Uri, Query),
    ok = hb_websocket_nif:publish_slot_gap(Id, 0, 0, not_cached),
    ok = hb_websocket_nif:publish_slot(Id, 1, 0, events([1]), true),
    Gap = #{<<"seq">> := Seq, <<"timestamp">> := Timestamp} = ws_client:recv_json(Json),
    ?assertEqual(
        #{
            <<"type">> => <<"gap">>, <<"reason">> => <<"not_cached">>, <<"process">> => Id,
            <<"from_slot">> => 0, <<"to_slot">> => 0, <<"dropped">> => 1
        },
        maps:without([<<"seq">>, <<"timestamp">>], Gap)
    ),
    ?assert(Timestamp > 1600000000000),
    ?assertMatch(#{<<"seq">> := Next} when Next =:= Seq + 1, ws_client:recv_json(Json)),
    %% The raw format has data alone.
    ?assertEqual(#{<<"n">> => 1}, ws_client:recv_json(Raw)),
    %% A later client gets it from the history.
    Later = fresh_server:client([Query, "&last=2"]),
    ?assertEqual(Gap, ws_client:recv_json(Later)).

gaps_of_a_limit_need_no_mark() ->
    Id = process(),
    Client = fresh_server:client(["process=", Id]),
    Before = count(<<"tails_limit">>),
    ?assertEqual(ok, hb_websocket_nif:publish_slot_gap(Id, undefined, undefined, limit)),
    ?assertEqual(none, hb_websocket_nif:slot_mark(Id)),
    Gap = ws_client:recv_json(Client),
    ?assertEqual(
        #{<<"type">> => <<"gap">>, <<"reason">> => <<"limit">>, <<"process">> => Id, <<"dropped">> => 0},
        maps:without([<<"seq">>, <<"timestamp">>], Gap)
    ),
    {ok, 5, 0, []} = hb_websocket_nif:set_slot_mark(Id, 5),
    ?assertEqual(ok, hb_websocket_nif:publish_slot_gap(Id, undefined, undefined, limit)),
    ?assertEqual({ok, 5, 0, []}, hb_websocket_nif:slot_mark(Id)),
    ?assertEqual(Before + 2, count(<<"tails_limit">>)).

%%% Bounds.

lists_have_at_most_256_events() ->
    Id = begun(0),
    Is = fun(Expected, Part, Count) ->
        Events = lists:duplicate(Count, {a, #{}}),
        ?assertEqual({Count, Expected}, {Count, hb_websocket_nif:publish_slot(Id, 0, Part, Events, false)}),
        ?assertEqual({Count, Expected}, {Count, hb_websocket_nif:publish_slot_large(Id, 0, Part, Events, false)})
    end,
    Is(ok, 0, 255),
    Is(ok, 255, 256),
    Malformed = count(<<"dropped_malformed">>),
    Is({dropped, malformed}, 511, 257),
    Is({dropped, malformed}, 511, 100000),
    ?assertEqual(Malformed + 4, count(<<"dropped_malformed">>)),
    ?assertEqual({ok, 0, 511, []}, hb_websocket_nif:slot_mark(Id)).

lists_have_at_most_4_mib() ->
    ok = dev_websocket:start(#{max_message_bytes => 8 * 1024 * 1024, publish_queue_bytes => 256 * 1024 * 1024}),
    Id = begun(0),
    %% A text takes two bytes more.
    Text = fun(Bytes) -> {binary:copy(<<"a">>, Bytes - 2), #{}} end,
    Half = ?BYTES div 2,
    Is = fun(Expected, Slot, Events) ->
        ?assertEqual(Expected, hb_websocket_nif:publish_slot_large(Id, Slot, 0, Events, true))
    end,
    Is(ok, 0, [Text(Half), Text(Half - 1)]),
    Is(ok, 1, [Text(Half), Text(Half)]),
    Is({dropped, malformed}, 2, [Text(Half), Text(Half + 1)]),
    Is({dropped, malformed}, 2, [Text(Half + 1), Text(Half), Text(10)]),
    Is({dropped, malformed}, 2, lists:duplicate(256, Text(Half))),
    %% One alone may be as large as any message.
    Is(ok, 2, [Text(?BYTES)]),
    Is(ok, 3, [Text(?BYTES + 1)]),
    ?assertEqual({ok, 4, 0, []}, hb_websocket_nif:slot_mark(Id)).

the_inline_budget_is_that_of_all_events() ->
    Id = begun(1),
    Event = {binary:copy(<<"a">>, 30000), #{}},
    ?assertEqual(large, hb_websocket_nif:publish_slot(Id, 1, 0, [Event, Event, Event], true)),
    ?assertEqual({ok, 1, 0, []}, hb_websocket_nif:slot_mark(Id)),
    ?assertEqual(ok, hb_websocket_nif:publish_slot(Id, 1, 0, [Event, Event], true)),
    Wide = fun(Nodes) -> [{lists:duplicate(Nodes - 2, 1), #{}}] end,
    ?assertEqual(ok, hb_websocket_nif:publish_slot(Id, 2, 0, Wide(1024), true)),
    ?assertEqual(large, hb_websocket_nif:publish_slot(Id, 3, 0, Wide(1025), true)),
    ?assertEqual(ok, hb_websocket_nif:publish_slot_large(Id, 3, 0, Wide(1025), true)).

an_event_beyond_the_budget_names_its_path() ->
    ok = dev_websocket:start(#{max_message_bytes => 1000}),
    Id = begun(0),
    Client = fresh_server:client(["process=", Id]),
    Origin = #{path => <<"/get">>},
    Large = #{<<"data">> => binary:copy(<<"a">>, 2000)},
    ?assertEqual(ok, hb_websocket_nif:publish_slot_large(Id, 0, 0, [{Large, Origin}, {#{<<"n">> => 1}, #{}}], true)),
    Stub = #{<<"$omitted">> => <<"too_large">>, <<"$get">> => <<"/get">>},
    ?assertEqual([Stub, #{<<"n">> => 1}], [Data || #{<<"data">> := Data} <- ws_client:messages(Client, 2)]),
    %% An origin has no stand-in.
    Long = [{a, #{path => binary:copy(<<"a">>, 1001)}}],
    ?assertEqual({dropped, malformed}, hb_websocket_nif:publish_slot_large(Id, 1, 0, Long, true)).

bad_arguments_are_named() ->
    Id = begun(1),
    Is = fun(Beginning, Answer) ->
        Size = byte_size(Beginning),
        ?assertMatch({error, {bad_argument, <<Beginning:Size/binary, _/binary>>}}, Answer)
    end,
    Publish = fun(Process, Slot, Part, Events, Last) ->
        Answer = hb_websocket_nif:publish_slot(Process, Slot, Part, Events, Last),
        ?assertEqual(Answer, hb_websocket_nif:publish_slot_large(Process, Slot, Part, Events, Last)),
        Answer
    end,
    lists:foreach(
        fun(Process) ->
            Is(<<"process must">>, hb_websocket_nif:slot_mark(Process)),
            Is(<<"process must">>, hb_websocket_nif:set_slot_mark(Process, 1)),
            Is(<<"process must">>, Publish(Process, 1, 0, [], true)),
            Is(<<"process must">>, hb_websocket_nif:publish_slot_gap(Process, 1, 1, not_cached))
        end,
        [a, "p", <<>>, <<1:7>>, binary:copy(<<"p">>, 256), 1]
    ),
    ?assertEqual(none, hb_websocket_nif:slot_mark(binary:copy(<<"p">>, 255))),
    lists:foreach(
        fun(Slot) ->
            Is(<<"slot must">>, hb_websocket_nif:set_slot_mark(Id, Slot)),
            Is(<<"slot must">>, Publish(Id, Slot, 0, [], true)),
            Is(<<"slot must">>, hb_websocket_nif:publish_slot_gap(Id, Slot, 1, not_cached)),
            Is(<<"slot must">>, hb_websocket_nif:publish_slot_gap(Id, 1, Slot, withheld))
        end,
        [-1, 1.0, <<"1">>, (1 bsl 64) - 1, 1 bsl 64, a, undefined]
    ),
    [Is(<<"part must">>, Publish(Id, 1, Part, [], true)) || Part <- [-1, 1.0, a, 1 bsl 64]],
    [Is(<<"is_last must">>, Publish(Id, 1, 0, [], Last)) || Last <- [1, yes, <<"true">>, undefined]],
    [
        Is(<<"events must">>, Publish(Id, 1, 0, Events, true))
     || Events <- [a, #{}, {}, [a], [{#{}}], [{#{}, #{}, #{}}], [{#{}, #{}} | a]]
    ],
    ?assertEqual({error, {bad_origin, no_such}}, Publish(Id, 1, 0, [{#{}, #{}}, {#{}, #{no_such => 1}}], true)),
    ?assertEqual({error, {bad_origin, not_a_map}}, Publish(Id, 1, 0, [{#{}, []}], true)),
    Is(<<"to must">>, hb_websocket_nif:publish_slot_gap(Id, 2, 1, not_cached)),
    [Is(<<"reason must">>, hb_websocket_nif:publish_slot_gap(Id, 1, 1, Reason)) || Reason <- [slow, <<"limit">>, 1]],
    [
        Is(<<"the slots of a gap">>, hb_websocket_nif:publish_slot_gap(Id, From, To, limit))
     || {From, To} <- [{1, 1}, {undefined, 1}, {1, undefined}]
    ],
    ?assertEqual({ok, 1, 0, []}, hb_websocket_nif:slot_mark(Id)).

%%% Without a server, and counts.

events_without_a_server_are_published_later() ->
    Id = begun(0),
    ok = dev_websocket:stop(),
    Before = count(<<"dropped_not_running">>),
    ?assertEqual({error, stopped}, hb_websocket_nif:publish_slot(Id, 0, 0, events([1]), true)),
    ?assertEqual({error, stopped}, hb_websocket_nif:publish_slot_large(Id, 0, 0, events([1]), true)),
    ?assertEqual({error, stopped}, hb_websocket_nif:publish_slot_gap(Id, 0, 0, not_cached)),
    ?assertEqual({error, stopped}, hb_websocket_nif:publish_slot_gap(Id, undefined, undefined, limit)),
    ?assertEqual({ok, 0, 0, []}, hb_websocket_nif:slot_mark(Id)),
    ?assertEqual(Before, count(<<"dropped_not_running">>)).

counts_are_those_of_their_names() ->
    lists:foreach(
        fun(Name) ->
            Before = count(atom_to_binary(Name, utf8)),
            ?assertEqual(ok, hb_websocket_nif:count_result(Name)),
            ?assertEqual(Before + 1, count(atom_to_binary(Name, utf8)))
        end,
        [exceptions, follow_failures, follow_slots, hints, hints_dropped, tail_probes, tail_read_failures, withheld]
    ),
    [?assertMatch({error, {bad_argument, _}}, hb_websocket_nif:count_result(Bad)) || Bad <- [tails, <<"hints">>, 1]],
    ?assertEqual(ok, hb_websocket_nif:set_tails(1000, 7, cache)),
    ?assertEqual({1000, 7}, {count(<<"tails">>), count(<<"tails_waiting">>)}),
    [
        ?assertMatch({error, {bad_argument, _}}, hb_websocket_nif:set_tails(Tails, Waiting, cache))
     || {Tails, Waiting} <- [{-1, 0}, {0, -1}, {a, 0}, {0, 1.0}, {1 bsl 64, 0}]
    ],
    ?assertEqual({1000, 7}, {count(<<"tails">>), count(<<"tails_waiting">>)}),
    ok = hb_websocket_nif:set_tails(0, 0, cache).

%%% Helpers.

%% @doc The id of a process that no other test knows.
process() ->
    base64url(crypto:hash(sha256, integer_to_binary(erlang:unique_integer([positive])))).

base64url(Bytes) ->
    << <<(case Character of $+ -> $-; $/ -> $_; _ -> Character end)>> || <<Character>> <= base64:encode(Bytes), Character =/= $= >>.

%% @doc A process that begins at a slot.
begun(Slot) ->
    Id = process(),
    {ok, Slot, 0, []} = hb_websocket_nif:set_slot_mark(Id, Slot),
    Id.

events(Numbers) ->
    [{#{<<"n">> => Number}, #{}} || Number <- Numbers].

%% @doc The fields that identify a frame.
told(#{<<"type">> := <<"gap">>, <<"reason">> := Reason, <<"from_slot">> := From, <<"to_slot">> := To, <<"dropped">> := Dropped}) ->
    {gap, Reason, From, To, Dropped};
told(#{<<"slot">> := Slot, <<"process">> := Id, <<"data">> := #{<<"n">> := N}}) ->
    {Id, Slot, N}.

changed() ->
    receive {websocket_interest, changed} -> ok after ?DEADLINE -> error(not_told) end.

%% @doc No message is on its way, because clients are answered after it is sent.
not_changed() ->
    receive {websocket_interest, changed} -> error(told) after 0 -> ok end.

flush() ->
    receive {websocket_interest, changed} -> flush() after 0 -> ok end.

%% @doc The interest, once it is in these processes. It changes at least once until then.
interest(Max) ->
    {ok, Wanted, Total, Others} = hb_websocket_nif:interest(Max),
    {[Id || {Id, _Since} <- Wanted], Total, Others}.

until_interest(Ids) ->
    case interest(100) of
        {Ids, _, _} = Interest -> Interest;
        _ -> changed(), until_interest(Ids)
    end.

dead(Pid) ->
    Monitor = monitor(process, Pid),
    receive {'DOWN', Monitor, process, _, _} -> ok end.

count(Name) ->
    maps:get(Name, hb_websocket_nif:stats()).
