%%% @doc Processes that the node computes for their subscribers: which, when, and at what
%%% cost.
-module(follow_tests).
-include_lib("eunit/include/eunit.hrl").

follow_test_() ->
    followed:cases(?MODULE, [
        a_subscriber_gets_scheduled_messages_without_any_request,
        slots_of_other_processes_are_not_computed,
        the_setting_all_computes_any_subscribed_process,
        cached_computes_nothing_and_off_publishes_nothing,
        nothing_is_computed_without_a_subscriber,
        nobody_is_computed_beside_another,
        process_workers_join_at_once,
        a_failure_is_tried_again_and_hurts_no_other_process,
        a_computation_without_end_is_ended,
        a_share_of_the_time_is_kept,
        a_backlog_is_computed_in_batches_once,
        crashes_lose_and_repeat_nothing
    ]).

-compile([export_all, nowarn_export_all]).

a_subscriber_gets_scheduled_messages_without_any_request(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = followed_by_compute(Id),
    schedule(Store, Id, 0, 2),
    followed:results(Client, [0, 1, 2]),
    schedule(Store, Id, 3, 3),
    followed:results(Client, [3]),
    followed:nothing_comes(Client),
    ?assertEqual([], [Slot || {_, Slot} <- stand_in_ao(computations, []), Slot > 3]).

slots_of_other_processes_are_not_computed(Store) ->
    [Id, Other] = [stand_in:process(Store, #{}) || _ <- [1, 2]],
    Client = followed_by_compute(Id),
    OtherClient = fresh_server:client("process=" ++ binary_to_list(Other)),
    schedule(Store, Other, 0, 0),
    schedule(Store, Id, 0, 0),
    followed:results(Client, [0]),
    followed:nothing_comes(OtherClient),
    ?assertEqual([{Id, 0}], stand_in_ao(computations, [])).

the_setting_all_computes_any_subscribed_process(Store) ->
    ok = dev_websocket:start(#{follow => compute, follow_processes => <<"all">>}),
    Ids = [stand_in:process(Store, #{}) || _ <- lists:seq(1, 5)],
    Clients = [fresh_server:client("process=" ++ binary_to_list(Id)) || Id <- Ids],
    [schedule(Store, Id, 0, 1) || Id <- Ids],
    [followed:results(Client, [0, 1]) || Client <- Clients].

cached_computes_nothing_and_off_publishes_nothing(Store) ->
    Id = stand_in:process(Store, #{}),
    ok = dev_websocket:start(#{follow => cached, follow_processes => [Id]}),
    Client = fresh_server:client("process=" ++ binary_to_list(Id)),
    schedule(Store, Id, 0, 0),
    probed(Id),
    ?assertEqual([], stand_in_ao(computations, [])),
    %% Slots of other requests are published.
    _ = stand_in:compute(Store, Id, 0, #{}),
    followed:results(Client, [0]),
    ok = dev_websocket:start(#{follow => off}),
    _ = stand_in:compute(Store, Id, 1, #{}),
    followed:until(fun() ->
        #{until := Until} = sys:get_state(followed:tails()),
        not lists:member(always, maps:values(Until))
    end),
    ?assertEqual(<<"off">>, maps:get(<<"results">>, info_of_http())).

nothing_is_computed_without_a_subscriber(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = followed_by_compute(Id),
    schedule(Store, Id, 0, 0),
    followed:results(Client, [0]),
    ok = ws_client:close(Client),
    followed:until(fun() -> #{processes := Left} = follow_state(), Left =:= #{} end),
    schedule(Store, Id, 1, 1),
    probed(Id),
    ?assertEqual([{Id, 0}], stand_in_ao(computations, [])).

%% Somebody else computes slot after slot. A slot of this process is said to take long, so
%% the quiet time does not end on a slow machine.
nobody_is_computed_beside_another(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = followed_by_compute(Id),
    slot_time(Id, 1_000_000),
    schedule(Store, Id, 0, 60),
    [
        begin
            _ = stand_in:compute(Store, Id, Slot, #{}),
            followed:results(Client, [Slot])
        end
     ||
        Slot <- lists:seq(0, 59)
    ],
    probed(Id),
    ?assertEqual([], stand_in_ao(computations, [])),
    %% The last one is left to this server.
    slot_time(Id, 1),
    followed:results(Client, [60]),
    ?assertEqual([{Id, 60}], stand_in_ao(computations, [])).

slot_time(Id, Time) ->
    sys:replace_state(hb_websocket_follow, fun(#{processes := Processes} = State) ->
        #{Id := Process} = Processes,
        State#{processes := Processes#{Id := Process#{slot_time := Time}}}
    end).

process_workers_join_at_once(Store) ->
    Options = (stand_in:options(Store))#{process_workers => true},
    Id = stand_in:process(Store, #{}),
    Client = followed_by_compute(Id),
    ok = dev_websocket_follow:use_options(Options),
    #{processes := #{Id := #{since := Since}}} = follow_state(),
    schedule(Store, Id, 0, 0),
    followed:results(Client, [0]),
    #{processes := #{Id := #{slot_time := Time}}} = follow_state(),
    ?assert(is_integer(Since) andalso is_integer(Time)).

a_failure_is_tried_again_and_hurts_no_other_process(Store) ->
    [Bad, _Good] = Ids = [stand_in:process(Store, #{}) || _ <- [1, 2]],
    ok = dev_websocket:start(#{follow => compute, follow_processes => Ids}),
    [BadClient, GoodClient] = [fresh_server:client("process=" ++ binary_to_list(Id)) || Id <- Ids],
    Test = self(),
    stand_in_ao(before_slot, [fun(Id, _) -> Id =:= Bad andalso begin Test ! tried, error(broken) end end]),
    [schedule(Store, Id, 0, 3) || Id <- Ids],
    followed:results(GoodClient, [0, 1, 2, 3]),
    receive tried -> ok end,
    followed:until(fun() -> #{processes := #{Bad := #{failures := Failures}}} = follow_state(), Failures > 0 end),
    #{processes := #{Bad := #{not_before := NotBefore}}} = follow_state(),
    ?assert(NotBefore > erlang:monotonic_time(millisecond) - 1_000),
    ?assert(followed:count(<<"follow_failures">>) > 0),
    followed:nothing_comes(BadClient),
    stand_in_ao(before_slot, [fun(_, _) -> ok end]),
    followed:results(BadClient, [0, 1, 2, 3]),
    #{processes := #{Bad := #{failures := Left}}} = follow_state(),
    ?assertEqual(0, Left).

%% The deadline is put forward, as a minute is long.
a_computation_without_end_is_ended(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = followed_by_compute(Id),
    Test = self(),
    stand_in_ao(before_slot, [fun(_, _) -> Test ! {computes, self()}, receive never -> ok end end]),
    schedule(Store, Id, 0, 0),
    Worker = receive {computes, Pid} -> Pid end,
    Monitor = monitor(process, Worker),
    stand_in_ao(before_slot, [fun(_, _) -> ok end]),
    _ = sys:replace_state(hb_websocket_follow, fun(#{workers := Workers} = State) ->
        #{Worker := #{deadline := Deadline}} = Workers,
        ?assert(Deadline > erlang:monotonic_time(millisecond) + 50_000),
        State#{workers := maps:map(fun(_, Running) -> Running#{deadline := erlang:monotonic_time(millisecond)} end, Workers)}
    end),
    receive {'DOWN', Monitor, process, Worker, Reason} -> ?assertEqual(killed, Reason) end,
    followed:results(Client, [0]).

a_share_of_the_time_is_kept(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = followed_by_compute(Id),
    schedule(Store, Id, 0, 0),
    followed:results(Client, [0]),
    %% As after a long time of computing: nothing is saved.
    _ = sys:replace_state(hb_websocket_follow, fun(#{processes := Processes} = State) ->
        #{Id := Process} = Processes,
        State#{processes := Processes#{Id := Process#{saved := {-1_000_000, erlang:monotonic_time(millisecond)}}}}
    end),
    schedule(Store, Id, 1, 1),
    followed:until(fun() -> #{processes := #{Id := #{is_due := IsDue}}} = follow_state(), IsDue end),
    followed:nothing_comes(Client),
    ?assertEqual([{Id, 0}], stand_in_ao(computations, [])).

a_backlog_is_computed_in_batches_once(Store) ->
    Id = stand_in:process(Store, #{}),
    schedule(Store, Id, 0, 400),
    Test = self(),
    Client = followed_by_compute(Id),
    stand_in_ao(before_slot, [fun(_, Slot) -> Test ! {slot, Slot} end]),
    followed:results(Client, lists:seq(0, 400)),
    ?assertEqual(lists:seq(0, 400), [Slot || _ <- lists:seq(0, 400), Slot <- [receive {slot, Next} -> Next end]]),
    Batches = length(stand_in_ao(computations, [])),
    ?assert(Batches < 50, Batches).

crashes_lose_and_repeat_nothing(Store) ->
    Id = stand_in:process(Store, #{}),
    Client = followed_by_compute(Id),
    Test = self(),
    stand_in_ao(before_slot, [fun(_, Slot) -> Test ! {slot, Slot} end]),
    [
        begin
            schedule(Store, Id, Slot, Slot),
            _ = Slot rem 2 =:= 0 andalso kill(hb_websocket_follow),
            followed:results(Client, [Slot])
        end
     ||
        Slot <- lists:seq(0, 5)
    ],
    ?assertEqual(lists:seq(0, 5), [Slot || _ <- lists:seq(0, 5), Slot <- [receive {slot, Next} -> Next end]]).

%%% Helpers.

%% @doc A client of a process that the node computes, once the process is followed.
followed_by_compute(Id) ->
    ok = dev_websocket:start(#{follow => compute, follow_processes => [Id]}),
    Client = fresh_server:client("process=" ++ binary_to_list(Id)),
    followed:until(fun() ->
        #{processes := Processes} = follow_state(),
        #{tails := Tails} = sys:get_state(followed:tails()),
        is_map_key(Id, Processes) andalso dev_websocket_tail:next(maps:get(Id, Tails)) =/= unknown
    end),
    Client.

schedule(Store, Id, From, To) ->
    [_ = stand_in:schedule(Store, Id, Slot, #{}) || Slot <- lists:seq(From, To)],
    ok.

%% @doc The server has looked at the process after this call, if it ever does.
probed(Id) ->
    ok = dev_websocket_follow:hint(Id),
    _ = follow_state(),
    ok.

follow_state() -> sys:get_state(hb_websocket_follow).

%% @doc The copy that is loaded as `hb_ao'.
stand_in_ao(Function, Arguments) -> apply(stand_in_ao, Function, Arguments).

info_of_http() ->
    {ok, #{<<"body">> := Body}} = dev_websocket:info(#{}, #{}, #{}),
    json_reader:decode(Body).

kill(Name) ->
    Pid = whereis(Name),
    Monitor = monitor(process, Pid),
    true = exit(Pid, kill),
    receive {'DOWN', Monitor, process, Pid, _} -> ok end,
    followed:until(fun() -> is_pid(whereis(Name)) end).
