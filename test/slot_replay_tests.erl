%%% @doc Slot replays: a client gets the slots of a process again from the node's cache, and
%%% then new ones, each once and in order.
-module(slot_replay_tests).
-include_lib("eunit/include/eunit.hrl").

slot_replay_test_() ->
    followed:cases(?MODULE, [
        past_slots_come_before_new_ones,
        a_replay_without_slots_is_live_at_once,
        the_frames_are_those_of_live_slots,
        subscriptions_choose_as_they_do_live
    ]).

-compile([export_all, nowarn_export_all]).

past_slots_come_before_new_ones(Store) ->
    Id = stand_in:process(Store, #{}),
    compute_all(Store, Id, 0, 9),
    Client = replay(Id, 4),
    ?assertEqual(lists:seq(4, 9), replayed(Client, 6)),
    ?assertMatch(#{<<"type">> := <<"live">>, <<"process">> := Id, <<"slot">> := 10, <<"seq">> := _}, ws_client:recv_json(Client)),
    compute_all(Store, Id, 10, 12),
    followed:results(Client, [10, 11, 12]),
    followed:nothing_comes(Client).

a_replay_without_slots_is_live_at_once(Store) ->
    Id = stand_in:process(Store, #{}),
    Empty = replay(Id, 0),
    ?assertMatch(#{<<"type">> := <<"live">>, <<"slot">> := 0}, ws_client:recv_json(Empty)),
    compute_all(Store, Id, 0, 2),
    followed:results(Empty, [0, 1, 2]),
    Ahead = replay(Id, 5),
    ?assertMatch(#{<<"type">> := <<"live">>, <<"slot">> := 5}, ws_client:recv_json(Ahead)),
    compute_all(Store, Id, 3, 6),
    followed:results(Ahead, [5, 6]),
    followed:results(Empty, [3, 4, 5, 6]).

the_frames_are_those_of_live_slots(Store) ->
    Id = stand_in:process(Store, #{}),
    Live = fresh_server:client(["process=", Id]),
    Results = #{
        <<"output">> => #{<<"body">> => <<"done">>},
        <<"outbox">> => #{<<"1">> => #{<<"action">> => <<"Credit-Notice">>}, <<"2">> => #{<<"n">> => 2}}
    },
    _ = stand_in:schedule(Store, Id, 0, #{signer => stand_in:id()}),
    _ = stand_in:compute(Store, Id, 0, Results),
    Expected = [maps:without([<<"seq">>, <<"timestamp">>], Frame) || Frame <- followed:frames(Live, 3)],
    Again = replay(Id, 0),
    Frames = followed:frames(Again, 3),
    ?assertEqual(Expected, [maps:without([<<"replayed">>, <<"timestamp">>], Frame) || Frame <- Frames]),
    ?assertEqual([true, true, true], [Flag || #{<<"replayed">> := Flag} <- Frames]),
    ?assertMatch(#{<<"type">> := <<"live">>, <<"slot">> := 1}, ws_client:recv_json(Again)).

subscriptions_choose_as_they_do_live(Store) ->
    Id = stand_in:process(Store, #{}),
    Messages = #{<<"1">> => #{<<"action">> => <<"Mint">>}, <<"2">> => #{<<"action">> => <<"Burn">>}},
    [stand_in:compute(Store, Id, Slot, #{<<"outbox">> => Messages}) || Slot <- [0, 1]],
    Client = fresh_server:client(["process=", Id, "&from-slot=0&template=%7B%22action%22:%22mint%22%7D&template=%7B%22action%22:%22Mint%22%7D"]),
    Frames = followed:frames(Client, 2),
    ?assertMatch([#{<<"data">> := #{<<"action">> := <<"Mint">>}}, #{<<"data">> := #{<<"action">> := <<"Mint">>}}], Frames),
    ?assertEqual([0, 1], followed:slots(Frames)),
    ?assertMatch(#{<<"type">> := <<"live">>, <<"slot">> := 2}, ws_client:recv_json(Client)),
    _ = stand_in:compute(Store, Id, 2, #{<<"outbox">> => Messages}),
    ?assertMatch([#{<<"data">> := #{<<"action">> := <<"Mint">>}, <<"slot">> := 2}], followed:frames(Client, 1)),
    followed:nothing_comes(Client).

%%% Helpers.

replay(Id, Slot) ->
    fresh_server:client(["process=", Id, "&from-slot=", integer_to_list(Slot)]).

%% @doc The slots of the next replayed results.
replayed(Client, Count) ->
    Frames = followed:frames(Client, Count),
    [Slot || #{<<"replayed">> := true, <<"slot">> := Slot, <<"data">> := #{<<"type">> := <<"result">>}} <- Frames].

compute_all(Store, Id, From, To) ->
    [stand_in:compute(Store, Id, Slot, #{<<"output">> => #{<<"n">> => Slot}}) || Slot <- lists:seq(From, To)],
    dev_websocket:hint(Id).
