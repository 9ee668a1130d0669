%%% @doc Slot replays: a client gets the slots of a process again from the node's cache, and
%%% then new ones, each once and in order.
-module(slot_replay_tests).
-include_lib("eunit/include/eunit.hrl").

slot_replay_test_() ->
    followed:cases(?MODULE, [
        past_slots_come_before_new_ones,
        a_replay_without_slots_is_live_at_once,
        the_frames_are_those_of_live_slots,
        subscriptions_choose_as_they_do_live,
        nodes_of_both_layouts_are_read,
        missing_slots_are_told_and_late_ones_come,
        slots_of_a_long_hole_are_one_gap,
        refused_slots_are_told,
        at_the_limit_of_max_replay_slots,
        slots_with_thousands_of_messages_come_whole,
        short_replays_do_not_wait_for_long_ones,
        crashes_of_the_server_repeat_and_lose_nothing,
        crashes_of_readers_repeat_and_lose_nothing,
        a_crash_of_the_tails_delays_a_replay,
        a_restarted_engine_replays_for_clients_that_return,
        events_replay_and_resume_within_a_slot,
        an_unknown_process_is_told,
        a_process_beyond_max_tails_is_told,
        a_store_that_fails_ends_a_replay,
        thousands_of_requests_delay_no_live_slot
    ]).

seam_test_() ->
    followed:cases(?MODULE, [each_slot_comes_once_at_every_seam], 600 + seams()).

-compile([export_all, nowarn_export_all]).

past_slots_come_before_new_ones(Store) ->
    Id = stand_in:process(Store, #{}),
    compute_all(Store, Id, 0, 9),
    Client = replay(Id, 4),
    ?assertEqual({lists:seq(4, 9), 10}, replayed(Client)),
    compute_all(Store, Id, 10, 12),
    followed:results(Client, [10, 11, 12]),
    followed:nothing_comes(Client),
    ?assertEqual(0, followed:count(<<"slot_replays">>)).

a_replay_without_slots_is_live_at_once(Store) ->
    Id = stand_in:process(Store, #{}),
    Empty = replay(Id, 0),
    ?assertEqual({[], 0}, replayed(Empty)),
    compute_all(Store, Id, 0, 2),
    followed:results(Empty, [0, 1, 2]),
    Ahead = replay(Id, 5),
    ?assertEqual({[], 5}, replayed(Ahead)),
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
    ?assertEqual({[], 1}, replayed(Again)).

subscriptions_choose_as_they_do_live(Store) ->
    Id = stand_in:process(Store, #{}),
    Messages = #{<<"1">> => #{<<"action">> => <<"Mint">>}, <<"2">> => #{<<"action">> => <<"Burn">>}},
    [stand_in:compute(Store, Id, Slot, #{<<"outbox">> => Messages}) || Slot <- [0, 1]],
    Client = fresh_server:client(["process=", Id, "&from-slot=0&template=%7B%22action%22:%22Mint%22%7D"]),
    Frames = followed:frames(Client, 2),
    ?assertMatch([#{<<"data">> := #{<<"action">> := <<"Mint">>}}, #{<<"data">> := #{<<"action">> := <<"Mint">>}}], Frames),
    ?assertEqual([0, 1], followed:slots(Frames)),
    ?assertEqual({[], 2}, replayed(Client)),
    _ = stand_in:compute(Store, Id, 2, #{<<"outbox">> => Messages}),
    ?assertMatch([#{<<"data">> := #{<<"action">> := <<"Mint">>}, <<"slot">> := 2}], followed:frames(Client, 1)),
    followed:nothing_comes(Client).

nodes_of_both_layouts_are_read(_Store) ->
    lists:foreach(
        fun({Name, Generation}) ->
            Store = stand_in:recorded(Name),
            #{roots := [<<"computed/", Id:43/binary>> | _]} = recorded:term("slot_store_" ++ Name),
            Opts = (stand_in:options(Store))#{address => cache_tests:address(Store, Id)},
            Slots = recorded_results_tests:slots_of(Name),
            ?assert(length(Slots) > 2),
            stand_in:beside({Generation, Opts}, fun() ->
                ok = dev_websocket_tails:use_options(Opts),
                Client = replay(Id, 0),
                Frames = until_live(Client),
                Results = [Slot || #{<<"slot">> := Slot, <<"data">> := #{<<"type">> := <<"result">>}} <- Frames],
                ?assertEqual({Name, Slots}, {Name, Results}),
                [?assertMatch(#{<<"replayed">> := true, <<"assignment">> := <<_:43/binary>>}, Frame) || Frame <- Frames]
            end)
        end,
        [{"ledger", june}, {"september", september}]
    ).

until_live(Client) ->
    case ws_client:recv_json(Client) of
        #{<<"type">> := <<"live">>} -> [];
        Frame -> [Frame | until_live(Client)]
    end.

%% Replays end while slots are computed. `SEAMS' is the number of replays.
each_slot_comes_once_at_every_seam(Store) ->
    Id = stand_in:process(Store, #{}),
    compute_all(Store, Id, 0, 0),
    Follower = fresh_server:client(["process=", Id]),
    Mark = fun() -> case hb_websocket_nif:slot_mark(Id) of {ok, Slot, _, _} -> Slot; none -> 0 end end,
    followed:until(fun() -> Mark() > 0 end),
    ok = gen_tcp:close(Follower),
    %% The next slot of each client. The slots that are computed lead by so many at most, or a
    %% replay would never catch up.
    Clients = [1, 2, 3, 4],
    Seen = counters:new(length(Clients), []),
    Over = counters:new(1, []),
    Test = self(),
    Publisher = spawn_link(fun() -> publish(Store, Id, 1, {Seen, Clients}, Over) end),
    [
        spawn_link(fun() ->
            [seam(Id, max(0, Mark() - N rem 5), {Seen, Client}) || N <- lists:seq(1, seams() div length(Clients))],
            counters:put(Seen, Client, 1 bsl 60),
            Test ! {done, Client}
        end)
     || Client <- Clients
    ],
    [receive {done, Client} -> ok end || Client <- Clients],
    counters:add(Over, 1, 1),
    Monitor = monitor(process, Publisher),
    receive {'DOWN', Monitor, process, Publisher, _} -> ok end,
    ?assertEqual(0, followed:count(<<"panics">>)).

seams() -> list_to_integer(os:getenv("SEAMS", "24")).

publish(Store, Id, Slot, {Seen, Clients}, Over) ->
    case counters:get(Over, 1) of
        0 ->
            followed:until(fun() ->
                Slot - lists:min([counters:get(Seen, Client) || Client <- Clients]) =< 12 orelse counters:get(Over, 1) > 0
            end),
            _ = stand_in:compute(Store, Id, Slot, #{<<"outbox">> => #{<<"1">> => #{<<"n">> => Slot}}}),
            _ = Slot rem 3 =:= 0 andalso dev_websocket:hint(Id),
            publish(Store, Id, Slot + 1, {Seen, Clients}, Over);
        _ ->
            ok
    end.

%% One replay, and five slots after it: first the result, then the message of each.
seam(Id, First, {Seen, Number}) ->
    counters:put(Seen, Number, First),
    Client = replay(Id, First),
    See = fun(Slot) -> counters:put(Seen, Number, Slot) end,
    Live = until_live(Client, First, See),
    [begin whole_slot(Client, Slot, false), See(Slot) end || Slot <- lists:seq(Live, Live + 4)],
    ws_client:abort(Client).

until_live(Client, Slot, See) ->
    See(Slot),
    case ws_client:recv_json(Client) of
        #{<<"type">> := <<"live">>, <<"slot">> := Slot} -> Slot;
        #{<<"replayed">> := true, <<"slot">> := 0} -> until_live(Client, 1, See);
        #{<<"replayed">> := true, <<"slot">> := Slot, <<"data">> := #{<<"outbox-count">> := 1}} ->
            ?assertMatch(#{<<"replayed">> := true, <<"data">> := #{<<"n">> := Slot}}, ws_client:recv_json(Client)),
            until_live(Client, Slot + 1, See);
        Other -> error({wanted, Slot, Other})
    end.

whole_slot(Client, Slot, IsReplayed) ->
    #{<<"slot">> := Slot, <<"data">> := #{<<"outbox-count">> := 1}} = Frame = ws_client:recv_json(Client),
    ?assertEqual(IsReplayed, is_map_key(<<"replayed">>, Frame)),
    #{<<"data">> := #{<<"n">> := Slot}} = ws_client:recv_json(Client).

missing_slots_are_told_and_late_ones_come(Store) ->
    Id = stand_in:process(Store, #{}),
    Follower = fresh_server:client(["process=", Id]),
    compute_all(Store, Id, 0, 1),
    followed:results(Follower, [0, 1]),
    compute_all(Store, Id, 4, 5),
    ?assertMatch(#{<<"reason">> := <<"not_cached">>, <<"from_slot">> := 2, <<"to_slot">> := 3}, ws_client:recv_json(Follower)),
    followed:results(Follower, [4, 5]),
    Client = replay(Id, 1),
    followed:results(Client, [1]),
    Gap = ws_client:recv_json(Client),
    ?assertMatch(#{<<"type">> := <<"gap">>, <<"reason">> := <<"not_cached">>, <<"process">> := Id, <<"replayed">> := true}, Gap),
    ?assertMatch(#{<<"from_slot">> := 2, <<"to_slot">> := 3, <<"dropped">> := 2}, Gap),
    ?assertNot(is_map_key(<<"seq">>, Gap)),
    ?assertEqual({[4, 5], 6}, replayed(Client)),
    compute_all(Store, Id, 2, 3),
    ?assertEqual([2, 3], lists:sort(followed:slots(followed:frames(Client, 2)))),
    compute_all(Store, Id, 6, 6),
    followed:results(Client, [6]).

%% The node keeps only newer slots, so none is below them.
slots_of_a_long_hole_are_one_gap(Store) ->
    Id = stand_in:process(Store, #{}),
    Follower = fresh_server:client(["process=", Id]),
    compute_all(Store, Id, 0, 30),
    followed:results(Follower, lists:seq(0, 30)),
    [stand_in:forget(Store, Id, Slot) || Slot <- lists:seq(0, 24)],
    Client = replay(Id, 3),
    First = ws_client:recv_json(Client),
    Last = case First of
        #{<<"to_slot">> := 24} -> First;
        %% The store is looked at again behind the first one.
        #{<<"from_slot">> := 3, <<"to_slot">> := 3} -> ws_client:recv_json(Client)
    end,
    ?assertMatch(#{<<"reason">> := <<"not_cached">>, <<"to_slot">> := 24}, Last),
    ?assertEqual({lists:seq(25, 30), 31}, replayed(Client)).

refused_slots_are_told(Store) ->
    Id = stand_in:process(Store, #{}),
    compute_all(Store, Id, 0, 3),
    stand_in:forge(Store, Id, 1, #{<<"at-slot">> => <<"9">>}),
    Client = replay(Id, 0),
    followed:results(Client, [0]),
    ?assertMatch(
        #{<<"type">> := <<"gap">>, <<"reason">> := <<"withheld">>, <<"from_slot">> := 1, <<"to_slot">> := 1},
        ws_client:recv_json(Client)
    ),
    ?assertEqual({[2, 3], 4}, replayed(Client)).

at_the_limit_of_max_replay_slots(Store) ->
    ok = dev_websocket:start(#{max_replay_slots => 5}),
    Id = stand_in:process(Store, #{}),
    compute_all(Store, Id, 0, 9),
    [?assertEqual({lists:seq(First, 9), 10}, replayed(replay(Id, First))) || First <- [6, 5]],
    Client = replay(Id, 4),
    ?assertMatch(
        #{<<"type">> := <<"gap">>, <<"reason">> := <<"not_replayed">>, <<"from_slot">> := 4, <<"to_slot">> := 4, <<"dropped">> := 1},
        ws_client:recv_json(Client)
    ),
    ?assertEqual({lists:seq(5, 9), 10}, replayed(Client)).

slots_with_thousands_of_messages_come_whole(Store) ->
    Id = stand_in:process(Store, #{}),
    Messages = maps:from_list([{integer_to_binary(N), #{<<"n">> => N}} || N <- lists:seq(1, 1000)]),
    _ = stand_in:compute(Store, Id, 0, #{<<"outbox">> => Messages}),
    Client = replay(Id, 0),
    Frames = followed:frames(Client, 1001),
    ?assertMatch(#{<<"data">> := #{<<"outbox-count">> := 1000}}, hd(Frames)),
    ?assertEqual(lists:seq(1, 1000), [N || #{<<"data">> := #{<<"n">> := N}} <- tl(Frames)]),
    ?assertEqual({[], 1}, replayed(Client)).

short_replays_do_not_wait_for_long_ones(Store) ->
    Long = stand_in:process(Store, #{}),
    compute_all(Store, Long, 0, 799),
    Short = stand_in:process(Store, #{}),
    compute_all(Store, Short, 0, 3),
    Clients = [replay(Long, 0) || _ <- lists:seq(1, 16)],
    ?assertMatch(#{<<"slot">> := 0}, ws_client:recv_json(hd(Clients))),
    Quick = replay(Short, 0),
    ?assertEqual({[0, 1, 2, 3], 4}, replayed(Quick)),
    %% The long ones are under way, all of them.
    ?assert(followed:count(<<"slot_replays">>) > 0),
    [?assertEqual({lists:seq(1, 799), 800}, replayed(Client)) || Client <- [hd(Clients)]],
    [?assertEqual({lists:seq(0, 799), 800}, replayed(Client)) || Client <- tl(Clients)].

crashes_of_the_server_repeat_and_lose_nothing(Store) ->
    Id = stand_in:process(Store, #{}),
    compute_all(Store, Id, 0, 299),
    Client = replay(Id, 0),
    lists:foreach(
        fun(Slot) ->
            followed:results(Client, [Slot]),
            Slot rem 40 =:= 7 andalso kill(hb_websocket_replays)
        end,
        lists:seq(0, 199)
    ),
    ?assertEqual({lists:seq(200, 299), 300}, replayed(Client)),
    compute_all(Store, Id, 300, 301),
    followed:results(Client, [300, 301]).

crashes_of_readers_repeat_and_lose_nothing(Store) ->
    Id = stand_in:process(Store, #{}),
    compute_all(Store, Id, 0, 40),
    Servers = [followed:tails(), whereis(hb_websocket_replays)],
    Asked = counters:new(1, []),
    %% Every hundredth call of the store kills the reader that made it.
    stand_in:fault(Store, fun() ->
        ok = counters:add(Asked, 1, 1),
        counters:get(Asked, 1) rem 100 =:= 0 andalso not lists:member(self(), Servers) andalso exit(kill)
    end),
    Client = replay(Id, 0),
    ?assertEqual({lists:seq(0, 40), 41}, replayed(Client)),
    ?assert(counters:get(Asked, 1) > 100).

a_crash_of_the_tails_delays_a_replay(Store) ->
    Id = stand_in:process(Store, #{}),
    compute_all(Store, Id, 0, 9),
    ok = sys:suspend(followed:tails()),
    Client = replay(Id, 0),
    kill(hb_websocket_tails),
    ?assertEqual({lists:seq(0, 9), 10}, replayed(Client)).

a_restarted_engine_replays_for_clients_that_return(Store) ->
    Id = stand_in:process(Store, #{}),
    compute_all(Store, Id, 0, 4),
    Client = replay(Id, 3),
    ?assertEqual({[3, 4], 5}, replayed(Client)),
    ok = dev_websocket:stop(),
    compute_all(Store, Id, 5, 7),
    ok = dev_websocket:start(#{tail_interval => 20}),
    Again = replay(Id, 5),
    Came = replayed_and_live(Again, 7),
    ?assertEqual([5, 6, 7], Came).

events_replay_and_resume_within_a_slot(Store) ->
    Id = stand_in:process(Store, #{}),
    [stand_in:compute(Store, Id, Slot, #{<<"outbox">> => #{<<"1">> => #{<<"n">> => Slot}}}) || Slot <- [0, 1, 2]],
    Stream = events(Id, 1, []),
    {#{<<"type">> := <<"connection_established">>}, _} = event(Stream),
    {#{<<"slot">> := 1, <<"replayed">> := true}, Cursor} = event(Stream),
    Size = byte_size(Cursor) - 4,
    ?assertMatch(<<_:Size/binary, ":1.1">>, Cursor),
    gen_tcp:close(Stream),
    Again = events(Id, 1, [{"Last-Event-ID", Cursor}]),
    Frames = [element(1, event(Again)) || _ <- lists:seq(1, 6)],
    ?assertMatch(
        [
            #{<<"type">> := <<"connection_established">>}, #{<<"type">> := <<"live">>},
            #{<<"slot">> := 1, <<"data">> := #{<<"n">> := 1}},
            #{<<"slot">> := 2, <<"data">> := #{<<"type">> := <<"result">>}}, #{<<"slot">> := 2, <<"data">> := #{<<"n">> := 2}},
            #{<<"type">> := <<"live">>, <<"slot">> := 3}
        ],
        Frames
    ).

an_unknown_process_is_told(Store) ->
    Unknown = stand_in:id(),
    Client = replay(Unknown, 4),
    ?assertMatch(#{<<"type">> := <<"error">>, <<"code">> := <<"unknown_process">>}, ws_client:recv_json(Client)),
    ?assertEqual({[], 4}, replayed(Client)),
    %% Without a node, and with a node that stores nothing on its machine.
    true = is_map(Store).

a_process_beyond_max_tails_is_told(Store) ->
    ok = dev_websocket:start(#{max_tails => 1}),
    [First, Second] = [stand_in:process(Store, #{}) || _ <- [1, 2]],
    [compute_all(Store, Id, 0, 3) || Id <- [First, Second]],
    ?assertEqual({[2, 3], 4}, replayed(replay(First, 2))),
    Client = replay(Second, 2),
    Frames = followed:frames(Client, 2),
    ?assertMatch(
        [#{<<"code">> := <<"too_many_processes">>}],
        [Frame || #{<<"type">> := <<"error">>} = Frame <- Frames]
    ).

a_store_that_fails_ends_a_replay(Store) ->
    Id = stand_in:process(Store, #{}),
    Follower = fresh_server:client(["process=", Id]),
    compute_all(Store, Id, 0, 5),
    followed:results(Follower, lists:seq(0, 5)),
    Server = followed:tails(),
    Before = whereis(hb_websocket_replays),
    stand_in:fault(Store, fun() -> not lists:member(self(), [Server, Before]) andalso error(broken) end),
    Client = replay(Id, 2),
    ?assertMatch([#{<<"reason">> := <<"not_cached">>, <<"from_slot">> := 2}, #{<<"from_slot">> := 3}], long(fun() -> followed:frames(Client, 2) end)),
    ?assertMatch(#{<<"code">> := <<"replay_failed">>}, long(fun() -> ws_client:recv_json(Client) end)),
    ?assertMatch(#{<<"reason">> := <<"not_replayed">>, <<"from_slot">> := 4, <<"to_slot">> := 5}, ws_client:recv_json(Client)),
    stand_in:no_fault(Store),
    ?assertEqual({[], 6}, replayed(Client)).

%% Requests that no one reads, and requests beyond the limit.
thousands_of_requests_delay_no_live_slot(Store) ->
    ok = dev_websocket:start(#{max_slot_replays => 16, send_buffer_bytes => 65_536}),
    Id = stand_in:process(Store, #{}),
    compute_all(Store, Id, 0, 199),
    Follower = fresh_server:client(["process=", Id]),
    {ok, #{uri := Uri}} = dev_websocket:info(),
    Answers = [ws_client:connect(Uri, ["process=", Id, "&from-slot=0"]) || _ <- lists:seq(1, 1000)],
    Admitted = [Client || {ok, Client} <- Answers],
    ?assert(length(Admitted) >= 16),
    ?assertEqual([503], lists:usort([Status || {error, {http, Status, _, _}} <- Answers])),
    ?assert(followed:count(<<"slot_replays">>) =< 16),
    compute_all(Store, Id, 200, 204),
    followed:results(Follower, lists:seq(200, 204)),
    [gen_tcp:close(Client) || Client <- Admitted],
    followed:until(fun() -> followed:count(<<"slot_replays">>) =:= 0 end),
    ?assertEqual({[203, 204], 205}, replayed(replay(Id, 203))),
    %% Nothing is left of those that ended.
    followed:until(fun() -> maps:get(replays, sys:get_state(hb_websocket_replays)) =:= #{} end).

%%% Without a node.

a_replay_that_waits_for_its_tail_is_answered_in_time_test() ->
    Id = stand_in:id(),
    Waiting = fun(Since) -> dev_websocket_replays:wait({self(), 7}, Id, #{}, Since) end,
    Tail = dev_websocket_tail:new(Id, unknown, 0),
    Answer = fun(Tails, Cache, Source, Now) ->
        case dev_websocket_replays:answer(Waiting(0), Tails, Cache, Source, Now) of
            Empty when map_size(Empty) =:= 0 -> receive {followed, 7, Answer} -> Answer end;
            Left -> ?assertEqual(Waiting(0), Left), wait
        end
    end,
    ?assertEqual(wait, Answer(#{}, none, no_node, 1_000)),
    ?assertEqual({error, no_node}, Answer(#{}, none, no_node, 1_001)),
    ?assertEqual({error, no_local_store}, Answer(#{}, none, no_local_store, 0)),
    ?assertEqual({error, no_node}, Answer(#{}, #{}, off, 0)),
    %% Its interest is not read yet, or its first slot cannot be set.
    [?assertEqual(wait, Answer(Tails, #{}, cache, 15_000)) || Tails <- [#{}, #{Id => Tail}]],
    [?assertEqual({error, unreadable}, Answer(Tails, #{}, cache, 15_001)) || Tails <- [#{}, #{Id => Tail}]],
    ?assertEqual({error, limit}, Answer(#{Id => dev_websocket_tail:postpone(Tail, 9)}, #{}, cache, 0)),
    ?assertEqual({ok, #{}}, Answer(#{Id => dev_websocket_tail:new(Id, 0, 0)}, #{}, cache, 0)),
    %% Asking again does not begin the time anew.
    ?assertEqual(Waiting(3), dev_websocket_replays:wait({self(), 7}, Id, Waiting(3), 9)).

no_node_test_() ->
    {setup,
        fun() ->
            fresh_server:start(#{}),
            followed:restart_tails()
        end,
        fun(_) -> dev_websocket:stop() end,
        {timeout, 300, fun() ->
            _ = persistent_term:erase({hb_websocket_nif, node_settings}),
            Client = replay(stand_in:id(), 2),
            ?assertMatch(#{<<"type">> := <<"error">>, <<"code">> := <<"no_cache">>}, ws_client:recv_json(Client)),
            ?assertEqual({[], 2}, replayed(Client)),
            stand_in:with((stand_in:options(stand_in:empty()))#{store => []}, fun() ->
                Other = replay(stand_in:id(), 2),
                ?assertMatch(#{<<"type">> := <<"error">>, <<"code">> := <<"no_cache">>}, ws_client:recv_json(Other))
            end)
        end}}.

%%% Helpers.

replay(Id, Slot) ->
    fresh_server:client(["process=", Id, "&from-slot=", integer_to_list(Slot)]).

%% @doc The slots of replayed results, and the first one that comes live.
replayed(Client) -> replayed(Client, []).

replayed(Client, Slots) ->
    case ws_client:recv_json(Client) of
        #{<<"type">> := <<"live">>, <<"slot">> := Live} -> {lists:reverse(Slots), Live};
        #{<<"replayed">> := true, <<"slot">> := Slot} -> replayed(Client, [Slot | Slots])
    end.

replayed_and_live(Client, Last) ->
    case ws_client:recv_json(Client) of
        #{<<"slot">> := Last, <<"type">> := <<"message">>} -> [Last];
        #{<<"slot">> := Slot, <<"type">> := <<"message">>} -> [Slot | replayed_and_live(Client, Last)];
        #{<<"type">> := <<"live">>} -> replayed_and_live(Client, Last)
    end.

compute_all(Store, Id, From, To) ->
    [stand_in:compute(Store, Id, Slot, #{<<"output">> => #{<<"n">> => Slot}}) || Slot <- lists:seq(From, To)],
    dev_websocket:hint(Id).

%% @doc A call that may wait longer than a frame is waited for.
long(Call) ->
    try Call()
    catch error:{no_text_frame, timeout} -> long(Call)
    end.

kill(Name) ->
    Server = whereis(Name),
    Monitor = monitor(process, Server),
    true = exit(Server, kill),
    receive {'DOWN', Monitor, process, Server, _} -> ok end,
    followed:until(fun() -> is_pid(whereis(Name)) end).

events(Id, Slot, Headers) ->
    {ok, #{uri := Uri}} = dev_websocket:info(),
    #{port := Port} = uri_string:parse(unicode:characters_to_list(Uri)),
    Target = ["/events?process=", Id, "&from-slot=", integer_to_list(Slot)],
    {ok, Socket, 200, _, Rest} = ws_client:request({"localhost", Port}, Target, Headers),
    put({?MODULE, Socket}, Rest),
    Socket.

%% @doc The next event, and its id.
event(Socket) ->
    case binary:split(get({?MODULE, Socket}), <<"\n\n">>) of
        [Event, Rest] ->
            put({?MODULE, Socket}, Rest),
            [<<"data: ", Data/binary>> | Id] = binary:split(Event, <<"\nid: ">>),
            {json_reader:decode(Data), iolist_to_binary(Id)};
        [Part] ->
            {ok, Bytes} = gen_tcp:recv(Socket, 0, 10_000),
            put({?MODULE, Socket}, <<Part/binary, Bytes/binary>>),
            event(Socket)
    end.
