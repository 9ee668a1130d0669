%%% @doc Followed processes: subscribers get each slot of the node's cache, once and in order,
%%% also after crashes.
-module(tails_tests).
-include_lib("eunit/include/eunit.hrl").

tails_test_() ->
    followed:cases(?MODULE, [
        slots_come_as_they_are_computed,
        a_subscriber_gets_what_comes_after_the_newest_slot,
        slots_scheduled_after_the_subscription_are_published,
        a_process_without_slots_begins_with_slot_0,
        slots_that_are_written_in_any_order_come_in_order,
        hints_save_time_and_publish_nothing,
        subscribers_of_tags_get_what_hints_lead_to,
        a_million_hints_are_bounded,
        a_crash_of_the_server_repeats_and_loses_nothing,
        a_crash_of_a_reader_repeats_and_loses_nothing,
        a_restart_of_the_engine_loses_nothing,
        slots_with_thousands_of_messages_come_whole,
        a_full_queue_holds_the_reader_back,
        processes_in_the_setting_tail_are_followed,
        a_process_beyond_max_tails_gets_a_limit_gap,
        a_store_that_fails_is_read_later,
        a_first_slot_that_cannot_be_set_is_tried_again_later,
        an_id_that_cannot_be_read_is_searched_with_pauses,
        a_store_that_hangs_delays_no_other_process,
        a_process_followed_again_reports_missed_slots
    ]).

-compile([export_all, nowarn_export_all]).

slots_come_as_they_are_computed(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = follow(Id),
    until_followed(Id, 0),
    Sender = stand_in:id(),
    lists:foreach(
        fun(Slot) ->
            _ = stand_in:schedule(Store, Id, Slot, #{signer => Sender}),
            _ = compute(Store, Id, Slot, #{
                <<"output">> => #{<<"body">> => <<"done">>},
                <<"error">> => <<"none">>,
                <<"data">> => <<"text">>,
                <<"raw">> => <<"never">>,
                <<"json">> => #{<<"body">> => <<"never">>},
                <<"outbox">> => #{<<"1">> => #{<<"action">> => <<"Credit-Notice">>, <<"target">> => <<"bob">>}}
            }),
            [#{<<"data">> := Result} = First] = followed:results(Client, [Slot]),
            ?assertMatch(
                #{
                    <<"process">> := Id, <<"slot">> := Slot, <<"outbox-count">> := 1, <<"sender">> := Sender,
                    <<"output">> := #{<<"body">> := <<"done">>}, <<"error">> := <<"none">>, <<"data">> := <<"text">>,
                    <<"results-id">> := <<_:43/binary>>, <<"state-id">> := <<_:43/binary>>
                },
                Result
            ),
            ?assertNot(is_map_key(<<"raw">>, Result) orelse is_map_key(<<"json">>, Result)),
            Path = <<"/", Id/binary, "~process@1.0/compute&slot=", (integer_to_binary(Slot))/binary>>,
            ?assertMatch(#{<<"process">> := Id, <<"path">> := Path, <<"assignment">> := <<_:43/binary>>}, First),
            ?assertEqual(
                [<<"process:", Id/binary>>, <<"sender:", Sender/binary>>, <<"type:result">>],
                lists:sort([Topic || Topic <- maps:get(<<"topics">>, First), not lists:member(Topic, [<<"error:none">>])])
            ),
            [#{<<"data">> := Message} = Second] = followed:frames(Client, 1),
            ?assertMatch(#{<<"action">> := <<"Credit-Notice">>, <<"from">> := Id, <<"process">> := Id}, Message),
            Place = <<Path/binary, "/results/outbox/1">>,
            ?assertMatch(#{<<"path">> := Place, <<"from">> := [Id], <<"slot">> := Slot}, Second),
            ?assert(lists:member(<<"from:", Id/binary>>, maps:get(<<"topics">>, Second)))
        end,
        [0, 1, 2]
    ),
    followed:nothing_comes(Client).

a_subscriber_gets_what_comes_after_the_newest_slot(Store) ->
    Id = stand_in:process(Store, #{}),
    compute_all(Store, Id, 0, 9),
    Client = follow(Id),
    until_followed(Id, 10),
    compute_all(Store, Id, 10, 12),
    followed:results(Client, [10, 11, 12]),
    %% A second one begins where the first one is.
    Second = follow(Id),
    compute_all(Store, Id, 13, 13),
    followed:results(Client, [13]),
    followed:results(Second, [13]).

%% Slots that were scheduled after the client's first frame come, however late the probe is.
slots_scheduled_after_the_subscription_are_published(Store) ->
    Id = stand_in:process(Store, #{}),
    Old = erlang:system_time(millisecond) - 5_000,
    [stand_in:schedule(Store, Id, Slot, #{timestamp => Old}) || Slot <- lists:seq(0, 3)],
    compute_all(Store, Id, 0, 2),
    Server = followed:tails(),
    ok = sys:suspend(Server),
    Client = follow(Id),
    compute_all(Store, Id, 3, 6),
    ok = sys:resume(Server),
    followed:results(Client, [4, 5, 6]),
    followed:nothing_comes(Client).

a_process_without_slots_begins_with_slot_0(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = follow(Id),
    until_followed(Id, 0),
    compute_all(Store, Id, 0, 150),
    followed:results(Client, lists:seq(0, 150)),
    %% So does one that the node does not know yet.
    Unknown = stand_in:id(),
    Waiting = follow(Unknown),
    until_followed(Unknown, 0),
    followed:nothing_comes(Waiting).

slots_that_are_written_in_any_order_come_in_order(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = follow(Id),
    until_followed(Id, 0),
    _ = rand:seed(exsss, {1, 2, 3}),
    Slots = [Slot || {_, Slot} <- lists:sort([{rand:uniform(), Slot} || Slot <- lists:seq(0, 40)])],
    Before = followed:count(<<"slot_gaps_not_cached">>),
    [begin _ = compute(Store, Id, Slot, #{}), dev_websocket:hint(Id) end || Slot <- Slots],
    followed:results(Client, lists:seq(0, 40)),
    ?assertEqual(Before, followed:count(<<"slot_gaps_not_cached">>)).

hints_save_time_and_publish_nothing(Store) ->
    ok = dev_websocket:start(#{tail_interval => 60_000}),
    Id = stand_in:process(Store, #{}),
    Client = follow(Id),
    until_followed(Id, 0),
    compute_all(Store, Id, 0, 0),
    %% As a hook, as a device of a stack, and from Erlang.
    Handler = #{<<"device">> => <<"websocket@1.0">>},
    Response = fun(Path) -> #{<<"request">> => #{<<"path">> => Path}, <<"body">> => #{<<"at-slot">> => 99, <<"results">> => #{}}} end,
    Forged = Response(<<"/", Id/binary, "~process@1.0/compute&slot=99">>),
    ?assertEqual({ok, Forged}, dev_websocket:response(Handler, Forged, #{})),
    followed:results(Client, [0]),
    compute_all(Store, Id, 1, 1),
    State = #{<<"process">> => #{<<"commitments">> => #{Id => #{<<"committer">> => <<"x">>}}}, <<"at-slot">> => 99},
    ?assertEqual({ok, State}, dev_websocket:compute(State, #{<<"slot">> => 99}, #{})),
    followed:results(Client, [1]),
    compute_all(Store, Id, 2, 2),
    ?assertEqual(ok, dev_websocket:hint(Id)),
    followed:results(Client, [2]),
    [?assertEqual(ok, dev_websocket:hint(Odd)) || Odd <- [<<>>, <<"x">>, 5, #{}, [Id], binary:copy(<<"x">>, 44)]],
    followed:nothing_comes(Client).

subscribers_of_tags_get_what_hints_lead_to(Store) ->
    Client = fresh_server:client("topic=action:Credit-Notice"),
    Id = stand_in:process(Store, #{}),
    followed:until(fun() -> dev_websocket_request:are_hints_wanted() end),
    %% Scheduled a moment ago, and a long time ago.
    _ = stand_in:schedule(Store, Id, 0, #{timestamp => 1000}),
    Notice = #{<<"outbox">> => #{<<"1">> => #{<<"action">> => <<"Credit-Notice">>}}},
    [compute(Store, Id, Slot, Notice) || Slot <- [0, 1, 2]],
    ok = dev_websocket:hint(Id),
    ?assertEqual([1, 2], followed:slots(followed:frames(Client, 2))),
    _ = compute(Store, Id, 3, Notice),
    ?assertEqual([3], followed:slots(followed:frames(Client, 1))),
    %% Without a subscriber hints have no effect.
    ok = ws_client:close(Client),
    followed:until(fun() -> {ok, [], 0, false} =:= hb_websocket_nif:interest(5) end).

a_million_hints_are_bounded(_Store) ->
    Client = fresh_server:client("topic=*"),
    followed:until(fun() -> dev_websocket_request:are_hints_wanted() end),
    Server = followed:tails(),
    lists:foreach(
        fun(N) ->
            ok = dev_websocket:hint(<<(integer_to_binary(1_000_000_000 + N))/binary, "-abcdefghijklmnopqrstuvwxyz012345">>),
            N rem 10_000 =:= 0 andalso ?assert(element(2, process_info(Server, message_queue_len)) < 1000)
        end,
        lists:seq(1, 1_000_000)
    ),
    _ = followed:tails(),
    ?assert(followed:count(<<"tails">>) =< 64),
    ?assert(followed:count(<<"hints_dropped">>) > 0),
    followed:nothing_comes(Client).

a_crash_of_the_server_repeats_and_loses_nothing(Store) ->
    [Busy, Fresh] = [stand_in:process(Store, #{}) || _ <- [1, 2]],
    compute_all(Store, Busy, 0, 4),
    [Client, Other] = [follow(Id) || Id <- [Busy, Fresh]],
    until_followed(Busy, 5),
    until_followed(Fresh, 0),
    lists:foreach(
        fun(Slot) ->
            compute_all(Store, Busy, Slot, Slot),
            Slot rem 7 =:= 0 andalso kill(followed:tails())
        end,
        lists:seq(5, 60)
    ),
    compute_all(Store, Fresh, 0, 2),
    followed:results(Client, lists:seq(5, 60)),
    followed:results(Other, [0, 1, 2]),
    followed:nothing_comes(Client),
    ?assertEqual(0, followed:count(<<"panics">>)).

a_crash_of_a_reader_repeats_and_loses_nothing(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = follow(Id),
    until_followed(Id, 0),
    Test = self(),
    %% Every hundredth call of the store kills the reader that made it.
    Server = followed:tails(),
    Asked = counters:new(1, []),
    stand_in:fault(Store, fun() ->
        ok = counters:add(Asked, 1, 1),
        case counters:get(Asked, 1) rem 100 of
            0 when self() =/= Server -> Test ! ended, exit(kill);
            _ -> ok
        end
    end),
    Messages = maps:from_list([{integer_to_binary(N), #{<<"n">> => N}} || N <- lists:seq(1, 30)]),
    [compute(Store, Id, Slot, #{<<"outbox">> => Messages}) || Slot <- lists:seq(0, 5)],
    receive ended -> ok end,
    stand_in:fault(Store, fun() -> ok end),
    Frames = followed:frames(Client, 6 * 31),
    ?assertEqual([Slot || Slot <- lists:seq(0, 5), _ <- lists:seq(0, 30)], followed:slots(Frames)),
    ?assertEqual(
        lists:append([lists:seq(1, 30) || _ <- lists:seq(0, 5)]),
        [N || #{<<"data">> := #{<<"n">> := N}} <- Frames]
    ),
    followed:nothing_comes(Client).

a_restart_of_the_engine_loses_nothing(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = follow(Id),
    until_followed(Id, 0),
    compute_all(Store, Id, 0, 1),
    followed:results(Client, [0, 1]),
    ok = dev_websocket:stop(),
    compute_all(Store, Id, 2, 3),
    ok = dev_websocket:start(#{tail_interval => 20}),
    %% Slots without an audience are kept, and a returning client asks for them.
    Again = fresh_server:client("process=" ++ binary_to_list(Id) ++ "&last=10"),
    followed:until(fun() -> {ok, 4, 0, []} =:= hb_websocket_nif:slot_mark(Id) end),
    compute_all(Store, Id, 4, 4),
    Slots = slots_until(Again, 4),
    ?assertEqual(lists:seq(2, 4), Slots).

slots_with_thousands_of_messages_come_whole(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = follow(Id),
    until_followed(Id, 0),
    Count = 3000,
    Messages = maps:from_list([{integer_to_binary(N), #{<<"n">> => N}} || N <- lists:seq(1, Count)]),
    _ = compute(Store, Id, 0, #{<<"outbox">> => Messages}),
    Frames = followed:frames(Client, Count + 1),
    ?assertMatch(#{<<"data">> := #{<<"outbox-count">> := Count}}, hd(Frames)),
    ?assertEqual(lists:seq(1, Count), [N || #{<<"data">> := #{<<"n">> := N}} <- tl(Frames)]).

a_full_queue_holds_the_reader_back(Store) ->
    ok = dev_websocket:start(#{publish_queue_bytes => 65_536, send_buffer_bytes => 64 * 1024 * 1024}),
    Id = stand_in:process(Store, #{}),
    Client = follow(Id),
    until_followed(Id, 0),
    Large = binary:copy(<<"x">>, 40_000),
    Messages = maps:from_list([{integer_to_binary(N), #{<<"n">> => N, <<"body">> => Large}} || N <- lists:seq(1, 40)]),
    [compute(Store, Id, Slot, #{<<"outbox">> => Messages}) || Slot <- lists:seq(0, 3)],
    Frames = followed:frames(Client, 4 * 41),
    ?assertEqual([Slot || Slot <- lists:seq(0, 3), _ <- lists:seq(0, 40)], followed:slots(Frames)),
    ok = dev_websocket:start(#{publish_queue_bytes => 64 * 1024 * 1024}).

processes_in_the_setting_tail_are_followed(Store) ->
    Id = stand_in:process(Store, #{}),
    ok = dev_websocket:start(#{tail => [Id]}),
    until_followed(Id, 0),
    compute_all(Store, Id, 0, 2),
    followed:until(fun() -> {ok, 3, 0, []} =:= hb_websocket_nif:slot_mark(Id) end),
    ok = dev_websocket:start(#{tail => []}),
    ?assertMatch({error, _}, dev_websocket:start(#{tail => [<<"nonsense">>]})).

a_process_beyond_max_tails_gets_a_limit_gap(Store) ->
    ok = dev_websocket:start(#{max_tails => 2}),
    Ids = [stand_in:process(Store, #{}) || _ <- lists:seq(1, 3)],
    [compute_all(Store, Id, 0, 0) || Id <- Ids],
    Clients = [begin Client = follow(Id), settled(Id), Client end || Id <- Ids],
    [_, _, Last] = Clients,
    [Third] = lists:nthtail(2, Ids),
    ?assertMatch([#{<<"type">> := <<"gap">>, <<"reason">> := <<"limit">>, <<"process">> := Third}], followed:frames(Last, 1)),
    ?assert(followed:count(<<"tails_limit">>) > 0),
    [compute_all(Store, Id, 1, 1) || Id <- Ids],
    [followed:results(Client, [1]) || Client <- lists:sublist(Clients, 2)],
    ok = dev_websocket:start(#{max_tails => 1000}).

a_store_that_fails_is_read_later(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = follow(Id),
    until_followed(Id, 0),
    Failures = counters:new(1, []),
    stand_in:fault(Store, fun() -> ok = counters:add(Failures, 1, 1), error(broken) end),
    compute_all(Store, Id, 0, 3),
    followed:until(fun() -> counters:get(Failures, 1) > 5 end),
    stand_in:no_fault(Store),
    followed:results(Client, [0, 1, 2, 3]),
    ?assertEqual(0, followed:count(<<"panics">>)).

%% Anybody can name an id whose message is never whole, and the search for its slots reads it.
an_id_that_cannot_be_read_is_searched_with_pauses(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = follow(Id),
    until_followed(Id, 0),
    stand_in:tear(Store, fun
        (<<Read:43/binary, _/binary>>, _) when Read =:= Id -> error(broken);
        (_, Entry) -> Entry
    end),
    Failures = followed:count(<<"tail_read_failures">>),
    Server = followed:tails(),
    _ = sys:replace_state(Server, fun(#{tails := Tails} = State) ->
        #{Id := #{searched := Searched} = Tail} = Tails,
        State#{tails := Tails#{Id := Tail#{searched := Searched - 100_000}}}
    end),
    followed:until(fun() -> followed:count(<<"tail_read_failures">>) > Failures end),
    [Server ! {probe, Id, []} || _ <- lists:seq(1, 50)],
    Server = followed:tails(),
    ?assertEqual(Failures + 1, followed:count(<<"tail_read_failures">>)),
    #{tails := #{Id := #{pause := Pause}}} = sys:get_state(Server),
    ?assertEqual(10_000, Pause),
    stand_in:no_tear(Store),
    compute_all(Store, Id, 0, 1),
    followed:results(Client, [0, 1]).

%% @doc Without a pause the server would start one reader after the other, for as long as the
%% store fails. Only a failure with a pause is counted.
a_first_slot_that_cannot_be_set_is_tried_again_later(Store) ->
    Id = stand_in:process(Store, #{}),
    compute_all(Store, Id, 0, 3),
    Server = followed:tails(),
    stand_in:fault(Store, fun() -> self() =:= Server orelse error(broken) end),
    Failures = followed:count(<<"tail_read_failures">>),
    Client = follow(Id),
    followed:until(fun() -> followed:count(<<"tail_read_failures">>) > Failures + 1 end),
    stand_in:no_fault(Store),
    until_followed(Id, 4),
    compute_all(Store, Id, 4, 4),
    followed:results(Client, [4]),
    ?assertEqual(0, followed:count(<<"panics">>)).

a_store_that_hangs_delays_no_other_process(Store) ->
    Ids = [Stuck | Others] = [stand_in:process(Store, #{}) || _ <- lists:seq(1, 4)],
    Clients = [follow(Id) || Id <- Ids],
    [until_followed(Id, 0) || Id <- Ids],
    Test = self(),
    Server = followed:tails(),
    %% The reader of one process hangs in the store.
    State = compute(Store, Stuck, 0, #{}),
    At = <<State/binary, "/at-slot">>,
    stand_in:overwrite(Store, At, {hang, fun() ->
        case self() of
            Server -> ok;
            Reader ->
                Test ! {hangs, Reader},
                receive go_on -> stand_in:overwrite(Store, At, {value, <<"0">>}) end
        end
    end, <<"0">>}),
    Reader = receive {hangs, Pid} -> Pid end,
    [compute_all(Store, Id, 0, 5) || Id <- Others],
    [followed:results(Client, lists:seq(0, 5)) || Client <- tl(Clients)],
    Reader ! go_on,
    followed:results(hd(Clients), [0]).

a_process_followed_again_reports_missed_slots(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = follow(Id),
    until_followed(Id, 0),
    compute_all(Store, Id, 0, 1),
    followed:results(Client, [0, 1]),
    ok = ws_client:close(Client),
    followed:until(fun() -> {ok, [], 0, false} =:= hb_websocket_nif:interest(5) end),
    %% As after a minute without subscribers.
    _ = followed:restart_tails(),
    compute_all(Store, Id, 2, 4),
    Again = follow(Id),
    ?assertMatch(
        [#{
            <<"type">> := <<"gap">>, <<"reason">> := <<"not_followed">>, <<"process">> := Id,
            <<"from_slot">> := 2, <<"to_slot">> := 4, <<"dropped">> := 3
        }],
        followed:frames(Again, 1)
    ),
    compute_all(Store, Id, 5, 5),
    followed:results(Again, [5]).

%%% Helpers.

%% A slot that was scheduled in the millisecond of the subscription counts as new.
follow(Id) ->
    Computed = erlang:system_time(millisecond),
    followed:until(fun() -> erlang:system_time(millisecond) > Computed end),
    fresh_server:client("process=" ++ binary_to_list(Id)).

compute(Store, Id, Slot, Results) ->
    stand_in:compute(Store, Id, Slot, Results).

compute_all(Store, Id, From, To) ->
    [_ = compute(Store, Id, Slot, #{}) || Slot <- lists:seq(From, To)],
    ok.

%% @doc The process is followed, and this slot comes next.
until_followed(Id, Next) ->
    followed:until(fun() ->
        #{tails := Tails} = sys:get_state(followed:tails()),
        case Tails of
            #{Id := Tail} -> dev_websocket_tail:next(Tail) =:= Next;
            #{} -> false
        end
    end).

%% @doc The process has its place, or is put off.
settled(Id) ->
    followed:until(fun() ->
        case sys:get_state(followed:tails()) of
            #{tails := #{Id := #{retry := none, next := Next}}} -> Next =:= 1;
            #{tails := #{Id := #{retry := {no_place, _, _}}}} -> true;
            _ -> false
        end
    end).

slots_until(Client, Last) ->
    case ws_client:recv_json(Client) of
        #{<<"data">> := #{<<"type">> := <<"result">>}, <<"slot">> := Last} -> [Last];
        #{<<"data">> := #{<<"type">> := <<"result">>}, <<"slot">> := Slot} -> [Slot | slots_until(Client, Last)];
        _ -> slots_until(Client, Last)
    end.

kill(Pid) ->
    Monitor = monitor(process, Pid),
    true = exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end,
    followed:until(fun() -> is_pid(whereis(hb_websocket_tails)) end).
