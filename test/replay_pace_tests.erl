%%% @doc The pace of slot replays: first in the VM, beside others who use its files, and then with
%%% a clock of its own. The world of that clock is a file server that does
%%% one piece of work after the other, 200 reductions of it in a millisecond, for a node and
%%% for readers. Work takes as many times as long as there are others who want some.
-module(replay_pace_tests).
-include_lib("eunit/include/eunit.hrl").

server_test_() ->
    followed:cases(?MODULE, [one_reader_works_beside_others_who_use_the_files]).

-compile([export_all, nowarn_export_all]).

-define(READERS, 8).
-define(REDUCTIONS, 200).
%% Milliseconds of the file server for one turn.
-define(TURN, 10).
-define(MINUTE, 60_000).

a_node_that_computes_keeps_its_pace_test() ->
    #{node := Done, turns := Turns} = minute(fun(_) -> true end),
    %% At most 1.3 times as long as alone.
    ?assert(Done * 13 >= ?MINUTE * 10),
    %% Replays go on as well.
    ?assert(Turns * ?TURN * 100 >= ?MINUTE * 15).

the_test_of_a_node_can_fail_test() ->
    #{node := Done} = run(?MINUTE, fun(_) -> true end, fun(_, _, _, Pace) -> {start, Pace} end),
    ?assert(Done * 7 < ?MINUTE).

readers_use_the_time_of_an_idle_node_test() ->
    #{turns := Turns} = minute(fun(_) -> false end),
    ?assert(Turns * ?TURN * 100 >= ?MINUTE * 80).

a_node_that_uses_its_files_by_fits_and_starts_keeps_its_pace_test() ->
    %% A slot of 400 ms: 100 ms of files, 100 ms without any, and so on.
    Wants = fun(Time) -> Time rem 200 < 100 end,
    #{node := Done} = minute(Wants),
    ?assert(Done * 13 >= ?MINUTE div 2 * 10).

readers_are_quick_again_when_the_node_has_ended_test() ->
    Wants = fun(Time) -> Time < ?MINUTE div 2 end,
    #{turns := Turns} = minute(Wants),
    ?assert(Turns * ?TURN * 100 >= ?MINUTE div 2 * (80 + 10)).

probes_of_the_cache_are_no_use_test() ->
    %% A probe of 4 ms in each 100.
    Wants = fun(Time) -> Time rem 100 < 4 end,
    #{turns := Turns} = minute(Wants),
    ?assert(Turns * ?TURN * 100 >= ?MINUTE * 50).

a_store_without_files_needs_no_rest_test() ->
    Pace = dev_websocket_replay_pace:new(),
    {start, Begun} = dev_websocket_replay_pace:next(0, 0, fun() -> 0 end, Pace),
    %% Readers rest shortly to look, and go on.
    {wait, Time, Resting} = dev_websocket_replay_pace:next(300, 0, fun() -> 0 end, Begun),
    ?assert(Time =< 20),
    ?assertMatch({start, _}, dev_websocket_replay_pace:next(300 + Time, 0, fun() -> 0 end, Resting)).

a_turn_that_hangs_costs_the_next_ones_seconds_at_most_test() ->
    Busy = busy(),
    Ended = dev_websocket_replay_pace:ended(100_000, 60_000, Busy),
    %% The node never stops.
    Rest = rest(100_000, Ended),
    ?assert(Rest =< 7_500),
    ?assert(Rest >= 5_000).

turns_of_no_time_are_looked_at_too_test() ->
    Ended = dev_websocket_replay_pace:ended(100_000, 0, busy()),
    ?assert(rest(100_000, Ended) >= 5).

the_work_of_the_file_server_is_counted_test() ->
    Before = dev_websocket_replay_pace:work(),
    [file:read_file_info("/") || _ <- lists:seq(1, 1000)],
    Count = dev_websocket_replay_pace:work() - Before,
    %% A thousand accesses in a second are use.
    ?assert(Count >= 1000 * 20).

%%% In the VM.

one_reader_works_beside_others_who_use_the_files(Store) ->
    Id = stand_in:process(Store, #{}),
    Slots = lists:seq(0, 59),
    [stand_in:compute(Store, Id, Slot, #{<<"output">> => #{<<"n">> => Slot}}) || Slot <- Slots],
    Test = self(),
    Seen = counters:new(2, []),
    Servers = [whereis(hb_websocket_tails), whereis(hb_websocket_replays)],
    Others = spawn_link(fun use_files/0),
    stand_in:fault(Store, fun() ->
        _ = lists:member(self(), Servers) orelse Test =:= self() orelse looked_at(Seen)
    end),
    %% Each client begins anew, until others were seen and the readers were looked at beside them.
    followed:until(fun() ->
        Clients = [fresh_server:client(["process=", Id, "&from-slot=0"]) || _ <- lists:seq(1, 8)],
        [followed:results(Client, Slots) || Client <- Clients],
        [gen_tcp:close(Client) || Client <- Clients],
        counters:get(Seen, 1) > 50
    end),
    stand_in:no_fault(Store),
    unlink(Others),
    exit(Others, kill),
    ?assertEqual(0, counters:get(Seen, 2)).

use_files() ->
    _ = file:read_file_info("/"),
    use_files().

%% @doc Count a look beside others, and one that finds readers at once. A reader that takes a
%% second lets another one begin, so readers began a second apart.
looked_at(Seen) ->
    case sys:get_state(hb_websocket_replays) of
        #{pace := #{others := none}} -> ok;
        #{readers := Readers} ->
            Begun = lists:sort([Since || {_, Since} <- maps:values(Readers)]),
            counters:add(Seen, 1, 1),
            [counters:add(Seen, 2, 1) || {One, Next} <- lists:zip(lists:droplast([none | Begun]), Begun), is_integer(One), Next - One < 1_000]
    end.

%%% The world.

minute(Wants) -> run(?MINUTE, Wants, fun dev_websocket_replay_pace:next/4).

run(Time, Wants, Next) ->
    World = #{
        time => 0, work => 0, node => 0, turns => 0, wait => 0,
        %% Milliseconds of the file server that each reader has used, and when it began.
        readers => [], pace => dev_websocket_replay_pace:new()
    },
    lists:foldl(fun(Now, Acc) -> step(Wants, begun(Next, Acc#{time := Now})) end, World, lists:seq(1, Time)).

begun(Next, #{time := Now, wait := Wait, readers := Readers, work := Work, pace := Pace} = World) when
    length(Readers) < ?READERS, Now >= Wait
->
    case Next(Now, length(Readers), fun() -> trunc(Work) end, Pace) of
        {start, After} -> begun(Next, World#{readers := [{0, Now} | Readers], pace := After});
        {wait, infinity, After} -> World#{pace := After};
        {wait, For, After} -> World#{pace := After, wait := Now + For}
    end;
begun(_Next, World) ->
    World.

%% A millisecond, of which each one who wants some gets its part.
step(Wants, #{time := Now, readers := Readers, node := Node, work := Work} = World) ->
    IsWanted = Wants(Now),
    Users = length(Readers) + case IsWanted of true -> 1; false -> 0 end,
    Part = 1 / max(1, Users),
    Served = World#{
        readers := [{Used + Part, Since} || {Used, Since} <- Readers],
        node := Node + case IsWanted of true -> Part; false -> 0 end,
        work := Work + min(1, Users) * ?REDUCTIONS
    },
    lists:foldl(fun ended/2, Served#{readers := []}, maps:get(readers, Served)).

ended({Used, Since}, #{time := Now, turns := Turns, pace := Pace} = World) when Used >= ?TURN ->
    World#{turns := Turns + 1, pace := dev_websocket_replay_pace:ended(Now, Now - Since, Pace), wait := 0};
ended(Reader, #{readers := Readers} = World) ->
    World#{readers := [Reader | Readers]}.

%% @doc The pace beside a node that has just been seen.
busy() ->
    #{pace := #{others := {_, _}} = Pace} = run(2_000, fun(_) -> true end, fun dev_websocket_replay_pace:next/4),
    Pace.

%% @doc How long readers rest while the node works on.
rest(From, Pace) -> rest(From, From, Pace).

rest(From, Now, Pace) ->
    case dev_websocket_replay_pace:next(Now, 0, fun() -> Now * ?REDUCTIONS end, Pace) of
        {start, _} -> Now - From;
        {wait, For, After} -> rest(From, Now + For, After)
    end.
