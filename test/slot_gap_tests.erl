%%% @doc Slots that are missing, unreadable or refused: the time before a gap reports them, the
%%% gap itself, and slots that come later.
-module(slot_gap_tests).
-include_lib("eunit/include/eunit.hrl").

slot_gap_test_() ->
    followed:cases(?MODULE, [
        a_hole_is_reported_after_5_seconds_and_not_before,
        slots_of_a_hole_that_come_later_are_published,
        a_missing_slot_without_later_ones_is_no_hole,
        a_slot_far_ahead_that_was_never_scheduled_is_no_later_one,
        a_refused_slot_is_read_again_for_2_seconds,
        a_refused_slot_that_becomes_right_is_published,
        a_refused_process_refuses_all_its_slots,
        an_unreadable_slot_is_reported_after_5_seconds,
        an_unreadable_slot_does_not_stop_later_ones,
        gaps_are_sent_to_subscribers_and_counted
    ]).

-compile([export_all, nowarn_export_all]).

a_hole_is_reported_after_5_seconds_and_not_before(Store) ->
    {Id, Cache, Tail} = tail(Store, 2),
    [compute(Store, Id, Slot) || Slot <- [4, 5]],
    %% Slots 2 and 3 are missing. It is looked for later ones every 5 seconds.
    {none, Searched} = dev_websocket_tail:probe(Tail, Cache, 4_999),
    {none, Found} = dev_websocket_tail:probe(Searched, Cache, 5_000),
    {none, Waiting} = dev_websocket_tail:probe(Found, Cache, 9_999),
    ?assertMatch({{gap, 2, 3, not_cached, hole}, _}, dev_websocket_tail:probe(Waiting, Cache, 10_000)),
    %% The one that was missing is there in time.
    compute(Store, Id, 2),
    ?assertMatch({read, _}, dev_websocket_tail:probe(Waiting, Cache, 10_000)).

slots_of_a_hole_that_come_later_are_published(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = follow(Id),
    [compute(Store, Id, Slot) || Slot <- [0, 1]],
    followed:results(Client, [0, 1]),
    [compute(Store, Id, Slot) || Slot <- [4, 5]],
    ?assertMatch(
        [#{<<"type">> := <<"gap">>, <<"reason">> := <<"not_cached">>, <<"from_slot">> := 2, <<"to_slot">> := 3, <<"dropped">> := 2}],
        followed:frames(Client, 1)
    ),
    followed:results(Client, [4, 5]),
    compute(Store, Id, 2),
    dev_websocket:hint(Id),
    followed:results(Client, [2]),
    [compute(Store, Id, Slot) || Slot <- [3, 6]],
    dev_websocket:hint(Id),
    ?assertEqual([3, 6], lists:sort(followed:slots(followed:frames(Client, 2)))),
    ?assertMatch({ok, 7, 0, []}, hb_websocket_nif:slot_mark(Id)).

a_missing_slot_without_later_ones_is_no_hole(Store) ->
    {_, Cache, Tail} = tail(Store, 2),
    {none, First} = dev_websocket_tail:probe(Tail, Cache, 5_000),
    ?assertMatch({none, _}, dev_websocket_tail:probe(First, Cache, 3_600_000)).

a_slot_far_ahead_that_was_never_scheduled_is_no_later_one(Store) ->
    {Id, Cache, Tail} = tail(Store, 2),
    compute(Store, Id, 4),
    #{<<"table">> := Table} = Store,
    ets:delete(Table, <<"assignments/", Id/binary, "/4">>),
    {none, First} = dev_websocket_tail:probe(Tail, Cache, 5_000),
    {none, Second} = dev_websocket_tail:probe(First, Cache, 10_000),
    ?assertMatch({none, _}, dev_websocket_tail:probe(Second, Cache, 15_000)).

a_refused_slot_is_read_again_for_2_seconds(Store) ->
    {_, Cache, Tail} = tail(Store, 2),
    Refused = {withheld, 2, definition},
    {none, First} = dev_websocket_tail:read_done(Tail, Refused, unknown, Cache, 1_000),
    %% Not at once, but soon.
    {none, First} = dev_websocket_tail:probe(First, Cache, 1_399),
    {none, Second} = dev_websocket_tail:read_done(First, Refused, unknown, Cache, 2_999),
    ?assertMatch({{gap, 2, 2, withheld, definition}, _}, dev_websocket_tail:read_done(Second, Refused, unknown, Cache, 3_000)),
    %% Another slot has its own two seconds.
    ?assertMatch({none, _}, dev_websocket_tail:read_done(Second, {withheld, 3, definition}, unknown, Cache, 3_000)).

a_refused_slot_that_becomes_right_is_published(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = follow(Id),
    _ = stand_in:compute(Store, Id, 0, #{}),
    _ = stand_in:forge(Store, Id, 0, #{<<"at-slot">> => <<"9">>}),
    followed:until(fun() ->
        case sys:get_state(followed:tails()) of
            #{tails := #{Id := #{retry := {0, _, _}}}} -> true;
            _ -> false
        end
    end),
    _ = stand_in:forge(Store, Id, 0, #{<<"at-slot">> => <<"0">>}),
    followed:results(Client, [0]).

a_refused_process_refuses_all_its_slots(Store) ->
    Id = stand_in:process(Store, #{<<"forged">> => 1}),
    Client = follow(Id),
    [compute(Store, Id, Slot) || Slot <- lists:seq(0, 9)],
    ?assertMatch(
        [#{<<"type">> := <<"gap">>, <<"reason">> := <<"withheld">>, <<"from_slot">> := 0, <<"to_slot">> := 9}],
        followed:frames(Client, 1)
    ).

an_unreadable_slot_is_reported_after_5_seconds(Store) ->
    {_, Cache, Tail} = tail(Store, 2),
    Unreadable = {unreadable, 2, not_readable},
    {none, First} = dev_websocket_tail:read_done(Tail, Unreadable, unknown, Cache, 1_000),
    {none, Second} = dev_websocket_tail:read_done(First, Unreadable, unknown, Cache, 5_999),
    ?assertMatch({{gap, 2, 2, not_cached, not_readable}, _}, dev_websocket_tail:read_done(Second, Unreadable, unknown, Cache, 6_000)).

%% The state passes the checks, and a part of its results cannot be loaded.
an_unreadable_slot_does_not_stop_later_ones(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = follow(Id),
    Server = followed:tails(),
    ok = sys:suspend(Server),
    Output = #{<<"body">> => Id},
    _ = stand_in:compute(Store, Id, 0, #{<<"output">> => Output}),
    #{<<"table">> := Table} = Store,
    ets:delete(Table, stand_in:message_id(Output)),
    [compute(Store, Id, Slot) || Slot <- [1, 2]],
    ok = sys:resume(Server),
    ?assertMatch(
        [#{<<"type">> := <<"gap">>, <<"reason">> := <<"not_cached">>, <<"from_slot">> := 0, <<"to_slot">> := 0}],
        followed:frames(Client, 1)
    ),
    followed:results(Client, [1, 2]),
    compute(Store, Id, 3),
    followed:results(Client, [3]),
    _ = stand_in:write(Store, Output),
    dev_websocket:hint(Id),
    [#{<<"data">> := Data}] = followed:results(Client, [0]),
    ?assertMatch(#{<<"output">> := Output}, Data).

gaps_are_sent_to_subscribers_and_counted(Store) ->
    Id = stand_in:process(Store, #{}),
    [Json, Other] = [follow(Id), fresh_server:client("topic=*")],
    Before = followed:count(<<"slot_gaps_withheld">>),
    _ = stand_in:compute(Store, Id, 0, #{}),
    _ = stand_in:forge(Store, Id, 0, #{<<"authority">> => stand_in:id()}),
    compute(Store, Id, 1),
    [
        ?assertMatch(
            [#{<<"type">> := <<"gap">>, <<"reason">> := <<"withheld">>, <<"process">> := Id, <<"from_slot">> := 0, <<"to_slot">> := 0, <<"seq">> := _}],
            followed:frames(Client, 1)
        )
     ||
        Client <- [Json, Other]
    ],
    followed:results(Json, [1]),
    ?assertEqual(Before + 1, followed:count(<<"slot_gaps_withheld">>)).

%%% Helpers.

follow(Id) ->
    Client = fresh_server:client("process=" ++ binary_to_list(Id)),
    followed:until(fun() ->
        #{tails := Tails} = sys:get_state(followed:tails()),
        case Tails of
            #{Id := Tail} -> dev_websocket_tail:next(Tail) =:= 0;
            #{} -> false
        end
    end),
    Client.

compute(Store, Id, Slot) -> stand_in:compute(Store, Id, Slot, #{}).

%% @doc A tail of its own, that nothing but the test moves: at time 0, before this slot.
tail(Store, Next) ->
    Id = stand_in:process(Store, #{}),
    [compute(Store, Id, Slot) || Slot <- lists:seq(0, Next - 1)],
    {ok, Cache} = dev_websocket_cache:open(stand_in:options(Store)),
    {ok, Next, 0, []} = hb_websocket_nif:set_slot_mark(Id, Next),
    {Id, Cache, dev_websocket_tail:new(Id, Next, 0)}.
