%%% @doc The cost of followed processes: the tails that are probed in a pass.
-module(tail_tests).
-include_lib("eunit/include/eunit.hrl").

quiet_tails_are_probed_once_a_second_test() ->
    Quiet = quiet(lists:seq(1, 100)),
    Awake = maps:from_list([{id(N), tail(N)} || N <- lists:seq(201, 250)]),
    Dormant = maps:from_list([{id(N), dev_websocket_tail:new(id(N), 0, 0)} || N <- lists:seq(251, 260)]),
    Tails = maps:merge(Quiet, maps:merge(Awake, Dormant)),
    [
        begin
            Passes = [dev_websocket_tail:due(Tails, Number, Interval) || Number <- lists:seq(7, 6 + PassesASecond)],
            Probed = lists:append([Due || {Due, _} <- Passes]),
            Times = fun(Ids) -> lists:usort([length([P || P <- Probed, P =:= Id]) || Id <- maps:keys(Ids)]) end,
            ?assertEqual({Interval, [1]}, {Interval, Times(Quiet)}),
            ?assertEqual([PassesASecond], Times(Awake)),
            ?assertEqual([0], Times(Dormant)),
            [?assertEqual(lists:sort(maps:keys(Dormant)), lists:sort(Ids)) || {_, Ids} <- Passes]
        end
     ||
        {Interval, PassesASecond} <- [{20, 50}, {250, 4}, {400, 2}, {1000, 1}, {60_000, 1}]
    ].

%% The parts are about equal, so that no pass has them all.
quiet_tails_are_spread_over_the_passes_test() ->
    Tails = quiet(lists:seq(1, 1000)),
    Passes = [Due || Number <- lists:seq(3, 42), {Due, []} <- [dev_websocket_tail:due(Tails, Number, 250)]],
    [?assert(length(Due) < 50) || Due <- Passes],
    %% 1,000 are probed once in ten seconds, so 100 in a second.
    ?assertEqual(lists:sort(maps:keys(Tails)), lists:sort(lists:append(Passes))).

id(N) -> list_to_binary(io_lib:format("~43..Ab", [N])).

tail(N) -> dev_websocket_tail:new(id(N), 5, 0).

%% As after searches that found nothing for 15 seconds.
quiet(Numbers) ->
    Options = stand_in:options(stand_in:empty()),
    stand_in:with(Options, fun() ->
        {ok, Cache} = dev_websocket_cache:open(Options),
        maps:from_list([{id(N), quiet(tail(N), Cache)} || N <- Numbers])
    end).

quiet(Tail, Cache) ->
    lists:foldl(
        fun(Now, Before) ->
            {none, Probed} = dev_websocket_tail:probe(Before, Cache, Now),
            Probed
        end,
        Tail,
        lists:seq(0, 15_000, 5_000)
    ).
